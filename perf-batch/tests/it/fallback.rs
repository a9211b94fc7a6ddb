//! The refused rows are those that fail when the rows are inserted one by one.

use perf_batch::{BulkInsert, BulkRow, OnConflict, OnRowError};
use proptest::prelude::*;
use sqlx::SqliteConnection;
use tokio::runtime::Runtime;

use crate::support::lite::Lite;

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "people")]
struct Person {
    #[bulk(key)]
    id: i64,
    email: String,
    name: Option<String>,
    age: i32,
}

// RAISE(FAIL) keeps what its statement did before, so the fallback needs its savepoints.
const PEOPLE: &str = "CREATE TABLE people (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    age INTEGER NOT NULL CHECK (age < 90)
);
CREATE TABLE log (id INTEGER);
CREATE TRIGGER grown BEFORE INSERT ON people WHEN NEW.age > 80
BEGIN
    INSERT INTO log VALUES (NEW.id);
    SELECT RAISE(FAIL, 'too old') WHERE (SELECT count(*) FROM people) > 30;
END";

const CLEAR: &str = "DELETE FROM people; DELETE FROM log;
    INSERT INTO people VALUES (1000, 'there@x', 'there', 1), (1001, 'also@x', 'also', 2)";

fn person(range: i64) -> impl Strategy<Value = Person> {
    let id = prop_oneof![20 => 0..range, 1 => 1000..1002_i64];
    let email = prop_oneof![20 => (0..range * 2).prop_map(|n| format!("{n}@x")), 1 => Just("there@x".into())];
    let name = prop_oneof![30 => Just(Some("n".into())), 1 => Just(None)];
    let age = prop_oneof![30 => 0..80_i32, 1 => 80..100_i32];
    (id, email, name, age).prop_map(|(id, email, name, age)| Person {
        id,
        email,
        name,
        age,
    })
}

fn people() -> impl Strategy<Value = Vec<Person>> {
    // Few duplicates in the wide range, nothing but duplicates in the narrow one.
    (
        prop_oneof![Just(20_i64), Just(400), Just(40_000)],
        0..400_usize,
    )
        .prop_flat_map(|(range, n)| proptest::collection::vec(person(range), n))
}

fn conflict() -> impl Strategy<Value = OnConflict> {
    prop_oneof![
        Just(OnConflict::Error),
        Just(OnConflict::DoNothing),
        Just(OnConflict::Update)
    ]
}

/// What each row came to: the rows the database wrote, and each refused row with its code.
type Outcome = (u64, Vec<(usize, String, String)>);

async fn one_by_one(
    conn: &mut SqliteConnection,
    rows: &[Person],
    conflict: &OnConflict,
) -> Outcome {
    let sql = match conflict {
        OnConflict::DoNothing => {
            "INSERT INTO people VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
        }
        OnConflict::Update => {
            "INSERT INTO people VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
             email = excluded.email, name = excluded.name, age = excluded.age"
        }
        _ => "INSERT INTO people VALUES (?, ?, ?, ?)",
    };
    let (mut written, mut failed) = (0, Vec::new());
    let command = async |conn: &mut SqliteConnection, sql: &'static str| {
        sqlx::raw_sql(sql).execute(conn).await.unwrap();
    };
    command(conn, "BEGIN IMMEDIATE").await;
    for (index, row) in rows.iter().enumerate() {
        let again = |later: &Person| later.id == row.id;
        if *conflict == OnConflict::Update && rows[index + 1..].iter().any(again) {
            continue;
        }
        command(conn, "SAVEPOINT one").await;
        let query = sqlx::query(sql)
            .bind(row.id)
            .bind(&row.email)
            .bind(&row.name);
        match query.bind(row.age).execute(&mut *conn).await {
            Ok(done) => written += done.rows_affected(),
            Err(error) => {
                let error = error.into_database_error().unwrap();
                let code = error.code().unwrap().into_owned();
                failed.push((index, code, error.message().to_owned()));
                command(conn, "ROLLBACK TO one").await;
            }
        }
        command(conn, "RELEASE one").await;
    }
    command(conn, "COMMIT").await;
    (written, failed)
}

