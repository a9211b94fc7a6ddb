//! The settings and verbs that all the writes have, once.

/// The methods, for a type with the fields `job` and `dead_letter`.
macro_rules! setters {
    () => {
        /// The label `batch` of the metrics. Defaults to the table's name.
        pub fn name(mut self, name: &str) -> Self {
            self.job.name(name);
            self
        }

        /// What happens to the batch when one of its rows is refused. Defaults to
        /// [`OnRowError::Abort`](crate::OnRowError::Abort).
        pub fn on_row_error(mut self, on_row_error: crate::OnRowError) -> Self {
            self.job.on_row_error = on_row_error;
            self
        }

        /// With [`OnRowError::Skip`](crate::OnRowError::Skip), how many rows may be refused: one
        /// more, and the search for others stops, what is not committed yet is rolled back, and the
        /// error is [`BatchError::SkipLimit`]. Defaults to no limit.
        pub fn skip_limit(mut self, rows: usize) -> Self {
            self.job.skip_limit = Some(rows);
            self
        }

        /// How much of the batch one commit covers. Defaults to
        /// [`TxScope::All`](crate::TxScope::All).
        pub fn scope(mut self, scope: crate::TxScope) -> Self {
            self.job.scope = scope;
            self
        }

        /// Rows of a transaction with [`TxScope::PerChunk`](crate::TxScope::PerChunk). Defaults to
        /// 4,096, which Postgres gets in one statement; 0 counts as 1.
        pub fn chunk_rows(mut self, rows: usize) -> Self {
            self.job.chunk_rows = rows;
            self
        }

        /// Tries again what failed for a reason that passes, on a new connection where that is
        /// what it takes (from a pool; a single connection that is lost stays lost). Not inside a
        /// transaction of yours, which only you can begin again. Defaults to no retry.
        ///
        /// With it, a transaction on Postgres costs two more requests (its id, and a COMMIT of its own
        /// where one statement could have been the transaction); see [`Retry`](crate::Retry).
        pub fn retry(mut self, retry: crate::Retry) -> Self {
            self.job.retry = Some(retry);
            self
        }

        /// Writes a row with a new id into `table` in each transaction, so that the outcome of a
        /// COMMIT that was not answered can be told on any database, after a failover too. Defaults
        /// to none.
        ///
        /// The table has a column `id` of type text that is its primary key; delete old rows at
        /// will once they are older than your longest retry:
        ///
        /// ```sql
        /// CREATE TABLE batch_commits (id text PRIMARY KEY, at timestamptz DEFAULT now());
        /// ```
        pub fn commit_marker(mut self, table: &str) -> Self {
            self.job.marker = Some(table.into());
            self
        }

        /// Calls `progress` after each statement and each commit, on the task that writes: it must
        /// not block.
        pub fn on_progress(
            mut self,
            progress: impl Fn(crate::Progress) + Send + Sync + 'static,
        ) -> Self {
            self.job.progress = Some(std::sync::Arc::new(progress));
            self
        }

        /// Calls `letter` with the rows that were refused, after the commit of the others and never
        /// otherwise (with [`BatchError::Partial`], those of the chunks that are committed); not for a write inside a transaction of yours, whose commit is still to come.
        /// The report has the same rows.
        pub fn dead_letter(
            mut self,
            letter: impl Fn(&[RowFailure<R>]) + Send + Sync + 'static,
        ) -> Self {
            self.dead_letter = Some(std::sync::Arc::new(letter));
            self
        }

        /// Writes the rows in one transaction with one commit, or in several with
        /// [`TxScope::PerChunk`](crate::TxScope::PerChunk).
        ///
        /// `source` is whatever sqlx can take a connection from: `&SqlitePool`, `&PgPool`,
        /// `&mut PgConnection`, a reference to a pool type that implements [`sqlx::Acquire`]. On a
        /// connection that is inside a transaction of yours (`&mut tx`), the rows go into that, all
        /// or nothing under a savepoint, and are there once you commit. Begin it by sqlx, not by a
        /// `BEGIN` in SQL of your own: sqlx and this crate do not see that.
        ///
        /// An empty batch returns at once, without a connection.
        ///
        /// # Errors
        ///
        /// A [`BatchError`], each of whose variants says what it leaves behind; nothing is written
        /// unless it is [`BatchError::CommitUnknown`] or [`BatchError::Partial`].
        ///
        /// # Cancel safety
        ///
        /// Dropping the future rolls the transaction back, and the connection stays usable. Dropped
        /// while the commit is under way, or while the one statement is that is the whole batch, all
        /// rows are written or none. Inside a transaction of yours, what was sent before the drop
        /// stays part of it: roll that transaction back.
        pub fn execute<'a, S, DB>(
            &self,
            source: S,
            rows: Vec<R>,
        ) -> impl Future<Output = Result<BatchReport<R>, BatchError>> + Send + use<'a, S, DB, R>
        where
            S: Source<'a, Database = DB>,
            DB: BulkDatabase,
            R: BulkValues<DB> + Send + Sync,
        {
            // At the call, where the caller's recorder is; the future may be polled elsewhere.
            self.job.metrics();
            let (job, dead_letter) = (self.job.clone(), self.dead_letter.clone());
            job.execute(
                Box::new(crate::source::Taken::new(source)),
                rows,
                dead_letter,
            )
        }

        /// Writes the rows into the transaction that the connection is in; they are saved when you
        /// commit it. As [`execute`](Self::execute), which it keeps from committing by itself where
        /// no transaction is open.
        ///
        /// # Errors
        ///
        /// As `execute`, and [`BatchError::NoTransaction`].
        ///
        /// # Cancel safety
        ///
        /// What was sent before the drop stays part of the transaction: roll it back.
        pub fn execute_in<'a, S, DB>(
            &self,
            tx: S,
            rows: Vec<R>,
        ) -> impl Future<Output = Result<BatchReport<R>, BatchError>> + Send + use<'a, S, DB, R>
        where
            S: Source<'a, Database = DB>,
            DB: BulkDatabase,
            R: BulkValues<DB> + Send + Sync,
        {
            let mut inside = self.clone();
            inside.job.inside = true;
            inside.execute(tx, rows)
        }
    };
}

/// Clone and Debug, whatever the rows.
macro_rules! handle {
    ($name:ident) => {
        impl<R> Clone for $name<R> {
            fn clone(&self) -> Self {
                Self {
                    job: self.job.clone(),
                    dead_letter: self.dead_letter.clone(),
                }
            }
        }

        impl<R> fmt::Debug for $name<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.job).finish()
            }
        }
    };
}

pub(crate) use {handle, setters};
