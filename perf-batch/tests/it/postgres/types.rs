use std::collections::BTreeMap;

use perf_batch::{
    BulkInsert, BulkRow, BulkValues, Column, OnConflict, OnRowError, Path, Table, ValueSink,
};
use sqlx::error::BoxDynError;
use sqlx::types::{Json, Uuid};
use sqlx::{AssertSqlSafe, Postgres};

use super::{ANSWERS, count, pool};

#[derive(Debug, Clone, PartialEq, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Happy,
    Sad,
}

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "types")]
struct Types {
    #[bulk(key)]
    id: Uuid,
    small: i16,
    yes: bool,
    float: f64,
    bytes: Option<Vec<u8>>,
    doc: Json<BTreeMap<String, i32>>,
    list: Json<Vec<i32>>,
    #[bulk(pg_type = "mood")]
    spelled: String,
    #[bulk(pg_type = "inet")]
    address: Option<String>,
    short: Option<String>,
}

const TYPES: &str = "CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE types (
    id uuid PRIMARY KEY, small smallint, yes boolean, float double precision, bytes bytea,
    doc jsonb, list json, spelled mood, address inet, short varchar(3)
);
CREATE TABLE named (id int PRIMARY KEY, mood mood, tags text[], note text);";

fn types(n: u8) -> Types {
    Types {
        id: Uuid::from_u128(n.into()),
        small: n.into(),
        yes: n.is_multiple_of(2),
        float: f64::from(n) / 3.0,
        bytes: (!n.is_multiple_of(3)).then(|| vec![n; n.into()]),
        doc: Json(BTreeMap::from([("n".into(), n.into())])),
        list: Json(vec![n.into(), 1]),
        spelled: if n.is_multiple_of(2) { "happy" } else { "sad" }.into(),
        address: (!n.is_multiple_of(5)).then(|| format!("10.0.0.{n}/32")),
        short: (!n.is_multiple_of(4)).then(|| "abc".into()),
    }
}

#[tokio::test]
async fn values_of_many_types_arrive_as_they_were() {
    let Some(pool) = pool(TYPES, 2).await else {
        return;
    };
    let rows: Vec<Types> = (0..=255).map(types).collect();
    let report = BulkInsert::<Types>::new()
        .on_conflict(OnConflict::Update)
        .execute(&pool, rows.clone())
        .await
        .unwrap();
    assert_eq!((report.written, report.path), (256, Path::Unnest));
    #[derive(sqlx::FromRow)]
    struct Saved {
        id: Uuid,
        small: i16,
        yes: bool,
        float: f64,
        bytes: Option<Vec<u8>>,
        doc: Json<BTreeMap<String, i32>>,
        list: Json<Vec<i32>>,
        spelled: String,
        address: Option<String>,
        short: Option<String>,
    }
    let saved: Vec<Saved> = sqlx::query_as(
        "SELECT id, small, yes, float, bytes, doc, list, spelled::text, address::text, short
         FROM types ORDER BY id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let saved: Vec<Types> = saved
        .into_iter()
        .map(|s| Types {
            id: s.id,
            small: s.small,
            yes: s.yes,
            float: s.float,
            bytes: s.bytes,
            doc: s.doc,
            list: s.list,
            spelled: s.spelled,
            address: s.address,
            short: s.short,
        })
        .collect();
    assert_eq!(saved, rows);

    let mut rows: Vec<Types> = (0..100).map(types).collect();
    rows[3].spelled = "angry".into();
    rows[17].short = Some("too long".into());
    rows[40].short = Some("\0".into());
    let report = BulkInsert::<Types>::new()
        .on_conflict(OnConflict::Update)
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows)
        .await
        .unwrap();
    let codes: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.as_deref().unwrap()))
        .collect();
    assert_eq!(codes, [(3, "22P02"), (17, "22001"), (40, "22021")]);
}

#[tokio::test]
async fn types_without_an_array_go_in_as_values() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "named")]
    struct Named {
        #[bulk(key)]
        id: i32,
        mood: Option<Mood>,
        tags: Vec<String>,
        note: Option<String>,
    }
    let Some(pool) = pool(TYPES, 1).await else {
        return;
    };
    let rows: Vec<Named> = (0..1000)
        .map(|id| Named {
            id,
            mood: match id % 3 {
                0 => None,
                1 => Some(Mood::Happy),
                _ => Some(Mood::Sad),
            },
            tags: (0..id % 4).map(|n| n.to_string()).collect(),
            note: None,
        })
        .collect();
    let insert = BulkInsert::<Named>::new();
    let report = insert.execute(&pool, rows.clone()).await.unwrap();
    assert_eq!((report.written, report.path), (1000, Path::Values));
    assert_eq!(
        count(&pool, "SELECT count(*) FROM named WHERE mood = 'sad'").await,
        333
    );
    assert_eq!(
        count(&pool, "SELECT sum(cardinality(tags)) FROM named").await,
        1500
    );
    let report = insert
        .on_conflict(OnConflict::Update)
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!(report.written, 1000);
}

