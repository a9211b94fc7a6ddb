use std::borrow::Cow;
use std::io::ErrorKind;

use sqlx::error::{BoxDynError, DatabaseError};

/// What a database's error says about the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A row is to blame.
    Row,
    /// The moment is to blame: the same batch may go in later.
    Transient,
    /// Nothing will help but a change of the program or the schema.
    Fatal,
}

impl Class {
    pub(crate) fn of(error: &dyn DatabaseError) -> Self {
        #[cfg(feature = "postgres")]
        if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            return super::postgres::class(error.code());
        }
        #[cfg(feature = "sqlite")]
        if is_sqlite(error) {
            return super::sqlite::class(&error.code().unwrap_or_default());
        }
        let _ = error;
        Self::Fatal
    }

    pub(crate) fn of_error(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::of(error.as_ref()),
            sqlx::Error::Encode(_) => Self::Row,
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Self::Transient,
            _ => Self::Fatal,
        }
    }
}

/// Why a row was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<String>,
    pub(crate) constraint: Option<String>,
    pub(crate) message: String,
    pub(crate) source: Option<sqlx::Error>,
}

impl Refusal {
    pub(crate) fn by_encoding(source: BoxDynError) -> Self {
        Self {
            code: None,
            constraint: None,
            message: source.to_string(),
            source: Some(sqlx::Error::Encode(source)),
        }
    }

    pub(crate) fn by_database(source: sqlx::Error) -> Self {
        let error = source.as_database_error();
        Self {
            code: error.and_then(|e| e.code()).map(Cow::into_owned),
            constraint: error.and_then(constraint),
            message: error.map_or_else(|| source.to_string(), |e| e.message().to_owned()),
            source: Some(source),
        }
    }

    /// The same once more, without its source.
    pub(crate) fn retold(&self) -> Self {
        Self {
            code: self.code.clone(),
            constraint: self.constraint.clone(),
            message: self.message.clone(),
            source: None,
        }
    }

    /// A row whose key is that of another row of the batch.
    pub(crate) fn duplicate(of: usize) -> Self {
        Self {
            code: None,
            constraint: None,
            message: format!("its key is that of row {of}"),
            source: None,
        }
    }
}

/// Whether the connection is of no use any more after this error.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            matches!(&*code, "57P01" | "57P02" | "57P03") || code.starts_with("08")
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether the database said that it will not do this at all, for want of a right or of the thing
/// itself (SQLSTATE 42 and 0A), so that another way may do: not that it was stopped or is broken.
pub(crate) fn is_refused_as_such(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("42") || code.starts_with("0A"))
}

/// Whether the error says nothing about the batch, only about the moment.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => Class::of(error.as_ref()) == Class::Transient,
        sqlx::Error::Io(error) => error.kind() != ErrorKind::InvalidInput,
        sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether the database's error in answer to COMMIT leaves open whether it was done: the server
/// goes down, or the disk failed under SQLite's log.
pub(crate) fn commit_is_open(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    #[cfg(feature = "sqlite")]
    if is_sqlite(error) {
        return super::sqlite::is_io(&code);
    }
    matches!(&*code, "57P01" | "57P02") || code.starts_with("08")
}

#[cfg(feature = "sqlite")]
fn is_sqlite(error: &dyn DatabaseError) -> bool {
    let error = error.try_downcast_ref::<sqlx::sqlite::SqliteError>();
    error.is_some()
}

fn constraint(error: &dyn DatabaseError) -> Option<String> {
    #[cfg(feature = "sqlite")]
    if is_sqlite(error) {
        return super::sqlite::constraint(error.message());
    }
    error.constraint().map(str::to_owned)
}
