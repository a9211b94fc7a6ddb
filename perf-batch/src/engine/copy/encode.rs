//! Rows in COPY's binary format
//! (<https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format").

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, Postgres, Type, TypeInfo};

use super::fit::{Fix, fit};
use crate::engine::EncodeError;
use crate::engine::values::expect;
use crate::order::Indexed;
use crate::{BulkValues, Column, ValueSink};

/// The signature, no flags, no extension of the header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// In place of a row's number of fields: there are no more.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// How the rows of a batch are written.
#[derive(Debug)]
pub(in crate::engine) struct CopyIn {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    given: PgTypeInfo,
    /// Of `given`: it is compared with every value, and costs a call.
    oid: Option<Oid>,
    fix: Fix,
}

impl CopyIn {
    /// `described` are the columns' types as the server has them, `given` those of a row's values.
    ///
    /// The error names the first column that COPY cannot fill, and why.
    pub(in crate::engine) fn plan(
        columns: &[Column],
        described: &[PgTypeInfo],
        given: &[PgTypeInfo],
    ) -> Result<Self, String> {
        if described.len() != columns.len() || given.len() != columns.len() {
            return Err("the row does not give one value for each column".into());
        }
        let fields = columns.iter().zip(described).zip(given);
        let fields = fields.map(|((column, described), given)| {
            let name = column.name();
            let Some(fix) = fit(given, described, column.cast()) else {
                let cast = column.cast().map(|cast| format!(", cast to {cast}"));
                return Err(format!(
                    "column {name:?} is of type {}, its values of type {}{}, and COPY does not convert",
                    described.name(),
                    given.name(),
                    cast.unwrap_or_default()
                ));
            };
            Ok(Field { given: given.clone(), oid: given.oid(), fix })
        });
        Ok(Self {
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// What to send for the rows, or for those from the front that it takes to reach `max_bytes`;
    /// and how many they are, at least 1.
    pub(in crate::engine) fn encode<R: BulkValues<Postgres>>(
        &self,
        rows: &[Indexed<'_, R>],
        max_bytes: usize,
    ) -> Result<(Vec<u8>, usize), EncodeError> {
        let columns = self.fields.len();
        let mut sink = Fields {
            fields: &self.fields,
            next: 0,
            data: PgArgumentBuffer::default(),
        };
        sink.data.extend_from_slice(HEADER);
        let mut taken = 0_usize;
        for (offset, (_, row)) in rows.iter().enumerate() {
            sink.row(*row, columns)
                .map_err(|source| EncodeError { offset, source })?;
            taken += 1;
            if sink.data.len() >= max_bytes {
                break;
            }
            if offset == 0 {
                // As if the others were of its size, and some larger.
                let one = sink.data.len() - HEADER.len();
                let all = one.saturating_mul(rows.len()) / 8 * 9;
                sink.data.reserve(all.min(max_bytes));
            }
        }
        sink.data.extend_from_slice(&TRAILER);
        Ok((std::mem::take(&mut *sink.data), taken))
    }
}

/// Writes the fields one after the other.
struct Fields<'a> {
    fields: &'a [Field],
    /// The column that comes next in the row.
    next: usize,
    data: PgArgumentBuffer,
}

impl Fields<'_> {
    fn row<R: BulkValues<Postgres>>(&mut self, row: &R, columns: usize) -> Result<(), BoxDynError> {
        self.next = 0;
        let count = i16::try_from(columns)?;
        self.data.extend_from_slice(&count.to_be_bytes());
        row.values(self)?;
        expect(self.next, columns, columns)
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(slot) = self.data.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    }
}

impl ValueSink<Postgres> for Fields<'_> {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        let at = self.next;
        self.next += 1;
        let Some(field) = self.fields.get(at) else {
            return Ok(()); // too many values: counted, and refused once the row is done
        };
        let given = value.produces().unwrap_or_else(T::type_info);
        // Of types that only their name tells, the name is compared.
        let same =
            given.oid() == field.oid && (field.oid.is_some() || given.name() == field.given.name());
        if !same {
            return Err(format!(
                "value {} of the row is of type {}, in another row it is {}",
                at + 1,
                given.name(),
                field.given.name()
            )
            .into());
        }
        let start = self.data.len();
        self.data.extend_from_slice(&(-1_i32).to_be_bytes());
        if let IsNull::Yes = value.encode(&mut self.data)? {
            return Ok(());
        }
        let len = i32::try_from(self.data.len() - start - 4)?;
        self.set(start, &len.to_be_bytes());
        let payload = start + 4;
        match field.fix {
            Fix::Keep => {}
            // The text may have space around it.
            Fix::Json => self.set(payload, b" "),
            // It follows the number of dimensions and the flags.
            Fix::Element(oid) => self.set(payload + 8, &oid.0.to_be_bytes()),
        }
        Ok(())
    }
}
