use std::borrow::Cow;
use std::fmt;

use sqlx::{Decode, Type};

use crate::returned::Values;
use crate::source::{Source, Taken};
use crate::{BatchError, BatchReport, BulkDatabase, BulkInsert, BulkValues};

/// A [`BulkInsert`] whose rows return their values of one column, in the order of the input; by
/// [`BulkInsert::returning`].
///
/// Neither SQLite nor Postgres promises in which order RETURNING answers, so nothing here relies on
/// one. SQLite gets the rows one by one, in one transaction. Postgres gets many at a time: the column's
/// default is drawn before its row is written, or the rows are joined to what was written by their
/// key. Where neither can tell the rows apart for sure, they are written one by one, within the server.
///
/// What a row has at its position:
///
/// - inserted, or updated by [`OnConflict::Update`](crate::OnConflict::Update): the value of the
///   row in the table;
/// - left out because another row of the batch has its key
///   ([`Duplicates`](crate::Duplicates)): the value of the row that counts;
/// - there already with [`OnConflict::DoNothing`](crate::OnConflict::DoNothing), left out by a trigger,
///   or refused with [`OnRowError::Skip`](crate::OnRowError::Skip): `None`, as for a NULL.
#[must_use = "nothing is written until fetch_ids or execute"]
pub struct Returning<R> {
    insert: BulkInsert<R>,
    column: Cow<'static, str>,
}

impl<R> Returning<R> {
    pub(crate) fn new(insert: BulkInsert<R>, column: Cow<'static, str>) -> Self {
        Self { insert, column }
    }

    /// Writes the rows as [`BulkInsert::execute`] does, and returns their values, one for each row
    /// given.
    ///
    /// # Errors
    ///
    /// As for [`BulkInsert::execute`]; and [`BatchError::Database`], with nothing written, where the
    /// value cannot be read as a `T`.
    /// With [`BatchError::Partial`], the values of what is committed are lost.
    ///
    /// # Cancel safety
    ///
    /// As for [`BulkInsert::execute`].
    pub fn fetch_ids<'a, T, S, DB>(
        &self,
        source: S,
        rows: Vec<R>,
    ) -> impl Future<Output = Result<Vec<Option<T>>, BatchError>> + Send + use<'a, T, S, DB, R>
    where
        T: for<'r> Decode<'r, DB> + Type<DB> + Clone + Send + Sync,
        S: Source<'a, Database = DB>,
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let executed = self.execute(source, rows);
        async move { executed.await.map(|(_, values)| values) }
    }

    /// As [`fetch_ids`](Self::fetch_ids), with the report, which names the rows that were refused.
    ///
    /// # Errors
    ///
    /// As for [`fetch_ids`](Self::fetch_ids).
    ///
    /// # Cancel safety
    ///
    /// As for [`BulkInsert::execute`].
    pub fn execute<'a, T, S, DB>(
        &self,
        source: S,
        rows: Vec<R>,
    ) -> impl Future<Output = Result<(BatchReport<R>, Vec<Option<T>>), BatchError>>
    + Send
    + use<'a, T, S, DB, R>
    where
        T: for<'r> Decode<'r, DB> + Type<DB> + Clone + Send + Sync,
        S: Source<'a, Database = DB>,
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        // At the call, as for BulkInsert.
        self.insert.job.metrics();
        let (job, dead_letter) = (self.insert.job.clone(), self.insert.dead_letter.clone());
        let mut values = Values::<T>::new(&self.column, rows.len());
        let link = Box::new(Taken::new(source));
        async move {
            let executed = job.execute_returning(link, rows, dead_letter, &mut values);
            let report = executed.await?;
            Ok((report, values.into_values()))
        }
    }
}

impl<R> Clone for Returning<R> {
    fn clone(&self) -> Self {
        Self {
            insert: self.insert.clone(),
            column: self.column.clone(),
        }
    }
}

impl<R> fmt::Debug for Returning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returning")
            .field("insert", &self.insert)
            .field("column", &self.column)
            .finish()
    }
}
