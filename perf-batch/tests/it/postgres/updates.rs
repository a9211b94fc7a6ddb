use std::collections::BTreeMap;

use perf_batch::{
    BatchError, BulkDelete, BulkInsert, BulkRow, BulkUpdate, OnConflict, OnRowError, Path,
};
use sqlx::types::{Json, Uuid};

use super::{ANSWERS, Answer, answers, count, pool};

#[derive(Debug, Clone, PartialEq, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Happy,
    Sad,
}

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "people")]
struct Person {
    #[bulk(key)]
    id: Uuid,
    mood: Option<Mood>,
    tags: Vec<String>,
    doc: Json<BTreeMap<String, i64>>,
    text: Json<i64>,
    #[bulk(pg_type = "inet")]
    address: Option<String>,
    small: i64,
}

const PEOPLE: &str = "CREATE TYPE mood AS ENUM ('happy', 'sad');
    CREATE TABLE people (
        id uuid PRIMARY KEY, mood mood, tags text[], doc jsonb, text json, address inet,
        small smallint CONSTRAINT small CHECK (small < 1000)
    )";

fn person(n: u32, step: i64) -> Person {
    Person {
        id: Uuid::from_u128(n.into()),
        mood: (!n.is_multiple_of(5)).then_some(if step == 0 { Mood::Happy } else { Mood::Sad }),
        tags: vec!["t".into(); n as usize % 3],
        doc: Json(BTreeMap::from([("step".into(), step)])),
        text: Json(step),
        address: (!n.is_multiple_of(3)).then(|| format!("10.0.0.{step}")),
        small: step,
    }
}

#[tokio::test]
async fn columns_of_any_type_are_updated() {
    let Some(pool) = pool(PEOPLE, 1).await else {
        return;
    };
    let people = |step| (0..500).map(move |n| person(n, step)).collect::<Vec<_>>();
    BulkInsert::<Person>::new()
        .execute(&pool, people(0))
        .await
        .unwrap();
    let update = BulkUpdate::<Person>::by_key().on_row_error(OnRowError::Skip);
    let mut rows = people(1);
    rows[77].small = 1_000;
    rows[99].small = 100_000;
    rows.push(person(1_000, 1));
    let report = update.execute(&pool, rows.clone()).await.unwrap();
    assert_eq!(
        (report.written, report.ignored, report.path),
        (498, 1, Path::Values)
    );
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.as_deref(), f.constraint.as_deref()))
        .collect();
    assert_eq!(
        failed,
        [
            (77, Some("23514"), Some("small")),
            (99, Some("22003"), None)
        ]
    );
    assert_eq!(report.failed[0].row, rows[77]);
    let right = "SELECT count(*) FROM people
        WHERE small = 1 AND mood IS NOT DISTINCT FROM CASE WHEN mod(('x' || right(id::text, 4))::bit(16)::int, 5) <> 0 THEN 'sad'::mood END
        AND doc = '{\"step\": 1}' AND text::text = '1' AND coalesce(address, '10.0.0.1') = '10.0.0.1'
        AND coalesce(cardinality(tags), 0) = mod(('x' || right(id::text, 4))::bit(16)::int, 3)";
    assert_eq!(count(&pool, right).await, 498);
}

#[tokio::test]
async fn a_unique_column_that_rows_hand_on_is_checked_row_by_row() {
    #[derive(Debug, Clone, PartialEq, BulkRow)]
    #[bulk(table = "seats")]
    struct Seat {
        #[bulk(key)]
        id: i64,
        name: String,
    }
    let seat = |id, name: &str| Seat {
        id,
        name: name.into(),
    };
    for kind in ["", "DEFERRABLE"] {
        let Some(pool) = pool("SELECT 1", 1).await else {
            return;
        };
        let sql = format!("CREATE TABLE seats (id bigint PRIMARY KEY, name text UNIQUE {kind})");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
        let rows = vec![seat(1, "a"), seat(2, "b"), seat(3, "c")];
        BulkInsert::<Seat>::new()
            .execute(&pool, rows)
            .await
            .unwrap();
        let update = BulkUpdate::<Seat>::by_key().on_row_error(OnRowError::Skip);
        // A swap: each takes what the other still has.
        let rows = vec![seat(2, "a"), seat(1, "b"), seat(3, "d"), seat(4, "x")];
        let report = update.execute(&pool, rows).await.unwrap();
        let failed: Vec<_> = report.failed.iter().map(|failure| failure.index).collect();
        assert_eq!(
            (failed, report.written, report.ignored),
            (vec![0, 1], 1, 1),
            "{kind}"
        );
        let report = update
            .execute(&pool, vec![seat(3, "e"), seat(2, "d"), seat(1, "b")])
            .await
            .unwrap();
        assert_eq!((report.written, report.failed.len()), (3, 0), "{kind}");
    }
}

#[tokio::test]
async fn updates_and_upserts_of_shuffled_keys_do_not_deadlock() {
    let Some(pool) = pool(ANSWERS, 3).await else {
        return;
    };
    let upsert = BulkInsert::<Answer>::new().on_conflict(OnConflict::Update);
    let update = BulkUpdate::<Answer>::by_key();
    upsert.execute(&pool, answers(1, 200)).await.unwrap();
    for round in 0..50_usize {
        let turned = |by: usize| {
            let mut rows = answers(1, 200);
            rows.rotate_left((by + round * 13) % 200);
            if by.is_multiple_of(2) {
                rows.reverse();
            }
            rows
        };
        let (a, b, c) = tokio::join!(
            update.execute(&pool, turned(0)),
            update.execute(&pool, turned(77)),
            upsert.execute(&pool, turned(130)),
        );
        for report in [a, b, c] {
            assert_eq!(report.unwrap().written, 200);
        }
    }
}

#[tokio::test]
async fn a_delete_that_skips_names_the_rows_that_are_still_referred_to() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "parents")]
    struct Parent {
        #[bulk(key)]
        id: i64,
        name: String,
    }
    let schema = "CREATE TABLE parents (id bigint PRIMARY KEY, name text);
        CREATE TABLE children (parent bigint CONSTRAINT of_parent REFERENCES parents);
        INSERT INTO parents SELECT n, 'p' FROM generate_series(0, 99) n;
        INSERT INTO children VALUES (7), (42)";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let keys: Vec<i64> = (0..100).collect();
    let delete = BulkDelete::<Parent>::by_key();
    let error = delete.execute(&pool, keys.clone()).await.unwrap_err();
    assert!(
        matches!(error, BatchError::Row { index: 7, .. }),
        "{error:?}"
    );
    let skip = delete.on_row_error(OnRowError::Skip);
    let limited = skip.clone().skip_limit(1).execute(&pool, keys.clone());
    let error = limited.await.unwrap_err();
    assert!(matches!(error, BatchError::SkipLimit { .. }), "{error:?}");
    assert_eq!(count(&pool, "SELECT count(*) FROM parents").await, 100);
    let report = skip.execute(&pool, keys).await.unwrap();
    let failed: Vec<_> = report.failed.iter().map(|f| (f.index, f.row)).collect();
    assert_eq!((report.written, failed), (98, vec![(7, 7), (42, 42)]));
    assert_eq!(report.failed[0].constraint.as_deref(), Some("of_parent"));
    assert_eq!(count(&pool, "SELECT count(*) FROM parents").await, 2);
}
