use std::collections::BTreeMap;
use std::time::Duration;

use perf_batch::{
    BatchError, BulkInsert, BulkRow, BulkValues, Column, OnConflict, OnRowError, Path, Table,
    ValueSink,
};
use proptest::prelude::*;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::types::{Json, Uuid};
use sqlx::{Acquire, PgConnection, Postgres, Row};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::support::drop_after;

/// A pool on a schema of its own; `None` where there is no server, which testkit says.
async fn pool(schema: &'static str, connections: u32) -> Option<PgPool> {
    let server = testkit::Postgres::shared().await?;
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .connect(&server.schema_url().await)
        .await
        .unwrap();
    sqlx::raw_sql(schema).execute(&pool).await.unwrap();
    Some(pool)
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "answers")]
struct Answer {
    #[bulk(key)]
    user_id: i64,
    #[bulk(key)]
    question_id: i64,
    answer: String,
    points: Option<i32>,
}

const ANSWERS: &str = "CREATE TABLE answers (
    user_id bigint NOT NULL,
    question_id bigint NOT NULL,
    answer text NOT NULL CONSTRAINT allowed CHECK (answer <> 'forbidden'),
    points integer,
    PRIMARY KEY (user_id, question_id)
)";

fn answers(user_id: i64, n: i64) -> Vec<Answer> {
    (0..n)
        .map(|question_id| Answer {
            user_id,
            question_id,
            answer: format!("answer {question_id}"),
            points: (question_id % 3 != 0).then_some(question_id as i32),
        })
        .collect()
}

#[tokio::test]
async fn every_row_is_saved_by_unnest() {
    let Some(pool) = pool(ANSWERS, 2).await else {
        return;
    };
    for n in [1, 2, 1000, 4097] {
        let rows = answers(n, n);
        let report = BulkInsert::<Answer>::new()
            .execute(&pool, rows.clone())
            .await
            .unwrap();
        assert_eq!(report.written, n as u64);
        assert_eq!(report.path, Path::Unnest);
        assert!(report.statements <= 4, "{} statements", report.statements);
        let saved: Vec<(i64, i64, String, Option<i32>)> =
            sqlx::query_as("SELECT * FROM answers WHERE user_id = $1 ORDER BY question_id")
                .bind(n)
                .fetch_all(&pool)
                .await
                .unwrap();
        let given: Vec<_> = rows
            .into_iter()
            .map(|a| (a.user_id, a.question_id, a.answer, a.points))
            .collect();
        assert_eq!(saved, given);
    }
}

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
async fn abort_writes_nothing_and_skip_names_the_bad_rows() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let mut rows = answers(1, 1000);
    rows[7].answer = "forbidden".into();
    rows[500].question_id = 3;
    let insert = BulkInsert::<Answer>::new();
    let error = insert.execute(&pool, rows.clone()).await.unwrap_err();
    let BatchError::Row {
        index: 7,
        constraint: Some(constraint),
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(constraint, "allowed");
    assert_eq!(error.code().as_deref(), Some("23514"));
    assert_eq!(count(&pool, "SELECT count(*) FROM answers").await, 0);

    let report = insert
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!(report.written, 998);
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.as_deref(), f.constraint.as_deref()))
        .collect();
    assert_eq!(
        failed,
        [
            (7, Some("23514"), Some("allowed")),
            (500, Some("23505"), Some("answers_pkey"))
        ]
    );
    assert_eq!(count(&pool, "SELECT count(*) FROM answers").await, 998);
}

