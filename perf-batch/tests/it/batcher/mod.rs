//! The batcher over a real database.

mod random;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use perf_batch::{
    AddError, BatchError, Batcher, BulkInsert, BulkRow, BulkValues, OnConflict, ValueSink,
};
use sqlx::error::BoxDynError;
use sqlx::{Database, Encode, Type};

use crate::support::drop_after;
use crate::support::lite::Lite;

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "numbers")]
struct Number {
    #[bulk(key)]
    n: i64,
    positive: i64,
}

const NUMBERS: &str =
    "CREATE TABLE numbers (n INTEGER PRIMARY KEY, positive INTEGER CHECK (positive > 0))";

fn good(n: i64) -> Number {
    Number { n, positive: 1 }
}

fn bad(n: i64) -> Number {
    Number { n, positive: -1 }
}

#[tokio::test]
async fn each_caller_gets_its_own_outcome() {
    let lite = Lite::new(NUMBERS).await;
    let batcher = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new()).spawn();
    let tickets: Vec<_> = (0..200)
        .map(|n| batcher.try_add(if n % 10 == 3 { bad(n) } else { good(n) }))
        .collect();
    for (n, ticket) in (0..).zip(tickets) {
        match ticket.unwrap().await {
            Ok(()) => assert_ne!(n % 10, 3),
            Err(AddError::Refused(failure)) => {
                assert_eq!(failure.row, bad(n));
                assert_eq!(failure.code.as_deref(), Some("275"));
                assert_eq!(failure.constraint.as_deref(), Some("positive > 0"));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(lite.count("SELECT count(*) FROM numbers").await, 180);
}

#[tokio::test]
async fn a_lone_row_is_written_ignored_updated_or_refused() {
    let lite = Lite::new(NUMBERS).await;
    let spawn = |conflict| {
        let insert = BulkInsert::<Number>::new().on_conflict(conflict);
        Batcher::builder(lite.pool.clone(), insert).spawn()
    };
    let plain = spawn(OnConflict::Error);
    plain.add(good(1)).await.unwrap();
    match plain.add(good(1)).await.unwrap_err() {
        AddError::Refused(failure) => {
            assert_eq!((failure.index, failure.row), (0, good(1)));
            assert_eq!(failure.code.as_deref(), Some("1555"));
        }
        other => panic!("{other:?}"),
    }
    let five = Number { n: 1, positive: 5 };
    let saved = "SELECT positive FROM numbers WHERE n = 1";
    spawn(OnConflict::DoNothing)
        .add(five.clone())
        .await
        .unwrap();
    assert_eq!(lite.count(saved).await, 1);
    spawn(OnConflict::Update).add(five).await.unwrap();
    assert_eq!(lite.count(saved).await, 5);
}

#[tokio::test]
async fn a_caller_that_goes_at_any_await_leaves_its_row_written_and_the_pool_usable() {
    let lite = Lite::with_connections(NUMBERS, 1).await;
    let letters = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&letters);
    let batcher = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new())
        .dead_letter(move |failure| taken.lock().unwrap().push(failure.into_row().unwrap()))
        .spawn();
    for polls in 0_u8..4 {
        let n = i64::from(polls) * 10;
        let a = drop_after(polls.into(), batcher.add(good(n)));
        let b = drop_after(polls.into(), batcher.add(bad(n + 1)));
        let (a, b) = tokio::join!(a, b);
        batcher.flush().await.unwrap();
        let count = lite.count("SELECT count(*) FROM numbers").await;
        let letters = std::mem::take(&mut *letters.lock().unwrap());
        match polls {
            // Never polled, never accepted.
            0 => assert_eq!((count, letters), (0, vec![])),
            _ => {
                assert_eq!(count, i64::from(polls), "after {polls} polls");
                assert!(a.is_none_or(|outcome| outcome.is_ok()));
                match b {
                    None => assert_eq!(letters, [bad(n + 1)]),
                    Some(outcome) => {
                        assert!(matches!(outcome, Err(AddError::Refused(_))));
                        assert!(letters.is_empty());
                    }
                }
            }
        }
    }
    batcher.shutdown().await.unwrap();
    sqlx::query("SELECT 1").execute(&lite.pool).await.unwrap();
}

/// Encodes at the call that adds it, and panics at the one that writes it.
#[derive(Debug, Clone)]
struct Fickle {
    n: i64,
    calls: Arc<std::sync::atomic::AtomicUsize>,
    panics: bool,
}

