//! Servers that forget scripts, drop connections, end and come back.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redis::cmd;
use tokio::time::timeout;

use super::support::*;
use crate::redis::RedisRemote;
use crate::redis::connection::Connection;
use crate::redis::error::failed;
use crate::remote::{How, NewJob, Remote, Rules, Want};
use crate::{BackendError, JobId, Redis, Scope};

pub(super) async fn command<T: redis::FromRedisValue>(
    url: &str,
    words: &[&str],
) -> redis::RedisResult<T> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = cmd(words[0]);
    command.arg(&words[1..]).query_async(&mut connection).await
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_brought_again() {
    // Its own: others' calls come again once, and not twice.
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let url = own.url();
    let backend = Redis::connect(&url).allow_data_loss();
    let remote = backend.open("q", None).await.unwrap();
    let flush = || command::<()>(&url, &["SCRIPT", "FLUSH"]);
    flush().await.unwrap();
    remote.add(&jobs("k", 0..3)).await;
    flush().await.unwrap();
    let granted = remote.claim(2).await.granted;
    flush().await.unwrap();
    assert!(
        remote
            .extend(&[granted[0].lease], LEASE)
            .await
            .unwrap()
            .is_empty()
    );
    flush().await.unwrap();
    let dead = How::Dead {
        error: String::new(),
    };
    remote.settle(granted[0].lease, dead).await;
    flush().await.unwrap();
    assert_eq!(remote.dead(9).await.unwrap().len(), 1);
    flush().await.unwrap();
    assert_eq!(
        remote.replay(granted[0].lease.id).await.unwrap(),
        Some(true)
    );
    flush().await.unwrap();
    remote.set_rules(&one_per_key()).await.unwrap();
    flush().await.unwrap();
    assert_eq!(remote.counts().await.unwrap().in_flight, 1);
}

#[tokio::test]
async fn connections_that_were_killed_are_made_anew() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let url = own.url();
    let remote = Redis::connect(&url).open("q", None).await.unwrap();
    timeout(10 * LEASE, remote.woken()).await.unwrap();
    for round in 0..10 {
        let _: i64 = command(&url, &["CLIENT", "KILL", "TYPE", "normal"])
            .await
            .unwrap();
        let _: i64 = command(&url, &["CLIENT", "KILL", "TYPE", "pubsub"])
            .await
            .unwrap();
        // The one that was killed may fail, once; none after it.
        let batch = jobs("k", round..round + 1);
        if let Err(error) = remote.enqueue(&batch).await {
            assert!(error.is_retryable(), "{error}");
            remote.add(&batch).await;
        }
        timeout(10 * LEASE, remote.woken()).await.unwrap();
    }
    assert_eq!(remote.claim(100).await.granted.len(), 10);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_and_left_for_a_new_connection() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let backend = Redis::connect(own.url()).response_timeout(1_000 * MS);
    let remote = backend.open("q", None).await.unwrap();
    let signal = |signal: &str| {
        let pid = own.pid().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    let batch = jobs("k", 0..1);
    let error = remote.enqueue(&batch).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    signal("-CONT");
    // It has the job, and does not take it twice.
    remote.add(&batch).await;
    assert_eq!(remote.claim(100).await.granted.len(), 1);
}

/// One after the other, they would wait for ever longer.
#[tokio::test]
async fn calls_share_the_attempt_to_reach_a_server_that_is_silent() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let connections = AtomicUsize::new(0);
    let listen = async {
        let mut open = Vec::new();
        loop {
            open.push(silent.accept().await.unwrap());
            connections.fetch_add(1, Ordering::SeqCst);
        }
    };
    let server = Connection::new(redis::Client::open(url).unwrap(), 100 * MS);
    let server = &server;
    let calls = (0..8).map(|_| async move { server.query::<()>(&cmd("PING")).await });
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let calls = std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(answer) => {
                assert!(failed(answer.unwrap_err()).is_retryable());
                false
            }
        });
        match calls.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    });
    tokio::select! {
        () = calls => {}
        () = listen => {}
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// As one without an append-only file that crashes.
#[tokio::test]
async fn limits_that_the_server_forgot_are_set_again_before_any_job_is_granted() {
    let once = quota(1, LONG, 1);
    let rules = Rules {
        queue: Some(once),
        ..one_per_key()
    };
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let backend = Redis::connect(own.url());
    let remote = backend.open("q", Some(&rules)).await.unwrap();
    let forget = async || {
        command::<()>(&own.url(), &["FLUSHALL"]).await.unwrap();
        remote.add(&jobs("a", 0..3)).await;
        remote.add(&jobs("b", 3..6)).await;
    };
    forget().await;
    assert_eq!(remote.claim(9).await.granted.len(), 1);
    assert_eq!(remote.rules().await.unwrap(), Some(rules));
    // Those that were set while running, too.
    remote.set_rate(Scope::Queue, None).await.unwrap();
    remote.set_rate(Scope::Key, Some(once)).await.unwrap();
    forget().await;
    assert_eq!(remote.claim(9).await.granted.len(), 2);
    assert_eq!(remote.claim(9).await.granted.len(), 0);
}

#[tokio::test]
async fn a_queue_outlives_restarts_and_crashes_of_its_server() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let rules = Rules {
        key: Some(quota(1_000, Duration::from_secs(1), 1)),
        ..one_per_key()
    };
    let remote = Redis::connect(own.url())
        .open("q", Some(&rules))
        .await
        .unwrap();
    remote.add(&jobs("k", 0..3)).await;
    let lease = remote.claim(1).await.granted[0].lease;
    own.restart().await;
    while remote.counts().await.is_err() {}
    assert_eq!(remote.rules().await.unwrap(), Some(rules));
    assert!(remote.claim(9).await.granted.is_empty());
    assert!(remote.extend(&[lease], LEASE).await.unwrap().is_empty());
    own.crash().await;
    let error = remote.settle_or_error(lease).await.unwrap_err();
    assert!(matches!(error, BackendError::Unavailable { .. }), "{error}");
    own.restart().await;
    while remote.settle_or_error(lease).await.is_err() {}
    let next = remote.claim_some(9).await.granted.remove(0);
    assert_eq!(number(&next), 1);
    assert!(next.lease.token > lease.token);
}