#[tokio::test]
async fn deferred_constraints_name_their_rows_too() {
    let schema = "CREATE TABLE parents (id bigint PRIMARY KEY);
        INSERT INTO parents VALUES (1);
        CREATE TABLE children (parent bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED)";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "children")]
    struct Child {
        parent: i64,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let mut rows = vec![Child { parent: 1 }; 100];
    rows[42].parent = 2;
    let insert = BulkInsert::<Child>::new();
    let error = insert.execute(&pool, rows.clone()).await.unwrap_err();
    assert!(
        matches!(error, BatchError::Row { index: 42, .. }),
        "{error:?}"
    );
    let report = insert
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!((report.written, report.failed[0].index), (99, 42));
}

#[tokio::test]
async fn a_batch_inside_a_transaction_is_all_or_nothing_in_it() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let insert = BulkInsert::<Answer>::new();
    let mut tx = pool.begin().await.unwrap();
    insert.execute(&mut tx, answers(1, 300)).await.unwrap();
    let mut rows = answers(2, 300);
    rows[299].answer = "forbidden".into();
    let error = insert.execute(&mut *tx, rows.clone()).await.unwrap_err();
    assert!(matches!(error, BatchError::Row { index: 299, .. }));
    let skip = insert.clone().on_row_error(OnRowError::Skip);
    let report = skip.execute(&mut tx, rows).await.unwrap();
    assert_eq!((report.written, report.failed.len()), (299, 1));
    tx.commit().await.unwrap();
    assert_eq!(count(&pool, "SELECT count(*) FROM answers").await, 599);

    let mut tx = pool.begin().await.unwrap();
    let broken = sqlx::query("SELECT 1 / 0").execute(&mut *tx).await;
    assert!(broken.is_err());
    let error = insert.execute(&mut tx, answers(3, 1)).await.unwrap_err();
    assert_eq!(error.code().as_deref(), Some("25P02"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn keys_that_only_the_database_takes_for_equal_go_in_one_after_the_other() {
    let schema = "CREATE TABLE prices (price numeric PRIMARY KEY, label text)";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "prices")]
    struct Price {
        #[bulk(key, pg_type = "numeric")]
        price: String,
        label: String,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let price = |price: &str, label: &str| Price {
        price: price.into(),
        label: label.into(),
    };
    let rows = vec![price("1", "a"), price("2", "b"), price("1.0", "c")];
    for on_row_error in [OnRowError::Abort, OnRowError::Skip] {
        let report = BulkInsert::<Price>::new()
            .on_conflict(OnConflict::Update)
            .on_row_error(on_row_error)
            .execute(&pool, rows.clone())
            .await
            .unwrap();
        assert_eq!((report.written, report.failed.len()), (3, 0));
        let label: String = sqlx::query_scalar("SELECT label FROM prices WHERE price = 1")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(label, "c");
    }
}

#[tokio::test]
async fn concurrent_shuffled_upserts_do_not_deadlock() {
    let Some(pool) = pool(ANSWERS, 4).await else {
        return;
    };
    let insert = BulkInsert::<Answer>::new().on_conflict(OnConflict::Update);
    for round in 0..20_u64 {
        let writers = (0..4_usize).map(|writer| {
            let (insert, pool) = (insert.clone(), pool.clone());
            let mut rows = answers(1, 500);
            let cut = (writer * 100 + round as usize * 7) % 500;
            rows.rotate_left(cut);
            if writer % 2 == 0 {
                rows.reverse();
            }
            tokio::spawn(async move { insert.execute(&pool, rows).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            assert_eq!(writer.await.unwrap().unwrap().written, 500);
        }
    }
}

#[tokio::test]
async fn a_future_dropped_at_any_await_leaves_all_or_nothing_and_a_usable_pool() {
    let schema = "CREATE TABLE numbers (n bigint CHECK (n <> 300))";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "numbers")]
    struct Number {
        n: i64,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let insert = BulkInsert::<Number>::new().on_row_error(OnRowError::Skip);
    let rows: Vec<Number> = (0..600).map(|n| Number { n }).collect();
    let (mut dropped, mut polls) = (0, 0);
    loop {
        let done = drop_after(polls, insert.execute(&pool, rows.clone())).await;
        let conn = timeout(Duration::from_secs(20), pool.acquire()).await;
        let mut conn = conn.expect("the connection came back").unwrap();
        assert!(!in_transaction(&mut conn).await, "after {polls} polls");
        let cleared = sqlx::query("DELETE FROM numbers")
            .execute(&mut *conn)
            .await
            .unwrap()
            .rows_affected();
        assert!(
            cleared == 0 || cleared == 599,
            "{cleared} rows after {polls} polls"
        );
        if done.is_some() {
            assert_eq!(cleared, 599);
            break;
        }
        dropped += 1;
        polls += 1;
    }
    assert!(dropped > 20, "dropped at {dropped} points only");
}

/// The time of `now()` stands still inside a transaction.
async fn in_transaction(conn: &mut PgConnection) -> bool {
    let sql = "SELECT now() <> statement_timestamp()";
    let row = sqlx::raw_sql(sql).fetch_one(conn).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_server_that_goes_away_is_worth_a_retry() {
    let Some(pool) = pool(ANSWERS, 2).await else {
        return;
    };
    let mut conn = pool.acquire().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    sqlx::query("SELECT pg_terminate_backend($1, 5000)")
        .bind(pid)
        .execute(&pool)
        .await
        .unwrap();
    let insert = BulkInsert::<Answer>::new();
    let error = insert.execute(&mut conn, answers(1, 5)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(conn);
    let report = insert.execute(&pool, answers(1, 5)).await.unwrap();
    assert_eq!(report.written, 5);
}

#[tokio::test]
async fn a_connection_lost_during_the_commit_leaves_its_outcome_unknown() {
    let schema = "CREATE TABLE fragile (n bigint);
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON fragile DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION lose()";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "fragile")]
    struct Fragile {
        n: i64,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let rows = vec![Fragile { n: 1 }; 3];
    let insert = BulkInsert::<Fragile>::new();
    let error = insert.execute(&pool, rows).await.unwrap_err();
    assert!(
        matches!(error, BatchError::CommitUnknown { rows: 3, .. }),
        "{error:?}"
    );
    assert!(!error.is_retryable());
}

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "people")]
struct Person {
    #[bulk(key)]
    id: i64,
    email: String,
    name: Option<String>,
    age: i64,
}

const PEOPLE: &str = "CREATE TABLE people (
    id bigint CONSTRAINT id PRIMARY KEY,
    email text NOT NULL CONSTRAINT email UNIQUE,
    name varchar(4) NOT NULL,
    age smallint NOT NULL CONSTRAINT age CHECK (age < 90)
);
CREATE FUNCTION grown() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM people) > 50 THEN RAISE EXCEPTION 'too old'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER grown BEFORE INSERT ON people FOR EACH ROW WHEN (NEW.age > 80)
EXECUTE FUNCTION grown()";

fn person(range: i64) -> impl Strategy<Value = Person> {
    let email = (0..range * 2).prop_map(|n| format!("{n}@x"));
    let name = prop_oneof![30 => Just(Some("n")), 1 => Just(None), 1 => Just(Some("too long"))];
    let age = prop_oneof![30 => 0..80_i64, 1 => 80..100_i64, 1 => Just(100_000)];
    (0..range, email, name, age).prop_map(|(id, email, name, age)| Person {
        id,
        email,
        name: name.map(str::to_owned),
        age,
    })
}

type Refused = (usize, Option<String>, Option<String>);

async fn one_by_one(
    conn: &mut PgConnection,
    rows: &[Person],
    conflict: &OnConflict,
) -> (u64, Vec<Refused>) {
    let sql = match conflict {
        OnConflict::DoNothing => {
            "INSERT INTO people VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING"
        }
        OnConflict::Update => {
            "INSERT INTO people VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET
             email = excluded.email, name = excluded.name, age = excluded.age"
        }
        _ => "INSERT INTO people VALUES ($1, $2, $3, $4)",
    };
    let (mut written, mut failed) = (0, Vec::new());
    let mut tx = conn.begin().await.unwrap();
    for (index, row) in rows.iter().enumerate() {
        let again = |later: &Person| later.id == row.id;
        if *conflict == OnConflict::Update && rows[index + 1..].iter().any(again) {
            continue;
        }
        let mut savepoint = tx.begin().await.unwrap();
        let query = sqlx::query(sql).bind(row.id).bind(&row.email);
        let query = query.bind(&row.name).bind(row.age);
        match query.execute(&mut *savepoint).await {
            Ok(done) => {
                written += done.rows_affected();
                savepoint.commit().await.unwrap();
            }
            Err(error) => {
                let error = error.as_database_error().unwrap();
                let constraint = error.constraint().map(str::to_owned);
                let code = error.code().map(|code| code.into_owned());
                failed.push((index, code, constraint));
                savepoint.rollback().await.unwrap();
            }
        }
    }
    tx.commit().await.unwrap();
    (written, failed)
}

async fn agree(pool: &PgPool, rows: Vec<Person>, conflict: OnConflict) {
    let content = "SELECT string_agg(p::text, ';' ORDER BY id) FROM people p";
    let content =
        async || -> Option<String> { sqlx::query_scalar(content).fetch_one(pool).await.unwrap() };
    let clear = async || {
        sqlx::raw_sql("DELETE FROM people; INSERT INTO people VALUES (5, 'five@x', 'five', 5)")
            .execute(pool)
            .await
            .unwrap();
    };
    clear().await;
    let mut conn = pool.acquire().await.unwrap();
    let (written, refused) = one_by_one(&mut conn, &rows, &conflict).await;
    drop(conn);
    let wanted = content().await;
    clear().await;
    let given = rows.len() as u64;
    let report = BulkInsert::<Person>::new()
        .on_conflict(conflict)
        .on_row_error(OnRowError::Skip)
        .execute(pool, rows)
        .await
        .unwrap();
    let ours: Vec<Refused> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.clone(), f.constraint.clone()))
        .collect();
    assert_eq!(ours, refused);
    assert_eq!(report.written, written);
    let failed = report.failed.len() as u64;
    assert_eq!(
        report.written + report.ignored + report.deduplicated + failed,
        given
    );
    assert_eq!(content().await, wanted);
}

#[test]
fn the_fallback_agrees_with_rows_inserted_one_by_one() {
    let rt = Runtime::new().unwrap();
    let Some(pool) = rt.block_on(pool(PEOPLE, 2)) else {
        return;
    };
    let rows = (prop_oneof![Just(20_i64), Just(4000)], 0..150_usize)
        .prop_flat_map(|(range, n)| proptest::collection::vec(person(range), n));
    let conflict = prop_oneof![
        Just(OnConflict::Error),
        Just(OnConflict::DoNothing),
        Just(OnConflict::Update)
    ];
    let config = ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(rows in rows, conflict in conflict)| {
        rt.block_on(agree(&pool, rows, conflict));
    });
}
