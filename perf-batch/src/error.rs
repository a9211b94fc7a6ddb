use crate::engine::{Refusal, is_transient};
use crate::{BatchReport, RowFailure};

/// Why a batch was not written. Unless the variant says otherwise, nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The table, its columns and the options do not go together; nothing was sent.
    #[error("cannot write to table {table:?}: {reason}")]
    Invalid {
        /// The table's name.
        table: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// No connection was to be had.
    #[error("no connection for a batch of {rows} rows, nothing was written")]
    Acquire {
        /// Rows in the input.
        rows: usize,
        /// The pool's or the connection's error.
        source: sqlx::Error,
    },
    /// One row is to blame: it breaks a constraint, does not fit its column, or cannot be encoded.
    #[error(
        "row {index} was refused ({}), nothing was written: correct it, or save the others with OnRowError::Skip",
        describe(code.as_deref(), constraint.as_deref(), message)
    )]
    Row {
        /// Its position in the input, from 0.
        index: usize,
        /// As in [`RowFailure::code`](crate::RowFailure::code).
        code: Option<String>,
        /// As in [`RowFailure::constraint`](crate::RowFailure::constraint).
        constraint: Option<String>,
        /// As in [`RowFailure::message`](crate::RowFailure::message).
        message: String,
        /// The database's or the encoding's error, where there was one to keep.
        source: Option<Box<sqlx::Error>>,
    },
    /// More rows were refused than [`skip_limit`](crate::BulkInsert::skip_limit) allows.
    #[error(
        "more than {limit} rows were refused, the first of them {}, nothing was written: correct them, or raise skip_limit",
        first(failed)
    )]
    SkipLimit {
        /// The limit.
        limit: usize,
        /// The rows that were found until then, one more than the limit at least, without the rows
        /// themselves.
        failed: Vec<RowFailure<()>>,
    },
    /// With [`TxScope::PerChunk`](crate::TxScope::PerChunk), a chunk failed after others were
    /// committed.
    #[error(
        "a chunk was not written, {} rows before it are committed: write the rows from position {rest} again once the cause is gone",
        report.written
    )]
    Partial {
        /// What was committed; its `failed` have no rows in them.
        report: Box<BatchReport<()>>,
        /// The first position of the input that is not decided.
        rest: usize,
        /// Why the chunk failed.
        source: Box<BatchError>,
    },
    /// [`execute_in`](crate::BulkInsert::execute_in) was given a connection outside a transaction.
    #[error(
        "the connection is not inside a transaction, nothing was written: begin one by sqlx, or use execute"
    )]
    NoTransaction,
    /// Some row of a range is to blame, and which is not known: only the commit refused it (a
    /// deferred constraint).
    #[error(
        "a row among rows {first} to {last} was refused by the commit, nothing was written: a constraint tells its row if it is not deferred"
    )]
    Range {
        /// The lowest position in the input that it can be.
        first: usize,
        /// The highest position in the input that it can be.
        last: usize,
        /// The database's message.
        message: String,
        /// The database's error, where there was one to keep.
        source: Option<Box<sqlx::Error>>,
    },
    /// The database refused the batch as such (a missing table, no rights) or failed for a while
    /// (a deadlock, a lost connection): see [`is_retryable`](Self::is_retryable).
    #[error("the database did not take a batch of {rows} rows, nothing was written")]
    Database {
        /// Rows in the input.
        rows: usize,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The connection failed while it committed: all rows are written, or none. Look in the
    /// database before writing them again.
    #[error(
        "the connection failed during the commit of {rows} rows: all or none of them are written, look before you retry"
    )]
    CommitUnknown {
        /// Rows in the input.
        rows: usize,
        /// The connection's error.
        source: sqlx::Error,
    },
}

impl BatchError {
    /// Whether the same batch can go in if it is tried again, and cannot go in twice: a deadlock,
    /// a lock timeout, a serialization failure, a database that is busy, starting, or out of
    /// reach before the commit.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Acquire { source, .. } | Self::Database { source, .. } => is_transient(source),
            // The same batch again would meet what is committed.
            _ => false,
        }
    }

    /// Postgres' SQLSTATE or SQLite's extended result code, where the database gave one.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let source = match self {
            Self::Invalid { .. } | Self::NoTransaction => return None,
            Self::Row { code, .. } => return code.clone(),
            Self::SkipLimit { failed, .. } => return failed.first()?.code.clone(),
            Self::Partial { source, .. } => return source.code(),
            Self::Range { source, .. } => source.as_deref()?,
            Self::Acquire { source, .. }
            | Self::Database { source, .. }
            | Self::CommitUnknown { source, .. } => source,
        };
        let error = source.as_database_error()?;
        error.code().map(std::borrow::Cow::into_owned)
    }

    /// What was wrong with the row, where a row is to blame.
    pub(crate) fn into_refusal(self) -> Result<Refusal, Self> {
        match self {
            Self::Row {
                code,
                constraint,
                message,
                source,
                ..
            } => Ok(Refusal {
                code,
                constraint,
                message,
                source: source.map(|source| *source),
            }),
            Self::Range {
                source: Some(source),
                ..
            } => Ok(Refusal::by_database(*source)),
            error => Err(error),
        }
    }

    pub(crate) fn row(index: usize, refusal: Refusal) -> Self {
        Self::Row {
            index,
            code: refusal.code,
            constraint: refusal.constraint,
            message: refusal.message,
            source: refusal.source.map(Box::new),
        }
    }
}

fn describe(code: Option<&str>, constraint: Option<&str>, message: &str) -> String {
    match (code, constraint) {
        (Some(code), Some(constraint)) => format!("code {code}, {constraint}"),
        (Some(code), None) => format!("code {code}"),
        _ => message.to_owned(),
    }
}

fn first(failed: &[RowFailure<()>]) -> String {
    failed.first().map_or_else(String::new, |row| {
        let why = describe(row.code.as_deref(), row.constraint.as_deref(), &row.message);
        format!("row {} ({why})", row.index)
    })
}
