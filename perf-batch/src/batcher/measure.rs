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

#[cfg(test)]
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    struct Row<T>(T);

    impl<DB: Database, T> BulkValues<DB> for Row<T>
    where
        T: Clone + for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    {
        fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
            sink.push(self.0.clone())?;
            sink.push(self.0.clone())
        }
    }

    /// The bytes of one of the two values.
    fn half<DB: Measure, T>(value: T) -> usize
    where
        Row<T>: BulkValues<DB>,
    {
        let whole = measure::<DB, _>(&Row(value)).unwrap();
        assert_eq!(whole % 2, 0);
        whole / 2 - HEADER
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn postgres_values_weigh_what_they_encode_to() {
        use sqlx::Postgres;
        assert_eq!(half::<Postgres, _>(1_i32), 4);
        assert_eq!(half::<Postgres, _>("word".repeat(25)), 100);
        assert_eq!(half::<Postgres, _>(vec![7_u8; 1_000]), 1_000);
        assert_eq!(half::<Postgres, _>(None::<String>), 0);
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn sqlite_values_weigh_what_they_encode_to() {
        use sqlx::Sqlite;
        assert_eq!(half::<Sqlite, _>(1_i64), 8);
        assert_eq!(half::<Sqlite, _>(0.5_f64), 8);
        assert_eq!(half::<Sqlite, _>(vec![7_u8; 1_000]), 1_000);
        assert_eq!(half::<Sqlite, _>(None::<String>), 0);
        let text = half::<Sqlite, _>("word".repeat(250));
        assert!((1_000..1_050).contains(&text), "{text}");
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_row_that_fails_or_panics_says_why() {
        struct Odd(bool);
        impl<DB: Database> BulkValues<DB> for Odd {
            fn values<S: ValueSink<DB>>(&self, _sink: &mut S) -> Result<(), BoxDynError> {
                assert!(!self.0, "odd");
                Err("no value".into())
            }
        }
        let measured = |row| measure::<sqlx::Sqlite, _>(&row).unwrap_err();
        assert_eq!(measured(Odd(false)), "no value");
        assert_eq!(measured(Odd(true)), "encoding the row panicked: odd");
    }
}