impl<DB: Database> BulkValues<DB> for Fickle
where
    i64: for<'q> Encode<'q, DB> + Type<DB>,
{
    fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        let calls = self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert!(!self.panics || calls == 0, "fickle");
        sink.push(self.n)?;
        sink.push(1_i64)
    }
}

#[tokio::test]
async fn a_row_that_panics_when_it_is_written_is_refused_alone() {
    let lite = Lite::with_connections(NUMBERS, 1).await;
    let insert = BulkInsert::<Fickle>::into_table(Number::table());
    let batcher = Batcher::builder(lite.pool.clone(), insert).spawn();
    let tickets: Vec<_> = (0..20)
        .map(|n| {
            let row = Fickle {
                n,
                calls: Arc::default(),
                panics: n == 7,
            };
            batcher.try_add(row).unwrap()
        })
        .collect();
    for (n, ticket) in (0..).zip(tickets) {
        match ticket.await {
            Ok(()) => assert_ne!(n, 7),
            Err(AddError::Refused(failure)) => {
                assert_eq!((n, failure.row.n), (7, 7));
                assert_eq!(failure.message, "writing the row panicked: fickle");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(lite.count("SELECT count(*) FROM numbers").await, 19);
}

#[tokio::test]
async fn a_table_that_cannot_be_written_to_is_told_to_every_caller() {
    let lite = Lite::new("CREATE TABLE other (n INTEGER)").await;
    let batcher = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new()).spawn();
    for rows in [1, 3] {
        let tickets: Vec<_> = (0..rows).map(|n| batcher.try_add(good(n))).collect();
        for ticket in tickets {
            match ticket.unwrap().await {
                Err(AddError::Batch { source, .. }) => {
                    assert!(matches!(*source, BatchError::Database { .. }));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn deferred_constraints_are_told_to_their_row_alone() {
    let lite = Lite::new(
        "CREATE TABLE parents (n INTEGER PRIMARY KEY);
        INSERT INTO parents VALUES (1);
        CREATE TABLE numbers (n INTEGER, positive INTEGER
            REFERENCES parents (n) DEFERRABLE INITIALLY DEFERRED)",
    )
    .await;
    let batcher = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new()).spawn();
    let tickets = [1, 9, 1].map(|positive| batcher.try_add(Number { n: 0, positive }).unwrap());
    let mut refused = Vec::new();
    for ticket in tickets {
        match ticket.await {
            Ok(()) => {}
            Err(AddError::Refused(failure)) => refused.push(failure.row.positive),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, [9]);
    assert_eq!(lite.count("SELECT count(*) FROM numbers").await, 2);
}

#[test]
fn a_batcher_counts_what_it_does() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        rt.block_on(async {
            let lite = Lite::new(NUMBERS).await;
            let batcher = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new())
                .max_batch_size(3)
                .linger(Duration::from_secs(60))
                .spawn();
            for n in 0..5 {
                drop(
                    batcher
                        .try_add(if n == 1 { bad(n) } else { good(n) })
                        .unwrap(),
                );
            }
            batcher.flush().await.unwrap();
            drop(batcher.try_add(good(9)).unwrap());
            batcher.shutdown().await.unwrap();
            let late = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new())
                .delivery_timeout(Duration::ZERO)
                .spawn();
            let outcome = late.add(good(10)).await;
            assert!(matches!(outcome, Err(AddError::Timeout(_))));
        });
    });
    let seen: Vec<(String, DebugValue)> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, description, value)| {
            let key = key.key();
            assert!(description.is_some(), "{} is described", key.name());
            let labels = key.labels().filter(|label| label.key() != "batch");
            let labels: Vec<_> = labels.map(|label| label.value()).collect();
            (format!("{}/{}", key.name(), labels.join(",")), value)
        })
        .collect();
    let value = |name: &str| match seen.iter().find(|(n, _)| n == name) {
        Some((_, DebugValue::Counter(n))) => *n,
        Some((_, DebugValue::Histogram(values))) => values.len() as u64,
        other => panic!("{name} is {other:?}"),
    };
    for (name, expected) in [
        ("batch_size/", 3),
        ("batch_wait_seconds/", 6),
        ("batch_flush_duration_seconds/size", 1),
        ("batch_flush_duration_seconds/flush", 1),
        ("batch_flush_duration_seconds/shutdown", 1),
        ("batch_items_total/written", 5),
        ("batch_items_total/failed", 2),
        ("batch_commits_total/", 3),
        ("batch_fallbacks_total/", 1),
        ("batch_dead_letters_total/", 1),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}
