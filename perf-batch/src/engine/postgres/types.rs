//! What a row says of the types of its columns.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgTypeKind};
use sqlx::{Encode, Postgres, Type, TypeInfo};

use crate::{BulkValues, ValueSink};

/// The name of a plain type that Postgres has from the start, which can be an array's element
/// without asking the server for anything. Not among them: arrays, which `unnest` would flatten,
/// and types that only their name tells.
pub(in crate::engine) fn element(ty: &PgTypeInfo) -> Option<&str> {
    let name = ty.name();
    // sqlx knows no kind of a type that was declared by its OID, and panics when asked.
    let known = ty.oid().is_some() && name != "?";
    let plain = known && matches!(ty.kind(), PgTypeKind::Simple);
    // sqlx spells the one-byte "char" as it spells no other type.
    (plain && !name.contains('"')).then_some(name)
}

/// What a row says of the others.
#[derive(Default)]
pub(in crate::engine) struct Types {
    /// The type of each column; none where the row cannot say them: it is refused later, like any
    /// that fails to encode.
    pub(in crate::engine) types: Vec<PgTypeInfo>,
    /// How long its values are, each with its length.
    pub(in crate::engine) bytes: usize,
    scratch: PgArgumentBuffer,
}

impl Types {
    pub(in crate::engine) fn of<R: BulkValues<Postgres>>(sample: &R) -> Self {
        let mut types = Self::default();
        if sample.values(&mut types).is_err() {
            types.types.clear();
        }
        types
    }
}

impl ValueSink<Postgres> for Types {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.types
            .push(value.produces().unwrap_or_else(T::type_info));
        self.scratch.clear();
        // A value that cannot be encoded has a type all the same.
        let _ = value.encode(&mut self.scratch);
        self.bytes += self.scratch.len() + 4;
        Ok(())
    }
}