impl RedisRemote {
    async fn settle_or_error(&self, lease: crate::remote::Lease) -> Result<(), BackendError> {
        self.exchange(&[end(lease, How::Done)], want(0))
            .await
            .map(drop)
    }
}

/// Adds jobs one batch after the other; returns those that were acknowledged.
async fn produce(remote: Arc<RedisRemote>, batches: std::ops::Range<u64>) -> HashSet<JobId> {
    let mut acknowledged = HashSet::new();
    for batch in batches {
        let key = (batch % 5).to_string();
        let batch: Vec<NewJob> = jobs(&key, batch * 10..batch * 10 + 10);
        while let Err(error) = remote.enqueue(&batch).await {
            assert!(error.is_retryable(), "{error}");
            tokio::time::sleep(MS).await;
        }
        acknowledged.extend(batch.iter().map(|job| job.id));
    }
    acknowledged
}

/// Works until told to stop; returns the numbers of what it ended for good, by its own knowledge and
/// in order.
async fn consume(remote: Arc<RedisRemote>, stop: Arc<AtomicBool>) -> Vec<(Vec<u8>, u64, u64)> {
    let (mut ended, mut finished) = (Vec::new(), Vec::new());
    loop {
        let wanted = Want {
            lease: Duration::from_millis(300),
            ..want(7)
        };
        match remote.exchange(&ended, wanted).await {
            Ok(exchange) => {
                for granted in &exchange.granted {
                    finished.push((granted.key.clone(), number(granted), granted.lease.token));
                }
                ended = done(&exchange.granted);
                if ended.is_empty() {
                    if stop.load(Ordering::Relaxed) && exchange.next.is_none() {
                        return finished;
                    }
                    tokio::time::sleep(exchange.next.unwrap_or(MS).clamp(MS, 50 * MS)).await;
                }
            }
            // What was ended may have reached the server or not: saying it again does no harm.
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(MS).await;
            }
        }
    }
}

/// Those that were started, in the order of their leases, while the server crashes and connections are cut.
async fn starts_through_faults(rules: Rules) -> Option<Vec<(Vec<u8>, u64, u64)>> {
    let own = testkit::Redis::start().await?;
    let backend = Redis::connect(own.url());
    let open = || async {
        let mut remote = backend.clone().open("q", Some(&rules)).await.unwrap();
        remote.packing = SMALL_PACKS;
        Arc::new(remote)
    };
    let stop = Arc::new(AtomicBool::new(false));
    let producer = tokio::spawn(produce(open().await, 0..1_500));
    let mut consumers = Vec::new();
    for _ in 0..3 {
        consumers.push(tokio::spawn(consume(open().await, Arc::clone(&stop))));
    }
    for round in 0..12 {
        tokio::time::sleep(30 * MS).await;
        if round % 4 == 0 {
            own.crash().await;
            own.restart().await;
        } else {
            let url = own.url();
            let _: Result<i64, _> = command(&url, &["CLIENT", "KILL", "TYPE", "normal"]).await;
            let _: Result<(), _> = command(&url, &["SCRIPT", "FLUSH"]).await;
        }
    }
    let acknowledged = producer.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut starts = Vec::new();
    for consumer in consumers {
        starts.extend(consumer.await.unwrap());
    }
    starts.sort_unstable_by_key(|(_, _, token)| *token);
    let started: HashSet<JobId> = starts.iter().map(|(_, n, _)| JobId::new(7, *n)).collect();
    assert_eq!(started, acknowledged);
    println!("{} starts of {} jobs", starts.len(), started.len());
    Some(starts)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_lost_or_reordered_while_the_server_crashes_and_connections_are_cut() {
    let Some(starts) = starts_through_faults(one_per_key()).await else {
        return;
    };
    // By the order of the leases, no job of a key started after a later one had.
    let mut latest = std::collections::HashMap::new();
    for (key, number, _) in starts {
        let before = latest.insert(key, number).unwrap_or(0);
        assert!(number >= before, "{number} after {before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_packed_job_is_lost_while_the_server_crashes_and_connections_are_cut() {
    let Some(starts) = starts_through_faults(Rules::default()).await else {
        return;
    };
    // No two leases are alike, of packs and of single jobs.
    let mut tokens = HashSet::new();
    assert!(starts.iter().all(|(_, _, token)| tokens.insert(*token)));
}
