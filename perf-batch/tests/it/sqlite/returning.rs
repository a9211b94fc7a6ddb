//! The values that rows return, each to its own row.

use std::collections::HashMap;

use perf_batch::{BatchError, BulkInsert, BulkRow, OnConflict, OnRowError};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::support::lite::Lite;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "notes")]
struct Note {
    #[bulk(key)]
    label: i64,
    text: String,
}

const NOTES: &str = "CREATE TABLE notes (
    id INTEGER PRIMARY KEY, label INTEGER UNIQUE, text TEXT CHECK (text <> 'bad')
)";

fn note(label: i64, text: &str) -> Note {
    let text = text.to_owned();
    Note { label, text }
}

fn shuffled(n: i64) -> Vec<Note> {
    (0..n).map(|at| note(at * 7919 % 100_003, "good")).collect()
}

/// What the table has for each row, found by its label.
async fn saved(lite: &Lite, rows: &[Note]) -> Vec<Option<i64>> {
    let saved: Vec<(i64, i64)> = sqlx::query_as("SELECT label, id FROM notes")
        .fetch_all(&lite.pool)
        .await
        .unwrap();
    let saved: HashMap<i64, i64> = saved.into_iter().collect();
    let of = |row: &Note| saved.get(&row.label).copied();
    rows.iter().map(of).collect()
}

#[tokio::test]
async fn ids_come_in_the_order_of_the_rows() {
    let lite = Lite::new(NOTES).await;
    let insert = BulkInsert::<Note>::new().returning("id");
    for n in [0, 1, 5_000, 10_000] {
        sqlx::raw_sql("DELETE FROM notes")
            .execute(&lite.pool)
            .await
            .unwrap();
        let rows = shuffled(n);
        let (report, ids) = insert
            .execute::<i64, _, _>(&lite.pool, rows.clone())
            .await
            .unwrap();
        assert_eq!(report.written, n as u64);
        assert!(ids.iter().all(Option::is_some));
        assert_eq!(ids, saved(&lite, &rows).await);
    }
}

#[tokio::test]
async fn rows_that_conflict_return_what_becomes_of_them() {
    let lite = Lite::new(NOTES).await;
    let insert = BulkInsert::<Note>::new();
    let first = shuffled(100);
    let ids = insert.clone().returning("id");
    let ids: Vec<Option<i64>> = ids.fetch_ids(&lite.pool, first).await.unwrap();
    let rows = shuffled(200);
    let ignore = insert.clone().on_conflict(OnConflict::DoNothing);
    let ignored: Vec<Option<i64>> = ignore
        .returning("id")
        .fetch_ids(&lite.pool, rows.clone())
        .await
        .unwrap();
    let saved = saved(&lite, &rows).await;
    assert_eq!(saved[..100], ids);
    assert_eq!(ignored[..100], [None; 100]);
    assert_eq!(ignored[100..], saved[100..]);
    let update = insert.on_conflict(OnConflict::Update).returning("id");
    let twice: Vec<Note> = rows.iter().chain(&rows[..7]).cloned().collect();
    let (report, updated) = update.execute(&lite.pool, twice).await.unwrap();
    assert_eq!((report.written, report.deduplicated), (200, 7));
    assert_eq!(updated[..200], saved);
    assert_eq!(updated[200..], saved[..7]);
}

#[tokio::test]
async fn a_row_that_a_trigger_leaves_out_returns_nothing() {
    let lite = Lite::new(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, label INTEGER UNIQUE, text TEXT);
        CREATE TRIGGER odd BEFORE INSERT ON notes WHEN NEW.label % 2
        BEGIN SELECT RAISE(IGNORE); END",
    )
    .await;
    let rows = shuffled(300);
    let insert = BulkInsert::<Note>::new().returning("id");
    let (report, ids) = insert
        .execute::<i64, _, _>(&lite.pool, rows.clone())
        .await
        .unwrap();
    assert_eq!(report.written as usize, ids.iter().flatten().count());
    assert_eq!(ids, saved(&lite, &rows).await);
}

#[tokio::test]
async fn inside_a_transaction_of_the_callers() {
    let lite = Lite::new(NOTES).await;
    let insert = BulkInsert::<Note>::new().returning("id");
    let rows = shuffled(50);
    let mut tx = lite.pool.begin().await.unwrap();
    let ids: Vec<Option<i64>> = insert.fetch_ids(&mut tx, rows.clone()).await.unwrap();
    let again = insert.fetch_ids::<i64, _, _>(&mut *tx, rows.clone()).await;
    assert!(matches!(again, Err(BatchError::Row { index: 0, .. })));
    tx.commit().await.unwrap();
    assert_eq!(ids, saved(&lite, &rows).await);
}

#[tokio::test]
async fn a_column_that_is_not_there_is_no_string() {
    let lite = Lite::new(NOTES).await;
    let insert = BulkInsert::<Note>::new().returning("nowhere");
    let error = insert
        .fetch_ids::<String, _, _>(&lite.pool, shuffled(3))
        .await;
    assert!(
        matches!(error, Err(BatchError::Database { .. })),
        "{error:?}"
    );
    assert_eq!(lite.count("SELECT count(*) FROM notes").await, 0);
}

#[tokio::test]
async fn a_value_of_another_type_writes_nothing() {
    let lite = Lite::new(NOTES).await;
    let insert = BulkInsert::<Note>::new().returning("text");
    let error = insert.fetch_ids::<i64, _, _>(&lite.pool, shuffled(3)).await;
    assert!(
        matches!(error, Err(BatchError::Database { .. })),
        "{error:?}"
    );
    assert_eq!(lite.count("SELECT count(*) FROM notes").await, 0);
}

#[test]
fn any_batch_returns_the_ids_of_the_rows_that_are_saved() {
    let rt = Runtime::new().unwrap();
    let lite = rt.block_on(Lite::new(NOTES));
    let text = prop_oneof![20 => Just("good"), 1 => Just("bad")];
    let rows = proptest::collection::vec((0..500_i64, text), 0..200);
    let config = ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(rows in rows)| {
        rt.block_on(async {
            sqlx::raw_sql("DELETE FROM notes").execute(&lite.pool).await.unwrap();
            let rows: Vec<Note> = rows.into_iter().map(|(label, text)| note(label, text)).collect();
            let (report, ids) = BulkInsert::<Note>::new()
                .on_row_error(OnRowError::Skip)
                .returning("id")
                .execute::<i64, _, _>(&lite.pool, rows.clone())
                .await
                .unwrap();
            let mut wanted = saved(&lite, &rows).await;
            for row in &report.failed {
                wanted[row.index] = None;
            }
            assert_eq!(ids, wanted);
            let mut seen = std::collections::HashSet::new();
            let first = |row: &Note| row.text != "bad" && seen.insert(row.label);
            let good = rows.iter().map(first).collect::<Vec<_>>();
            assert_eq!(ids.iter().map(Option::is_some).collect::<Vec<_>>(), good);
        });
    });
}
