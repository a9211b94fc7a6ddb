//! Very many jobs fall due, or are orphaned, in the same instant.

use std::time::{Duration, Instant};

use super::support::*;
use crate::remote::{NewJob, Remote, Rules, Want};

/// The instant of all of them, from the start of the test on.
const AHEAD: Duration = Duration::from_secs(3_600);
/// No call takes as long, on a busy machine either.
const LONG: Duration = Duration::from_secs(10);

/// The instant is over.
async fn come(remote: &crate::postgres::PostgresRemote) {
    let micros = i64::try_from(AHEAD.as_micros()).unwrap();
    remote.move_clock(micros).await;
}

async fn fill(remote: &crate::postgres::PostgresRemote, all: &[NewJob]) {
    for batch in all.chunks(1_000) {
        add(remote, batch).await;
    }
}

/// Takes and ends them all; gives how many there were and the longest call.
async fn drain(remote: &crate::postgres::PostgresRemote, n: usize) -> Duration {
    let (mut count, mut ended, mut longest) = (0, Vec::new(), Duration::ZERO);
    while count < n {
        let begun = Instant::now();
        let answer = remote.exchange(&ended, want(500)).await.unwrap();
        longest = longest.max(begun.elapsed());
        count += answer.granted.len();
        ended = answer.granted.iter().map(done).collect();
        if ended.is_empty() {
            tokio::time::sleep(answer.next.expect("there are jobs left").min(ms(50))).await;
        }
    }
    let last = remote.exchange(&ended, want(500)).await.unwrap();
    assert!(last.granted.is_empty() && last.lost.is_empty());
    assert_eq!(count, n);
    longest
}

#[tokio::test]
async fn fifty_thousand_jobs_due_in_the_same_instant_drain() {
    for keys in [0, 100] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        let begun = Instant::now();
        let mut all = Vec::new();
        for n in 0..50_000_usize {
            let key = n.checked_rem(keys).map(|n| n.to_string());
            all.push(job(&key.unwrap_or_default()));
        }
        for batch in all.chunks_mut(1_000) {
            let left = AHEAD - begun.elapsed();
            batch.iter_mut().for_each(|job| job.delay = left);
            add(&remote, batch).await;
        }
        come(&remote).await;
        let longest = drain(&remote, 50_000).await;
        assert!(longest < LONG, "{longest:?}");
    }
}

#[tokio::test]
async fn twenty_thousand_leases_orphaned_in_the_same_instant_drain() {
    for keys in [0, 100] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        let all: Vec<_> = (0..20_000_usize)
            .map(|n| {
                job(&n
                    .checked_rem(keys)
                    .map(|n| n.to_string())
                    .unwrap_or_default())
            })
            .collect();
        fill(&remote, &all).await;
        let begun = Instant::now();
        let mut count = 0;
        while count < 20_000 {
            let left = AHEAD - begun.elapsed();
            let ask = Want {
                lease: left,
                ..want(500)
            };
            count += remote.exchange(&[], ask).await.unwrap().granted.len();
        }
        assert_eq!(count, 20_000, "no lease was over yet");
        come(&remote).await;
        let longest = drain(&remote, 20_000).await;
        assert!(longest < LONG, "{longest:?}");
    }
}
