use std::collections::BTreeSet;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use perf_batch::{BulkInsert, BulkRow, OnConflict, OnRowError};

use crate::support::lite::Lite;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "numbers")]
struct Number {
    #[bulk(key)]
    n: i64,
    positive: i64,
}

const NUMBERS: &str =
    "CREATE TABLE numbers (n INTEGER PRIMARY KEY, positive INTEGER CHECK (positive > 0))";

#[test]
fn a_batch_counts_itself_and_what_became_of_its_rows() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        rt.block_on(async {
            let lite = Lite::new(NUMBERS).await;
            let rows = |values: &[(i64, i64)]| -> Vec<Number> {
                values
                    .iter()
                    .map(|&(n, positive)| Number { n, positive })
                    .collect()
            };
            let insert = BulkInsert::<Number>::new().on_row_error(OnRowError::Skip);
            let execute = async |insert: BulkInsert<Number>, values: &[(i64, i64)]| {
                insert.execute(&lite.pool, rows(values)).await
            };
            execute(insert.clone(), &[(1, 1), (2, 0), (3, 1)])
                .await
                .unwrap();
            execute(
                insert.clone().on_conflict(OnConflict::DoNothing),
                &[(1, 1), (4, 1)],
            )
            .await
            .unwrap();
            execute(
                insert.clone().on_conflict(OnConflict::Update),
                &[(5, 1), (5, 2)],
            )
            .await
            .unwrap();
            execute(insert, &[]).await.unwrap();
            let mut tx = lite.pool.begin().await.unwrap();
            let nested = BulkInsert::<Number>::new().name("nested");
            nested.execute(&mut tx, rows(&[(9, 1)])).await.unwrap();
            tx.commit().await.unwrap();
            let abort = BulkInsert::<Number>::new().name("strict");
            execute(abort, &[(6, 1), (7, 0)]).await.unwrap_err();
        });
    });

    let seen: Vec<(String, String, DebugValue)> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, description, value)| {
            let name = key.key().name().to_owned();
            assert!(description.is_some(), "{name} is described");
            let labels: Vec<_> = key
                .key()
                .labels()
                .map(|l| format!("{}={}", l.key(), l.value()))
                .collect();
            (name, labels.join(","), value)
        })
        .collect();
    let value = |name: &str, labels: &str| {
        let found = seen.iter().find(|(n, l, _)| n == name && l == labels);
        match found.map(|(_, _, value)| value) {
            Some(DebugValue::Counter(n)) => *n,
            Some(DebugValue::Histogram(values)) => values.len() as u64,
            other => panic!("{name} {{{labels}}} is {other:?}"),
        }
    };
    let items = |outcome: &str| {
        value(
            "batch_items_total",
            &format!("batch=numbers,outcome={outcome}"),
        )
    };
    assert_eq!(
        [
            items("written"),
            items("ignored"),
            items("deduplicated"),
            items("failed")
        ],
        [4, 1, 1, 1]
    );
    assert_eq!(value("batch_commits_total", "batch=numbers"), 3);
    assert_eq!(value("batch_fallbacks_total", "batch=numbers"), 1);
    assert_eq!(value("batch_size", "batch=numbers"), 3);
    assert_eq!(
        value(
            "batch_flush_duration_seconds",
            "batch=numbers,reason=execute"
        ),
        3
    );
    assert_eq!(value("batch_items_total", "batch=strict,outcome=failed"), 2);
    assert_eq!(value("batch_commits_total", "batch=strict"), 0);
    assert_eq!(
        value("batch_items_total", "batch=nested,outcome=written"),
        1
    );
    assert_eq!(value("batch_commits_total", "batch=nested"), 0);
}

/// The names under which a batch of one row shows, inserted by what `insert` builds.
fn shown(insert: impl FnOnce() -> BulkInsert<Number>) -> BTreeSet<String> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        rt.block_on(async {
            let lite = Lite::new(NUMBERS).await;
            let rows = vec![Number { n: 1, positive: 1 }];
            insert().execute(&lite.pool, rows).await
        })
        .unwrap();
    });
    let keys = snapshotter.snapshot().into_vec().into_iter();
    keys.map(|(key, ..)| {
        let mut labels = key.key().labels();
        let batch = labels.find(|label| label.key() == "batch").unwrap();
        batch.value().to_owned()
    })
    .collect()
}

#[test]
fn a_batch_with_a_name_shows_under_no_other() {
    let names = shown(|| BulkInsert::new().name("strict"));
    assert_eq!(names, BTreeSet::from(["strict".into()]));
}

#[test]
fn a_batch_that_was_built_before_the_recorder_shows() {
    let insert = BulkInsert::new();
    let names = shown(|| insert);
    assert_eq!(names, BTreeSet::from(["numbers".into()]));
}