#[tokio::test]
async fn the_same_columns_of_other_types_are_another_statement() {
    #[derive(Debug, BulkRow)]
    #[bulk(table = "answers")]
    struct Small {
        user_id: i32,
        question_id: i16,
        answer: String,
    }
    struct Wide(i64);
    impl BulkValues<Postgres> for Wide {
        fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
            sink.push(self.0)?;
            sink.push(self.0)?;
            sink.push(vec!["an array"])
        }
    }
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let small = Small {
        user_id: 1,
        question_id: 2,
        answer: "x".into(),
    };
    BulkInsert::<Small>::new()
        .execute(&pool, vec![small])
        .await
        .unwrap();
    let table = Table::new("answers")
        .column(Column::new("user_id"))
        .column(Column::new("question_id"))
        .column(Column::new("answer").pg_type("text"));
    let report = BulkInsert::<Wide>::into_table(table)
        .execute(&pool, vec![Wide(1), Wide(1 << 40)])
        .await
        .unwrap();
    assert_eq!((report.written, report.path), (2, Path::Values));
}

#[tokio::test]
async fn rows_of_values_with_other_types_are_another_statement() {
    #[derive(BulkRow)]
    #[bulk(table = "named")]
    struct Named<T> {
        id: T,
        tags: Vec<String>,
    }
    let Some(pool) = pool(TYPES, 1).await else {
        return;
    };
    let tags = Vec::new;
    let small = vec![Named {
        id: 1_i16,
        tags: tags(),
    }];
    let large = vec![Named {
        id: 2_i64,
        tags: tags(),
    }];
    let report = BulkInsert::new().execute(&pool, small).await.unwrap();
    assert_eq!((report.written, report.path), (1, Path::Values));
    let report = BulkInsert::new().execute(&pool, large).await.unwrap();
    assert_eq!((report.written, report.path), (1, Path::Values));
}

#[tokio::test]
async fn a_value_of_another_type_than_its_columns_refuses_its_row() {
    struct Loose(i64);
    impl BulkValues<Postgres> for Loose {
        fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
            match self.0 {
                3 => sink.push("three"),
                4 => sink.push(4_i16),
                n => sink.push(n),
            }
        }
    }
    let Some(pool) = pool(TYPES, 1).await else {
        return;
    };
    let report = BulkInsert::into_table(Table::new("named").column(Column::new("id")))
        .on_row_error(OnRowError::Skip)
        .execute(&pool, (1..=9).map(Loose).collect())
        .await
        .unwrap();
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.row.0, f.code.clone()))
        .collect();
    assert_eq!((report.written, failed), (7, vec![(3, None), (4, None)]));
}

#[tokio::test]
async fn wide_rows_stay_below_the_limit_of_values() {
    struct Wide(i64);
    impl BulkValues<Postgres> for Wide {
        fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
            sink.push(vec![self.0])?;
            (1..300).try_for_each(|n| sink.push(n))
        }
    }
    let Some(pool) = pool("", 1).await else {
        return;
    };
    let columns: Vec<String> = (0..300).map(|n| format!("c{n}")).collect();
    let schema = format!("c0 int8[], {} int8", columns[1..].join(" int8, "));
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE TABLE wide ({schema})")))
        .execute(&pool)
        .await
        .unwrap();
    let table = columns.into_iter().fold(Table::new("wide"), |table, name| {
        table.column(Column::new(name))
    });
    let report = BulkInsert::into_table(table)
        .execute(&pool, (0..300).map(Wide).collect())
        .await
        .unwrap();
    assert_eq!((report.written, report.path), (300, Path::Values));
}

#[tokio::test]
async fn large_rows_go_in_a_few_at_a_time() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "pages")]
    struct Page {
        id: i64,
        text: String,
    }
    let schema = "CREATE TABLE pages (id bigint PRIMARY KEY, text text CHECK (text <> 'bad'))";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let page = |id| Page {
        id,
        text: "x".repeat(1 << 20),
    };
    let mut rows: Vec<Page> = (0..40).map(page).collect();
    let insert = BulkInsert::<Page>::new().path(Path::Unnest);
    let report = insert.execute(&pool, rows.clone()).await.unwrap();
    assert_eq!((report.written, report.path), (40, Path::Unnest));
    assert_eq!(
        report.statements, 5,
        "begin, 16 MiB, 16 MiB, the rest, commit"
    );

    rows.iter_mut().for_each(|row| row.id += 100);
    rows[20].text = "bad".into();
    rows[39].id = 3;
    let skip = insert.on_row_error(OnRowError::Skip);
    let report = skip.execute(&pool, rows).await.unwrap();
    let failed: Vec<_> = report.failed.iter().map(|f| f.index).collect();
    assert_eq!((report.written, failed), (38, vec![20, 39]));
    let sum = "SELECT sum(length(text)) FROM pages";
    assert_eq!(count(&pool, sum).await, 78 << 20);
}
