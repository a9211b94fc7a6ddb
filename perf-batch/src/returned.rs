//! Where the values go that the database returns.

use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Type, TypeInfo, ValueRef};

use crate::BulkDatabase;

/// Takes the values of one column, row by row.
///
/// A transaction that is tried again clears its rows first, so what is here in the end is what was
/// committed.
pub(crate) trait Returned<DB: BulkDatabase>: Send {
    /// The column whose values are wanted; `None` where none are.
    fn column(&self) -> Option<&str>;

    /// Forgets the value of the row at this position of the input.
    fn clear(&mut self, index: usize);

    /// Takes the value of the row at this position of the input out of what the database returned.
    fn put(&mut self, index: usize, row: &DB::Row, column: usize) -> sqlx::Result<()>;

    /// The first row of each pair is left out, the second stands for it.
    fn stand_in(&mut self, left_out: &[(usize, usize)]);
}

/// For a batch that wants nothing back.
impl<DB: BulkDatabase> Returned<DB> for () {
    fn column(&self) -> Option<&str> {
        None
    }

    fn clear(&mut self, _index: usize) {}

    fn put(&mut self, _index: usize, _row: &DB::Row, _column: usize) -> sqlx::Result<()> {
        Ok(())
    }

    fn stand_in(&mut self, _left_out: &[(usize, usize)]) {}
}

/// The values by the rows' positions in the input.
#[derive(Debug)]
pub(crate) struct Values<T> {
    column: String,
    values: Vec<Option<T>>,
    left_out: Vec<(usize, usize)>,
}

impl<T: Clone> Values<T> {
    /// For a batch of so many rows.
    pub(crate) fn new(column: &str, rows: usize) -> Self {
        let mut values = Vec::new();
        values.resize_with(rows, || None);
        Self {
            column: column.to_owned(),
            values,
            left_out: Vec::new(),
        }
    }

    /// The values, those of the rows that were left out among them.
    pub(crate) fn into_values(mut self) -> Vec<Option<T>> {
        // From the back: with the last of several rows, each stands for the one before it.
        for (row, of) in self.left_out.into_iter().rev() {
            let value = self.values.get(of).cloned().flatten();
            if let Some(slot) = self.values.get_mut(row) {
                *slot = value;
            }
        }
        self.values
    }
}

impl<DB, T> Returned<DB> for Values<T>
where
    DB: BulkDatabase,
    T: for<'r> Decode<'r, DB> + Type<DB> + Send,
{
    fn column(&self) -> Option<&str> {
        Some(&self.column)
    }

    fn clear(&mut self, index: usize) {
        if let Some(slot) = self.values.get_mut(index) {
            *slot = None;
        }
    }

    fn put(&mut self, index: usize, row: &DB::Row, column: usize) -> sqlx::Result<()> {
        let value = decode::<DB, T>(DB::value(row, column)?);
        let value = value.map_err(|source| sqlx::Error::ColumnDecode {
            index: format!("{:?}", self.column),
            source,
        })?;
        if let Some(slot) = self.values.get_mut(index) {
            *slot = value;
        }
        Ok(())
    }

    fn stand_in(&mut self, left_out: &[(usize, usize)]) {
        self.left_out.extend_from_slice(left_out);
    }
}

fn decode<'r, DB: Database, T>(value: DB::ValueRef<'r>) -> Result<Option<T>, BoxDynError>
where
    T: Decode<'r, DB> + Type<DB>,
{
    if value.is_null() {
        return Ok(None);
    }
    let ty = value.type_info();
    if !ty.is_null() && !T::compatible(&ty) {
        let wanted = T::type_info();
        let (is, wanted) = (ty.name(), wanted.name());
        return Err(format!("it is of type {is}, which cannot be read as {wanted}").into());
    }
    T::decode(value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_left_out_has_the_value_of_the_row_that_counts() {
        let mut last = Values::new("id", 4);
        last.values = vec![None, None, Some(3), Some(7)];
        last.left_out = vec![(0, 1), (1, 3)];
        assert_eq!(last.into_values(), [Some(7), Some(7), Some(3), Some(7)]);
        let mut first = Values::new("id", 3);
        first.values = vec![Some(1), None, None];
        first.left_out = vec![(1, 0), (2, 0)];
        assert_eq!(first.into_values(), [Some(1); 3]);
        let mut refused = Values::<i64>::new("id", 2);
        refused.left_out = vec![(0, 1)];
        assert_eq!(refused.into_values(), [None, None]);
    }
}
