//! `INSERT .. SELECT .. FROM unnest(..)`: one array a column, one text for any number of rows.

use std::fmt::Write;
use std::sync::Arc;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgRow, PgTypeInfo};
use sqlx::{Arguments, Encode, Postgres, Type, TypeInfo};

use super::call::Call;
use super::postgres::element;
use super::sql::{Text, numbered};
use super::values::expect;
use super::{Called, EncodeError, How, Refusal, Statement, Told};
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::{BulkValues, Column, ValueSink};

/// Closes a statement: the server takes messages of up to 1 GB, and the rows of a statement are in
/// memory on either side, here twice. Rows of common size never come near it.
pub(super) const BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Unnest {
    sql: Arc<str>,
    /// Another text for one row.
    single: Option<Arc<str>>,
    types: Vec<PgTypeInfo>,
    call: Call,
}

impl Unnest {
    /// Measured over 256 to 65,536 rows: from 1,024 on, more are no faster, and the arrays of a
    /// statement are in memory at once on either side.
    pub(super) const SHAPE: Shape = Shape {
        max_rows: 4_096,
        powers: false,
        exact: 0,
    };

    pub(super) fn new(text: Text, columns: &[Column], types: Vec<PgTypeInfo>) -> Self {
        let mut arrays = String::new();
        // Cast always: sqlx's statement cache goes by the text alone, so it must say the types.
        numbered(&mut arrays, columns, |sql, n, _| {
            let name = types.get(n - 1).and_then(element).unwrap_or_default();
            let _ = write!(sql, "${n}::{name}[]");
        });
        let Text { before, after } = &text;
        Self {
            sql: format!("{before}unnest({arrays}){after}").into(),
            single: None,
            call: Call::new(text, arrays),
            types,
        }
    }

    /// For a text that returns a value of type `ty`; `many` is the one for several rows, where there
    /// is one.
    pub(super) fn returning(self, ty: String, many: Option<Self>) -> Self {
        Self {
            sql: many.map_or_else(|| Arc::clone(&self.sql), |many| many.sql),
            single: Some(self.sql),
            call: self.call.returning(ty),
            types: self.types,
        }
    }

    /// The statement for the rows, or for those from the front that stay within [`BYTES`].
    pub(super) fn statement<R: BulkValues<Postgres>>(
        &self,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Postgres>, EncodeError> {
        let mut sink = Arrays::new(&self.types, rows.len());
        for (offset, (_, row)) in rows.iter().enumerate() {
            sink.add(*row)
                .map_err(|source| EncodeError { offset, source })?;
            if sink.bytes >= BYTES {
                break;
            }
        }
        let taken = sink.rows;
        let offset = taken.saturating_sub(1);
        let arguments = sink.finish();
        Ok(Statement {
            sql: Arc::clone(
                self.single
                    .as_ref()
                    .filter(|_| taken == 1)
                    .unwrap_or(&self.sql),
            ),
            arguments: arguments.map_err(|source| EncodeError { offset, source })?,
            rows: taken,
        })
    }

    /// Writes what can be written of the rows, or of those from the front that stay within
    /// [`BYTES`]; those that cannot be encoded are not sent.
    pub(super) async fn call<R: BulkValues<Postgres> + Sync>(
        &mut self,
        conn: &mut PgConnection,
        rows: &[Indexed<'_, R>],
        how: How,
        told: Told<'_, Postgres>,
    ) -> sqlx::Result<Called> {
        let mut sent = Vec::with_capacity(rows.len());
        let mut failed = Vec::new();
        let mut sink = Arrays::new(&self.types, rows.len());
        let mut taken = 0;
        for (at, (_, row)) in rows.iter().enumerate() {
            match sink.add(*row) {
                Ok(()) => sent.push(at),
                Err(error) => failed.push((at, Refusal::by_encoding(error))),
            }
            taken += 1;
            if sink.bytes >= BYTES {
                break;
            }
        }
        if failed.len() > how.room || sent.is_empty() {
            return Ok(Called {
                taken,
                affected: 0,
                failed,
            });
        }
        let room = how.room - failed.len();
        let arguments = sink.finish().map_err(sqlx::Error::Encode)?;
        let how = How { room, ..how };
        let mut told = |at: usize, row: &PgRow, column: usize| match sent.get(at) {
            Some(at) => told(*at, row, column),
            None => Ok(()),
        };
        let mut called = self.call.run(conn, arguments, how, &mut told).await?;
        for (at, refusal) in called.failed.drain(..) {
            if let Some(at) = sent.get(at) {
                failed.push((*at, refusal));
            }
        }
        failed.sort_by_key(|(at, _)| *at);
        Ok(Called {
            taken,
            failed,
            ..called
        })
    }

    pub(super) async fn tidy(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        self.call.drop(conn).await
    }
}

/// The arrays that grow row by row, each in Postgres' binary format.
struct Arrays<'a> {
    types: &'a [PgTypeInfo],
    arrays: Vec<PgArgumentBuffer>,
    rows: usize,
    /// The column that comes next in the row.
    next: usize,
    /// How much the arrays hold.
    bytes: usize,
    /// How long each array was before the row.
    before: Vec<usize>,
}

/// Bytes before the first element.
const HEADER: usize = 20;

/// Where the header has the number of elements; it is known last.
const COUNT_AT: usize = 12;

impl<'a> Arrays<'a> {
    fn new(types: &'a [PgTypeInfo], rows: usize) -> Self {
        let arrays = types.iter().map(|ty| {
            let mut array = PgArgumentBuffer::default();
            // A length and a value of eight bytes: a start.
            array.reserve(HEADER + rows * 12);
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
            rows: 0,
            next: 0,
            bytes: 0,
            before: Vec::with_capacity(types.len()),
        }
    }

    /// Adds a row, or nothing of it.
    fn add<R: BulkValues<Postgres>>(&mut self, row: &R) -> Result<(), BoxDynError> {
        self.next = 0;
        self.before.clear();
        self.before
            .extend(self.arrays.iter().map(|array| array.len()));
        let columns = self.types.len();
        let added = row
            .values(self)
            .and_then(|()| expect(self.next, columns, columns));
        if added.is_err() {
            for (array, len) in self.arrays.iter_mut().zip(&self.before) {
                array.truncate(*len);
            }
        } else {
            self.rows += 1;
        }
        added
    }

    fn finish(self) -> Result<PgArguments, BoxDynError> {
        let count = i32::try_from(self.rows)?.to_be_bytes();
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
