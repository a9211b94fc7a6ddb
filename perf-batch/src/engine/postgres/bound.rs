//! Values of a statement, counted by their bytes.

use std::cell::Cell;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::{Arguments, Encode, Postgres, Type};

use crate::engine::EncodeError;
use crate::engine::values::expect;
use crate::order::Indexed;
use crate::{BulkValues, ValueSink};

/// The values of rows from the front, up to the row that reaches `max_bytes`; and how many rows
/// these are.
pub(super) fn bound<R: BulkValues<Postgres>>(
    rows: &[Indexed<'_, R>],
    columns: usize,
    max_bytes: usize,
) -> Result<(PgArguments, usize), EncodeError> {
    let mut sink = Bound::default();
    sink.arguments.reserve(rows.len() * columns, 0);
    for (offset, (_, row)) in rows.iter().enumerate() {
        row.values(&mut sink)
            .and_then(|()| expect(sink.arguments.len(), (offset + 1) * columns, columns))
            .map_err(|source| EncodeError { offset, source })?;
        if sink.bytes >= max_bytes {
            return Ok((sink.arguments, offset + 1));
        }
    }
    Ok((sink.arguments, rows.len()))
}

#[derive(Default)]
pub(super) struct Bound {
    arguments: PgArguments,
    bytes: usize,
}

impl ValueSink<Postgres> for Bound {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        let bytes = &mut self.bytes;
        self.arguments.add(Counted {
            value,
            bytes: Cell::from_mut(bytes),
        })
    }
}

/// A value that counts how long it is.
pub(super) struct Counted<'b, T> {
    value: T,
    bytes: &'b Cell<usize>,
}

impl<T: Type<Postgres>> Type<Postgres> for Counted<'_, T> {
    fn type_info() -> PgTypeInfo {
        T::type_info()
    }
}

impl<'q, T: Encode<'q, Postgres>> Encode<'q, Postgres> for Counted<'_, T> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let before = buf.len();
        let encoded = self.value.encode_by_ref(buf);
        self.bytes
            .set(self.bytes.get() + buf.len().saturating_sub(before));
        encoded
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        self.value.produces()
    }

    fn size_hint(&self) -> usize {
        self.value.size_hint()
    }
}
