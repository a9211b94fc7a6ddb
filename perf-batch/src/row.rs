use std::cmp::Ordering;

use sqlx::error::BoxDynError;
use sqlx::{Database, Encode, Type};

use crate::Table;

/// A row that knows its table. `#[derive(BulkRow)]` implements it, and [`BulkValues`] with it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which table its rows go to",
    note = "derive it: `#[derive(perf_batch::BulkRow)] #[bulk(table = \"..\")]`",
    note = "or name the table with `BulkInsert::into_table`"
)]
pub trait BulkRow {
    /// The table and its columns.
    fn table() -> Table;
}

/// A row's values for the database `DB`, in the order of the table's columns.
///
/// The derive implements it for every `DB` that can encode all the fields. By hand, where the
/// columns are known only at run time or a value is computed:
///
/// ```
/// use perf_batch::{BulkValues, ValueSink};
/// use sqlx::error::BoxDynError;
/// use sqlx::{Database, Encode, Type};
///
/// struct Point { x: f64, y: f64 }
///
/// impl<DB: Database> BulkValues<DB> for Point
/// where
///     f64: for<'q> Encode<'q, DB> + Type<DB>,
/// {
///     fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
///         sink.push(self.x)?;
///         sink.push(self.y)?;
///         sink.push(self.x.hypot(self.y))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "rows of `{Self}` cannot be written to `{DB}`",
    note = "derive it, `#[derive(perf_batch::BulkRow)] #[bulk(table = \"..\")]`, with fields that `{DB}` can encode"
)]
pub trait BulkValues<DB: Database> {
    /// Pushes the values, one for each column of the table, always in the same order and of the
    /// same types.
    ///
    /// It may be called more than once for a row.
    ///
    /// # Errors
    ///
    /// An error refuses this row alone: it is the row's fault like a broken constraint.
    fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), BoxDynError>;

    /// How this row's key compares with another's; `None` where either has no key to compare:
    /// no key column, or a NULL in one, which conflicts with nothing. Defaults to `None`.
    ///
    /// It finds the duplicates that [`OnConflict::Update`](crate::OnConflict::Update) must merge,
    /// so rows that the database's unique constraint takes for equal should be equal here. For
    /// one row, `row.key_cmp(row)` says whether it has a key.
    fn key_cmp(&self, other: &Self) -> Option<Ordering> {
        let _ = other;
        None
    }
}

/// A row that can be found by its key. The derive implements it for a struct with `#[bulk(key)]`
/// fields, and [`BulkKeyValues`] with it.
pub trait BulkKey: BulkRow {
    /// The key's field, or a tuple of them in the order of the struct.
    type Key: Ord;

    /// Whether a field of the key holds a NULL: such a key finds no row, and is the same as no
    /// other. Defaults to `false`.
    fn has_null(key: &Self::Key) -> bool {
        let _ = key;
        false
    }
}

/// A key's values for the database `DB`, in the order of the key's columns.
pub trait BulkKeyValues<DB: Database>: BulkKey {
    /// Pushes the values, one for each column of the key.
    ///
    /// # Errors
    ///
    /// An error refuses this key alone.
    fn key_values<S: ValueSink<DB>>(key: &Self::Key, sink: &mut S) -> Result<(), BoxDynError>;
}

/// How many values the row gives; `None` where it cannot say.
pub(crate) fn count<DB: Database, R: BulkValues<DB>>(row: &R) -> Option<usize> {
    let mut count = Count(0);
    row.values(&mut count).ok().map(|()| count.0)
}

struct Count(usize);

impl<DB: Database> ValueSink<DB> for Count {
    fn push<'q, T>(&mut self, _value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, DB> + Type<DB>,
    {
        self.0 += 1;
        Ok(())
    }
}

/// Takes a row's values, one column after the other. The crate implements it, you call it.
pub trait ValueSink<DB: Database> {
    /// Adds the value of the next column.
    ///
    /// # Errors
    ///
    /// The value's own error, where it cannot be encoded; pass it on.
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, DB> + Type<DB>;
}