async fn content(lite: &Lite) -> Vec<(i64, String, String, i64)> {
    sqlx::query_as(
        "SELECT id, email, name, age FROM people UNION ALL SELECT id, 'log', '', 0 FROM log ORDER BY 1, 2",
    )
    .fetch_all(&lite.pool)
    .await
    .unwrap()
}

async fn agree(ours: &Lite, reference: &Lite, rows: Vec<Person>, conflict: OnConflict) {
    for lite in [ours, reference] {
        sqlx::raw_sql(CLEAR).execute(&lite.pool).await.unwrap();
    }
    let report = BulkInsert::<Person>::new()
        .on_conflict(conflict.clone())
        .on_row_error(OnRowError::Skip)
        .execute(&ours.pool, rows.clone())
        .await
        .unwrap();
    let mut conn = reference.pool.acquire().await.unwrap();
    let (written, failed) = one_by_one(&mut conn, &rows, &conflict).await;
    drop(conn);

    let given = rows.len() as u64;
    assert_eq!(report.given, given);
    let named = report.failed.len() as u64;
    assert_eq!(
        report.written + report.ignored + report.deduplicated + named,
        given
    );
    let ours_failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.clone().unwrap(), f.message.clone()))
        .collect();
    assert_eq!(ours_failed, failed);
    for failure in &report.failed {
        assert_eq!(failure.row, rows[failure.index]);
    }
    assert_eq!(report.written, written);
    assert_eq!(content(ours).await, content(reference).await);
}

#[test]
fn the_fallback_agrees_with_rows_inserted_one_by_one() {
    let rt = Runtime::new().unwrap();
    let (ours, reference) =
        rt.block_on(async { (Lite::new(PEOPLE).await, Lite::new(PEOPLE).await) });
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(rows in people(), conflict in conflict())| {
        rt.block_on(agree(&ours, &reference, rows, conflict));
    });
}

#[test]
fn abort_names_a_row_that_fails_one_by_one_and_writes_nothing() {
    let rt = Runtime::new().unwrap();
    let (ours, reference) =
        rt.block_on(async { (Lite::new(PEOPLE).await, Lite::new(PEOPLE).await) });
    let config = ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(rows in people())| {
        rt.block_on(async {
            for lite in [&ours, &reference] {
                sqlx::raw_sql(CLEAR).execute(&lite.pool).await.unwrap();
            }
            let given = rows.len() as u64;
            let mut conn = reference.pool.acquire().await.unwrap();
            let (_, failed) = one_by_one(&mut conn, &rows, &OnConflict::Error).await;
            let result = BulkInsert::<Person>::new().execute(&ours.pool, rows).await;
            match (result, failed.first()) {
                (Ok(report), None) => assert_eq!(report.written, given),
                (Err(perf_batch::BatchError::Row { index, code, .. }), Some(first)) => {
                    assert_eq!((index, code.as_ref()), (first.0, Some(&first.1)));
                    assert_eq!(content(&ours).await.len(), 2);
                }
                (result, failed) => panic!("{result:?}, one by one {failed:?}"),
            }
        });
    });
}

#[tokio::test]
async fn a_bad_row_in_a_thousand_costs_few_statements() {
    let lite = Lite::new(PEOPLE).await;
    for (bad, most) in [(1, 50), (10, 250), (100, 1300)] {
        sqlx::raw_sql(CLEAR).execute(&lite.pool).await.unwrap();
        let rows = (0..1000).map(|n| Person {
            id: n,
            email: format!("{n}@x"),
            name: (n % (1000 / bad) != 7 % (1000 / bad)).then(|| "n".into()),
            age: 1,
        });
        let report = BulkInsert::<Person>::new()
            .on_row_error(OnRowError::Skip)
            .execute(&lite.pool, rows.collect())
            .await
            .unwrap();
        assert_eq!(report.failed.len(), bad as usize);
        assert!(
            report.statements <= most,
            "{bad} bad rows: {} statements",
            report.statements
        );
    }
}
