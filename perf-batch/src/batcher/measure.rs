//! How many bytes a row's values encode to.

use sqlx::Database;
use sqlx::error::BoxDynError;

use super::panics::contained;
use crate::{BulkValues, ValueSink};

/// What the databases put in front of a value, its length or type; counted so that a NULL weighs
/// something too.
const HEADER: usize = 4;

/// A database whose encoded values can be measured.
pub trait Measure: Database {
    /// Encodes the value and returns its length in bytes.
    #[doc(hidden)]
    fn encoded_len<'q, T>(value: T) -> Result<usize, BoxDynError>
    where
        T: sqlx::Encode<'q, Self> + sqlx::Type<Self>;
}

/// The row's size, or why it cannot be encoded.
pub(super) fn measure<DB: Measure, R: BulkValues<DB>>(row: &R) -> Result<usize, String> {
    let mut scale = Scale(0);
    match contained(|| row.values(&mut scale)) {
        Ok(Ok(())) => Ok(scale.0),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("encoding the row panicked: {panic}")),
    }
}

struct Scale(usize);

impl<DB: Measure> ValueSink<DB> for Scale {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    {
        self.0 += HEADER + DB::encoded_len(value)?;
        Ok(())
    }
}

#[cfg(feature = "postgres")]
impl Measure for sqlx::Postgres {
    fn encoded_len<'q, T>(value: T) -> Result<usize, BoxDynError>
    where
        T: sqlx::Encode<'q, Self> + sqlx::Type<Self>,
    {
        let mut buffer = sqlx::postgres::PgArgumentBuffer::default();
        let _ = value.encode(&mut buffer)?;
        Ok(buffer.len())
    }
}

#[cfg(feature = "sqlite")]
impl Measure for sqlx::Sqlite {
    fn encoded_len<'q, T>(value: T) -> Result<usize, BoxDynError>
    where
        T: sqlx::Encode<'q, Self> + sqlx::Type<Self>,
    {
        lite::encoded_len(value)
    }
}

#[cfg(feature = "sqlite")]
mod lite {
    use std::fmt::{self, Write};

    use sqlx::encode::IsNull;
    use sqlx::error::BoxDynError;
    use sqlx::sqlite::SqliteArgumentsBuffer;
    use sqlx::{Encode, Sqlite, Type, TypeInfo};

    /// sqlx keeps the encoded value to itself; what it does show is the `Debug` form, which has
    /// the characters of a text, and a number and a comma for each byte of a blob.
    pub(super) fn encoded_len<'q, T>(value: T) -> Result<usize, BoxDynError>
    where
        T: Encode<'q, Sqlite> + Type<Sqlite>,
    {
        let ty = value.produces().unwrap_or_else(T::type_info);
        let mut buffer = SqliteArgumentsBuffer::default();
        if matches!(value.encode(&mut buffer)?, IsNull::Yes) {
            return Ok(0);
        }
        let blob = match ty.name() {
            "INTEGER" | "REAL" | "BOOLEAN" => return Ok(8),
            name => name == "BLOB",
        };
        let mut seen = Counter::default();
        let _ = write!(seen, "{buffer:?}");
        Ok(if blob { seen.commas + 1 } else { seen.bytes })
    }

    #[derive(Default)]
    struct Counter {
        bytes: usize,
        commas: usize,
    }

    impl fmt::Write for Counter {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.bytes += text.len();
            self.commas += text.bytes().filter(|byte| *byte == b',').count();
            Ok(())
        }
    }
}
