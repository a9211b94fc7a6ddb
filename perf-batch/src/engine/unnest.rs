//! `INSERT .. SELECT .. FROM unnest(..)`: one array a column, one text for any number of rows.

use std::fmt::Write;
use std::sync::Arc;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::{Arguments, Encode, Postgres, Type, TypeInfo};

use super::postgres::element;
use super::values::expect;
use super::{EncodeError, Statement};
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::{BulkValues, Column, ValueSink};

/// Closes a statement: the server takes messages of up to 1 GB, and the rows of a statement are in
/// memory on either side, here twice. Rows of common size never come near it.
const BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Unnest {
    sql: Arc<str>,
    types: Vec<PgTypeInfo>,
}

impl Unnest {
    /// Measured over 256 to 65,536 rows: from 1,024 on, more are no faster, and the arrays of a
    /// statement are in memory at once on either side.
    pub(super) const SHAPE: Shape = Shape {
        max_rows: 4_096,
        powers: false,
    };

    pub(super) fn new(head: &str, tail: &str, columns: &[Column], types: Vec<PgTypeInfo>) -> Self {
        let (mut select, mut arrays, mut names) = (String::new(), String::new(), String::new());
        for (at, (column, ty)) in columns.iter().zip(&types).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let n = at + 1;
            let _ = write!(select, "{comma}c{n}");
            if let Some(cast) = column.cast() {
                let _ = write!(select, "::{cast}");
            }
            // Cast always: sqlx's statement cache goes by the text alone, so it must say the types.
            let name = element(ty).unwrap_or_default();
            let _ = write!(arrays, "{comma}${n}::{name}[]");
            let _ = write!(names, "{comma}c{n}");
        }
        let sql = format!("{head}SELECT {select} FROM unnest({arrays}) AS batch ({names}){tail}");
        Self {
            sql: sql.into(),
            types,
        }
    }

    /// The statement for the rows, or for those from the front that stay within [`BYTES`].
    pub(super) fn statement<R: BulkValues<Postgres>>(
        &self,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Postgres>, EncodeError> {
        let mut sink = Arrays::new(&self.types);
        let mut taken = 0_usize;
        for (offset, (_, row)) in rows.iter().enumerate() {
            sink.next = 0;
            row.values(&mut sink)
                .and_then(|()| expect(sink.next, self.types.len(), self.types.len()))
                .map_err(|source| EncodeError { offset, source })?;
            taken += 1;
            if sink.bytes >= BYTES {
                break;
            }
        }
        let offset = taken.saturating_sub(1);
        let arguments = sink.finish(taken);
        Ok(Statement {
            sql: Arc::clone(&self.sql),
            arguments: arguments.map_err(|source| EncodeError { offset, source })?,
            rows: taken,
        })
    }
}

/// The arrays that grow row by row, each in Postgres' binary format.
struct Arrays<'a> {
    types: &'a [PgTypeInfo],
    arrays: Vec<PgArgumentBuffer>,
    /// The column that comes next in the row.
    next: usize,
    /// How much the arrays hold.
    bytes: usize,
}

/// Where the header has the number of elements; it is known last.
const COUNT_AT: usize = 12;

impl<'a> Arrays<'a> {
    fn new(types: &'a [PgTypeInfo]) -> Self {
        let arrays = types.iter().map(|ty| {
            let mut array = PgArgumentBuffer::default();
            let element = ty.oid().unwrap_or(Oid(0)).0;
            array.extend_from_slice(&1_i32.to_be_bytes()); // dimensions
            array.extend_from_slice(&1_i32.to_be_bytes()); // there may be NULLs
            array.extend_from_slice(&element.to_be_bytes());
            array.extend_from_slice(&0_i32.to_be_bytes()); // elements
            array.extend_from_slice(&1_i32.to_be_bytes()); // lower bound
            array
        });
        Self {
            types,
            arrays: arrays.collect(),
            next: 0,
            bytes: 0,
        }
    }

    fn finish(self, rows: usize) -> Result<PgArguments, BoxDynError> {
        let count = i32::try_from(rows)?.to_be_bytes();
        let mut arguments = PgArguments::default();
        for mut array in self.arrays {
            if let Some(slot) = array.get_mut(COUNT_AT..COUNT_AT + 4) {
                slot.copy_from_slice(&count);
            }
            arguments.add(Array(array))?;
        }
        Ok(arguments)
    }
}

impl ValueSink<Postgres> for Arrays<'_> {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        let at = self.next;
        self.next += 1;
        let (Some(array), Some(ty)) = (self.arrays.get_mut(at), self.types.get(at)) else {
            return Ok(()); // too many values: counted, and refused once the row is done
        };
        let given = value.produces().unwrap_or_else(T::type_info);
        if given.oid() != ty.oid() {
            return Err(format!(
                "value {} of the row is of type {}, in another row it is {}",
                at + 1,
                given.name(),
                ty.name()
            )
            .into());
        }
        let start = array.len();
        array.extend_from_slice(&[0; 4]);
        let len = match value.encode(array)? {
            IsNull::Yes => -1,
            IsNull::No => i32::try_from(array.len() - start - 4)?,
        };
        if let Some(slot) = array.get_mut(start..start + 4) {
            slot.copy_from_slice(&len.to_be_bytes());
        }
        self.bytes += array.len() - start;
        Ok(())
    }
}

/// A finished array. Its type stays open, so the server takes it from the cast in the text.
struct Array(PgArgumentBuffer);

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}
