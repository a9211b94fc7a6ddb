//! Whatever happens: a row is written once, or its caller or the dead letters are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perf_batch::{AddError, Batcher, BulkInsert};
use proptest::prelude::*;

use super::{NUMBERS, Number, bad, good};
use crate::support::drop_after;
use crate::support::lite::Lite;

#[derive(Debug, Clone)]
enum Op {
    /// Rows in one go; the flags say which are bad and whose callers leave.
    Add(Vec<(bool, bool)>),
    /// A caller that leaves after so many polls.
    Leave(bool, usize),
    Flush,
    /// Rows added while the table is away, so that their batches fail as a whole.
    Away(usize),
    Yield(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => proptest::collection::vec((any::<bool>(), any::<bool>()), 1..12).prop_map(Op::Add),
        3 => (any::<bool>(), 0_usize..4).prop_map(|(bad, polls)| Op::Leave(bad, polls)),
        1 => Just(Op::Flush),
        1 => (1_usize..6).prop_map(Op::Away),
        2 => (0_u8..6).prop_map(Op::Yield),
    ];
    proptest::collection::vec(op, 1..20)
}

fn row(n: i64, is_bad: bool) -> Number {
    if is_bad { bad(n) } else { good(n) }
}

/// What is known of the rows, by their number.
#[derive(Default)]
struct Known {
    written: BTreeSet<i64>,
    failed: BTreeSet<i64>,
    /// Accepted, and nobody waits for the outcome.
    left: BTreeSet<i64>,
    /// Accepted or not, and nobody waits.
    open: BTreeSet<i64>,
}

impl Known {
    fn told(&mut self, n: i64, outcome: Result<(), AddError<Number>>) {
        match outcome {
            Ok(()) => self.written.insert(n),
            Err(error) => {
                assert_eq!(error.into_row().map(|row| row.n), Some(n));
                self.failed.insert(n)
            }
        };
    }
}

async fn play(ops: Vec<Op>, size: usize, memory: usize, linger: u64) {
    let lite = Lite::with_connections(NUMBERS, 2).await;
    let letters: Arc<Mutex<Vec<i64>>> = Arc::default();
    let taken = Arc::clone(&letters);
    let batcher = Batcher::builder(lite.pool.clone(), BulkInsert::<Number>::new())
        .max_batch_size(size)
        .buffer_memory(memory)
        .linger(Duration::from_micros(linger))
        .dead_letter(move |failure| taken.lock().unwrap().push(failure.into_row().unwrap().n))
        .spawn();
    let (mut known, mut next) = (Known::default(), 0);
    let mut tickets = BTreeMap::new();
    let mut add = |known: &mut Known, is_bad, leaves| {
        next += 1;
        match batcher.try_add(row(next, is_bad)) {
            Ok(ticket) if leaves => {
                known.left.insert(next);
                drop(ticket);
            }
            Ok(ticket) => {
                tickets.insert(next, ticket);
            }
            Err(error) => assert!(matches!(error, AddError::Full(row) if row.n == next)),
        }
        next
    };
    for op in ops {
        match op {
            Op::Add(rows) => {
                for (is_bad, leaves) in rows {
                    add(&mut known, is_bad, leaves);
                }
            }
            Op::Leave(is_bad, polls) => {
                // Its number, by way of a row that has no caller.
                let n = add(&mut known, true, true) + 1_000_000;
                match drop_after(polls, batcher.add(row(n, is_bad))).await {
                    Some(outcome) => known.told(n, outcome),
                    None => {
                        known.open.insert(n);
                    }
                }
            }
            Op::Flush => batcher.flush().await.unwrap(),
            Op::Away(rows) => {
                let away = "ALTER TABLE numbers RENAME TO away";
                sqlx::query(away).execute(&lite.pool).await.unwrap();
                for at in 0..rows {
                    add(&mut known, false, at % 2 == 0);
                }
                batcher.flush().await.unwrap();
                let back = "ALTER TABLE away RENAME TO numbers";
                sqlx::query(back).execute(&lite.pool).await.unwrap();
            }
            Op::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    batcher.shutdown().await.unwrap();
    for (n, ticket) in tickets {
        known.told(n, ticket.await);
    }
    let saved: Vec<i64> = sqlx::query_scalar("SELECT n FROM numbers ORDER BY n")
        .fetch_all(&lite.pool)
        .await
        .unwrap();
    let letters = letters.lock().unwrap().clone();
    let dead: BTreeSet<i64> = letters.iter().copied().collect();
    assert_eq!(dead.len(), letters.len(), "no letter twice");
    let saved: BTreeSet<i64> = saved.into_iter().collect();
    assert!(saved.is_disjoint(&dead), "written and dead");
    assert!(dead.is_disjoint(&known.written) && dead.is_disjoint(&known.failed));
    assert!(known.written.is_subset(&saved), "told and not written");
    assert!(saved.is_disjoint(&known.failed), "written and failed");
    for n in &known.left {
        assert!(saved.contains(n) != dead.contains(n), "{n} is lost");
    }
    let known_to_all: BTreeSet<i64> = &(&known.written | &known.left) | &known.open;
    assert!(saved.is_subset(&known_to_all), "never accepted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_accepted_row_is_written_once_or_told(
        ops in ops(),
        size in 1_usize..20,
        memory in prop_oneof![Just(48_usize), Just(4_096)],
        linger in prop_oneof![Just(0_u64), Just(500)],
    ) {
        let rt = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        rt.block_on(play(ops, size, memory, linger));
    }
}
