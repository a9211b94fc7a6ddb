//! The rows: of a table that refers to itself, with two unique columns and a check.

use std::cmp::Ordering;
use std::fmt;

use perf_batch::{BulkValues, Column, OnConflict, Table, ValueSink};
use proptest::prelude::*;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Encode, Type};

#[derive(Clone, PartialEq)]
pub(super) struct Node {
    /// NULL is refused by the table.
    pub(super) id: Option<i64>,
    pub(super) parent: Option<i64>,
    pub(super) label: Label,
    pub(super) weight: i64,
    /// Has a column more, of a type that only rows of values can carry.
    pub(super) tagged: bool,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, parent) = (self.id, self.parent);
        write!(f, "({id:?} {parent:?} {:?} {})", self.label.0, self.weight)
    }
}

/// A text that cannot be encoded where it is "unspeakable".
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label(pub(super) String);

impl<DB: Database> Type<DB> for Label
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }
}

impl<'q, DB: Database> Encode<'q, DB> for Label
where
    String: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buf: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        if self.0 == "unspeakable" {
            return Err("it cannot be said".into());
        }
        self.0.encode_by_ref(buf)
    }
}

impl<DB: Database> BulkValues<DB> for Node
where
    Label: for<'q> Encode<'q, DB> + Type<DB>,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
    Option<i64>: for<'q> Encode<'q, DB> + Type<DB>,
    Tags: for<'q> Encode<'q, DB> + Type<DB>,
{
    fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        sink.push(self.id)?;
        sink.push(self.parent)?;
        sink.push(&self.label)?;
        sink.push(self.weight)?;
        if self.tagged { sink.push(Tags) } else { Ok(()) }
    }

    fn key_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.id?.cmp(&other.id?))
    }
}

/// An array, where the database has such.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tags;

#[cfg(feature = "postgres")]
impl Type<sqlx::Postgres> for Tags {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <Vec<i64> as Type<sqlx::Postgres>>::type_info()
    }
}

#[cfg(feature = "postgres")]
impl Encode<'_, sqlx::Postgres> for Tags {
    fn encode_by_ref(
        &self,
        buf: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        <Vec<i64> as Encode<'_, sqlx::Postgres>>::encode(vec![1, 2], buf)
    }
}

#[cfg(feature = "sqlite")]
impl Type<sqlx::Sqlite> for Tags {
    fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
        <String as Type<sqlx::Sqlite>>::type_info()
    }
}

#[cfg(feature = "sqlite")]
impl Encode<'_, sqlx::Sqlite> for Tags {
    fn encode_by_ref(
        &self,
        _buf: &mut sqlx::sqlite::SqliteArgumentsBuffer,
    ) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

pub(super) fn table(tagged: bool) -> Table {
    let table = Table::new("nodes")
        .column(Column::new("id").key())
        .column(Column::new("parent"))
        .column(Column::new("label"))
        .column(Column::new("weight"));
    if tagged {
        table.column(Column::new("tags"))
    } else {
        table
    }
}

/// The statement for one row.
pub(super) fn insert(conflict: &OnConflict, tagged: bool) -> String {
    let (columns, values) = if tagged {
        ("id, parent, label, weight, tags", "$1, $2, $3, $4, '{1,2}'")
    } else {
        ("id, parent, label, weight", "$1, $2, $3, $4")
    };
    let set = |columns: &[&str]| {
        let set = columns
            .iter()
            .map(|column| format!("{column} = excluded.{column}"));
        let set = set.collect::<Vec<_>>().join(", ");
        format!("ON CONFLICT (id) DO UPDATE SET {set}")
    };
    let end = match conflict {
        OnConflict::DoNothing => "ON CONFLICT (id) DO NOTHING".to_owned(),
        OnConflict::Update if tagged => set(&["parent", "label", "weight", "tags"]),
        OnConflict::Update => set(&["parent", "label", "weight"]),
        OnConflict::UpdateColumns(_) => set(&["parent", "weight"]),
        _ => String::new(),
    };
    format!("INSERT INTO nodes ({columns}) VALUES ({values}) {end}")
}

pub(super) fn conflict() -> impl Strategy<Value = OnConflict> {
    prop_oneof![
        2 => Just(OnConflict::Error),
        1 => Just(OnConflict::DoNothing),
        2 => Just(OnConflict::Update),
        1 => Just(OnConflict::update_columns(["parent", "weight"])),
    ]
}

/// Few different keys, labels and parents, so that rows meet each other; few bad ones by
/// themselves, so that small batches are good but for what they do to each other.
pub(super) fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let ranges = prop_oneof![
        6 => (Just(8_i64), 0..7_usize),
        2 => (Just(40_i64), 0..30_usize),
        1 => (Just(400_i64), 0..300_usize),
    ];
    ranges.prop_flat_map(|(range, n)| proptest::collection::vec(node(range), n))
}

fn node(range: i64) -> impl Strategy<Value = Node> {
    let id = prop_oneof![40 => (0..range).prop_map(Some), 1 => Just(None)];
    let parent = prop_oneof![2 => Just(None), 2 => (0..range).prop_map(Some)];
    let label = prop_oneof![
        30 => (0..range * 2).prop_map(|n| format!("l{n}")),
        1 => Just("unspeakable".to_owned()),
        1 => Just("nul\0".to_owned()),
    ];
    let weight = prop_oneof![12 => 0..80_i64, 4 => 80..90_i64, 1 => 90..100_i64];
    (id, parent, label, weight).prop_map(|(id, parent, label, weight)| Node {
        id,
        parent,
        label: Label(label),
        weight,
        tagged: false,
    })
}
