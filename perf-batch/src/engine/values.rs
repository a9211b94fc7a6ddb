//! `INSERT .. VALUES (..), (..)` of many rows.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::{Arguments, Database, Encode, Type};

use super::EncodeError;
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::{BulkValues, ValueSink};

/// The statement's text for each number of rows, a power of two.
#[derive(Debug)]
pub(super) struct Values {
    head: String,
    tail: String,
    columns: usize,
    shape: Shape,
    texts: Vec<Option<Arc<str>>>,
}

impl Values {
    /// `binds`: how many the database takes in a statement; `rows`: the most worth sending.
    pub(super) fn new(
        head: String,
        tail: String,
        columns: usize,
        binds: usize,
        rows: usize,
    ) -> Result<Self, String> {
        let fit = binds / columns.max(1);
        if fit == 0 {
            return Err(format!(
                "its {columns} columns are more than the {binds} values that a statement can take"
            ));
        }
        let shape = Shape {
            max_rows: fit.min(rows),
            powers: true,
        };
        Ok(Self {
            head,
            tail,
            columns,
            shape,
            texts: Vec::new(),
        })
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// The text for `rows` rows; `placeholder` writes the one for a row and column.
    pub(super) fn sql(
        &mut self,
        rows: usize,
        mut placeholder: impl FnMut(&mut String, usize, usize),
    ) -> Arc<str> {
        let slot = rows.checked_ilog2().unwrap_or(0) as usize;
        if self.texts.len() <= slot {
            self.texts.resize(slot + 1, None);
        }
        if let Some(Some(text)) = self.texts.get(slot) {
            return Arc::clone(text);
        }
        let mut sql = String::with_capacity(self.head.len() + rows * self.columns * 8);
        sql.push_str(&self.head);
        sql.push_str("VALUES ");
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..self.columns {
                if column > 0 {
                    sql.push_str(", ");
                }
                placeholder(&mut sql, row, column);
            }
            sql.push(')');
        }
        sql.push_str(&self.tail);
        let text: Arc<str> = sql.into();
        if let Some(slot) = self.texts.get_mut(slot) {
            *slot = Some(Arc::clone(&text));
        }
        text
    }

    /// The rows' values, row by row.
    pub(super) fn arguments<DB: Database, R: BulkValues<DB>>(
        &self,
        rows: &[Indexed<'_, R>],
    ) -> Result<DB::Arguments, EncodeError> {
        let mut sink = Bound::<DB>::default();
        sink.0.reserve(rows.len() * self.columns, 0);
        for (offset, (_, row)) in rows.iter().enumerate() {
            row.values(&mut sink)
                .and_then(|()| expect(sink.0.len(), (offset + 1) * self.columns, self.columns))
                .map_err(|source| EncodeError { offset, source })?;
        }
        Ok(sink.0)
    }
}

/// Whether a row gave as many values as there are columns.
pub(super) fn expect(given: usize, wanted: usize, columns: usize) -> Result<(), BoxDynError> {
    if given == wanted {
        return Ok(());
    }
    let row = (given + columns).saturating_sub(wanted);
    Err(format!("the row gave {row} values for {columns} columns").into())
}

struct Bound<DB: Database>(DB::Arguments);

impl<DB: Database> Default for Bound<DB> {
    fn default() -> Self {
        Self(DB::Arguments::default())
    }
}

impl<DB: Database> ValueSink<DB> for Bound<DB> {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, DB> + Type<DB>,
    {
        self.0.add(value)
    }
}
