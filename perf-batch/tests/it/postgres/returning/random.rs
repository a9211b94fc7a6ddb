//! Any batch returns what its rows return if they are inserted one by one.

use std::collections::HashMap;

use perf_batch::{BulkInsert, BulkRow, OnConflict, OnRowError};
use proptest::prelude::*;
use sqlx::postgres::PgPool;
use sqlx::{Acquire, PgConnection};
use tokio::runtime::Runtime;

use super::pool;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "people")]
struct Person {
    #[bulk(key)]
    code: Option<i64>,
    email: String,
    age: i64,
}

const PEOPLE: &str = "CREATE TABLE people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code bigint UNIQUE,
    email text NOT NULL UNIQUE,
    age smallint NOT NULL CHECK (age < 90)
)";

const WITH_TRIGGER: &str = "CREATE FUNCTION turn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.id := 1000000 - NEW.id;
        RETURN CASE WHEN NEW.age % 10 <> 3 THEN NEW END;
    END $$;
    CREATE TRIGGER turn BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION turn()";

fn person(range: i64) -> impl Strategy<Value = Person> {
    let code = prop_oneof![20 => (0..range).prop_map(Some), 1 => Just(None)];
    let age = prop_oneof![40 => 0..90_i64, 1 => 90..100_i64, 1 => Just(100_000)];
    (code, 0..range * 9, age).prop_map(|(code, email, age)| Person {
        code,
        email: format!("{email}@x"),
        age,
    })
}

/// For each row the email of the row it returned, which is its own unless it conflicts; and the rows
/// refused.
type Outcome = (Vec<Option<String>>, Vec<usize>);

async fn one_by_one(conn: &mut PgConnection, rows: &[Person], conflict: &OnConflict) -> Outcome {
    let sql = match conflict {
        OnConflict::DoNothing => {
            "INSERT INTO people (code, email, age) VALUES ($1, $2, $3)
             ON CONFLICT (code) DO NOTHING RETURNING id"
        }
        OnConflict::Update => {
            "INSERT INTO people (code, email, age) VALUES ($1, $2, $3) ON CONFLICT (code) DO UPDATE
             SET email = excluded.email, age = excluded.age RETURNING id"
        }
        _ => "INSERT INTO people (code, email, age) VALUES ($1, $2, $3) RETURNING id",
    };
    let (mut ids, mut failed) = (vec![None; rows.len()], Vec::new());
    let mut tx = conn.begin().await.unwrap();
    for (index, row) in rows.iter().enumerate() {
        let again = |later: &Person| later.code == row.code && row.code.is_some();
        if *conflict == OnConflict::Update && rows[index + 1..].iter().any(again) {
            continue;
        }
        let mut savepoint = tx.begin().await.unwrap();
        let query = sqlx::query_scalar(sql).bind(row.code);
        let query = query.bind(&row.email).bind(row.age);
        match query.fetch_optional(&mut *savepoint).await {
            Ok(id) => {
                ids[index] = id;
                savepoint.commit().await.unwrap();
            }
            Err(_) => {
                failed.push(index);
                savepoint.rollback().await.unwrap();
            }
        }
    }
    tx.commit().await.unwrap();
    if *conflict == OnConflict::Update {
        for (index, row) in rows.iter().enumerate() {
            let last = rows.iter().rposition(|later| later.code == row.code);
            if row.code.is_some() {
                ids[index] = ids[last.unwrap()];
            }
        }
    }
    (emails(conn, ids).await, failed)
}

async fn emails(conn: &mut PgConnection, ids: Vec<Option<i64>>) -> Vec<Option<String>> {
    let all: Vec<(i64, String)> = sqlx::query_as("SELECT id, email FROM people")
        .fetch_all(conn)
        .await
        .unwrap();
    let all: HashMap<i64, String> = all.into_iter().collect();
    let ids = ids.into_iter();
    ids.map(|id| id.map(|id| all[&id].clone())).collect()
}

async fn agree(pool: &PgPool, rows: Vec<Person>, conflict: OnConflict) {
    let clear = async || {
        let sql = "DELETE FROM people; INSERT INTO people (code, email, age) VALUES
            (3, 'three@x', 4), (5, '5@x', 5), (NULL, '6@x', 6)";
        sqlx::raw_sql(sql).execute(pool).await.unwrap();
    };
    clear().await;
    let mut conn = pool.acquire().await.unwrap();
    let wanted = one_by_one(&mut conn, &rows, &conflict).await;
    clear().await;
    let (report, ids) = BulkInsert::<Person>::new()
        .on_conflict(conflict)
        .on_row_error(OnRowError::Skip)
        .returning("id")
        .execute(&mut conn, rows)
        .await
        .unwrap();
    let failed = report.failed.iter().map(|row| row.index).collect();
    assert_eq!((emails(&mut conn, ids).await, failed), wanted);
}

fn any_batch_agrees(more: &'static str) {
    let rt = Runtime::new().unwrap();
    let Some(pool) = rt.block_on(pool(PEOPLE, 2)) else {
        return;
    };
    rt.block_on(sqlx::raw_sql(more).execute(&pool)).unwrap();
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

#[test]
fn any_batch_returns_what_rows_one_by_one_return() {
    any_batch_agrees("SELECT 1");
}

#[test]
fn any_batch_returns_what_rows_one_by_one_return_past_a_trigger() {
    any_batch_agrees(WITH_TRIGGER);
}
