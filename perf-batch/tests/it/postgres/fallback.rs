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
