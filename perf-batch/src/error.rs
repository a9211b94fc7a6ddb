use std::io::ErrorKind;

use crate::engine::{Class, Refusal};

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
        describe(code, constraint)
    )]
    Row {
        /// Its position in the input, from 0.
        index: usize,
        /// As in [`RowFailure::code`](crate::RowFailure::code).
        code: Option<String>,
        /// As in [`RowFailure::constraint`](crate::RowFailure::constraint).
        constraint: Option<String>,
        /// What the database or the encoding said.
        source: sqlx::Error,
    },
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
        /// What the database said.
        source: sqlx::Error,
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
            _ => false,
        }
    }

    /// Postgres' SQLSTATE or SQLite's extended result code, where the database gave one.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let source = match self {
            Self::Invalid { .. } => return None,
            Self::Row { code, .. } => return code.clone(),
            Self::Acquire { source, .. }
            | Self::Range { source, .. }
            | Self::Database { source, .. }
            | Self::CommitUnknown { source, .. } => source,
        };
        let error = source.as_database_error()?;
        error.code().map(std::borrow::Cow::into_owned)
    }

    pub(crate) fn row(index: usize, refusal: Refusal) -> Self {
        Self::Row {
            index,
            code: refusal.code,
            constraint: refusal.constraint,
            source: refusal.source,
        }
    }
}

fn describe(code: &Option<String>, constraint: &Option<String>) -> String {
    match (code, constraint) {
        (Some(code), Some(constraint)) => format!("code {code}, {constraint}"),
        (Some(code), None) => format!("code {code}"),
        _ => "it cannot be encoded".to_owned(),
    }
}

/// Whether the error says nothing about the batch, only about the moment.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => Class::of(error.as_ref()) == Class::Transient,
        sqlx::Error::Io(error) => error.kind() != ErrorKind::InvalidInput,
        sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
