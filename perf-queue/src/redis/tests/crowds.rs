//! Any number of jobs at once: calls stay short, and nothing wedges.

use std::time::{Duration, Instant};

use redis::Commands;
use testkit::OwnRedis;

use super::support::*;
use crate::redis::{Redis, RedisRemote};
use crate::remote::{Exchange, NewJob, Remote, Rules, Want};

/// Far above what a bounded call takes of the server's processor time, far below what one of all jobs would.
const SHORT: Duration = Duration::from_millis(250);

/// A queue on a server of its own, which does nothing else.
async fn alone(rules: Rules) -> Option<(OwnRedis, RedisRemote)> {
    let server = testkit::Redis::start().await?;
    let backend = Redis::connect(server.url()).allow_data_loss();
    let remote = backend.open("q", Some(&rules)).await.unwrap();
    Some((server, remote))
}

/// The processor time that the server has used: on a busy machine it does not pass while others run.
async fn used(remote: &RedisRemote) -> Duration {
    let mut info = redis::cmd("INFO");
    let info: String = remote.server.query(info.arg("cpu")).await.unwrap();
    let seconds = |name: &str| -> f64 {
        let mut lines = info.lines();
        let seconds = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        seconds.unwrap().parse().unwrap()
    };
    Duration::from_secs_f64(seconds("used_cpu_user") + seconds("used_cpu_sys"))
}

async fn timed(remote: &RedisRemote, wanted: Want) -> Exchange {
    let before = used(remote).await;
    let exchange = remote.exchange(&[], wanted).await.unwrap();
    let took = used(remote).await - before;
    assert!(took < SHORT, "{took:?}");
    exchange
}

async fn drain(remote: &RedisRemote, mut seen: u64, all: u64) {
    while seen < all {
        let exchange = timed(remote, want(1_000)).await;
        let granted = done(&exchange.granted);
        seen += granted.len() as u64;
        remote.tell(&granted).await;
        assert!(exchange.next.is_some() || seen == all, "{seen} of {all}");
    }
    assert_eq!(remote.claim(1).await.next, None);
}

#[tokio::test]
async fn fifty_thousand_jobs_that_fall_due_at_once_are_drained_in_short_calls() {
    for keys in [1, 50_000] {
        let Some((_server, remote)) = alone(Rules::default()).await else {
            return;
        };
        let due = Instant::now() + Duration::from_secs(2);
        for from in (0..50_000).step_by(1_000) {
            let delayed: Vec<NewJob> = (from..from + 1_000)
                .map(|number| NewJob {
                    delay: due.saturating_duration_since(Instant::now()),
                    ..job(&(number % keys).to_string(), number)
                })
                .collect();
            remote.add(&delayed).await;
        }
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
        drain(&remote, 0, 50_000).await;
    }
}

#[tokio::test]
async fn twenty_thousand_leases_that_end_at_once_are_taken_over_in_short_calls() {
    for rules in [Rules::default(), one_per_key()] {
        let Some((_server, remote)) = alone(rules).await else {
            return;
        };
        for from in (0..20_000).step_by(1_000) {
            let jobs: Vec<NewJob> = (from..from + 1_000)
                .map(|number| job(&number.to_string(), number))
                .collect();
            remote.add(&jobs).await;
        }
        let mut wanted = want(2_000);
        let over = Instant::now() + Duration::from_secs(3);
        let mut orphans = 0;
        while orphans < 20_000 {
            wanted.lease = over.saturating_duration_since(Instant::now());
            orphans += timed(&remote, wanted).await.granted.len();
        }
        tokio::time::sleep(over.saturating_duration_since(Instant::now())).await;
        let exchange = timed(&remote, want(1)).await;
        assert_eq!(exchange.granted[0].attempt, 2);
        remote.tell(&done(&exchange.granted)).await;
        drain(&remote, 1, 20_000).await;
    }
}

#[tokio::test]
async fn twenty_thousand_keys_whose_rules_change_are_looked_at_in_short_calls() {
    let slow = Rules {
        key: Some(quota(1, LONG, 1)),
        ..Rules::default()
    };
    let Some((_server, remote)) = alone(slow).await else {
        return;
    };
    for from in (0..20_000).step_by(1_000) {
        let jobs: Vec<NewJob> = (from..from + 1_000)
            .flat_map(|number| {
                let key = number.to_string();
                [job(&key, number), job(&key, 100_000 + number)]
            })
            .collect();
        remote.add(&jobs).await;
    }
    let mut seen = 0;
    while seen < 20_000 {
        let granted = done(&timed(&remote, want(2_000)).await.granted);
        assert!(!granted.is_empty());
        seen += granted.len();
        remote.tell(&granted).await;
    }
    assert!(timed(&remote, want(10)).await.granted.is_empty());
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.limited, counts.ready), (20_000, 0));
    remote.set_rules(&Rules::default()).await.unwrap();
    drain(&remote, 20_000, 40_000).await;
}

#[tokio::test]
async fn a_queue_without_jobs_leaves_hardly_anything_behind() {
    let Some(backend) = backend().await else {
        return;
    };
    let rules = Rules {
        queue: Some(quota(10_000, Duration::from_secs(1), 1)),
        key: Some(quota(100, Duration::from_secs(1), 5)),
        concurrency_per_key: Some(2),
    };
    let remote = backend.clone().open("q", Some(&rules)).await.unwrap();
    let mut batch: Vec<NewJob> = (0..500).map(|n| job(&(n % 50).to_string(), n)).collect();
    for job in batch.iter_mut().step_by(3) {
        job.delay = MS;
    }
    remote.add(&batch).await;
    let mut seen = 0;
    while seen < 500 {
        let exchange = remote.claim_some(100).await;
        let mut ended = done(&exchange.granted);
        for (ended, granted) in ended.iter_mut().zip(&exchange.granted) {
            if granted.attempt == 1 && number(granted).is_multiple_of(7) {
                ended.how = retry(MS);
                seen -= 1;
            }
        }
        seen += ended.len();
        remote.tell(&ended).await;
    }
    let client = redis::Client::open(backend.url.as_str()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let pattern = format!("{{{}*", backend.prefix);
    loop {
        let left: Vec<String> = connection.keys(&pattern).unwrap();
        if left == [format!("{{{}:q}}:state", backend.prefix)] {
            break;
        }
        assert!(
            left.iter()
                .all(|k| !k.contains("}:q:") && !k.contains("}:z:") && !k.ends_with("flight")),
            "{left:?}"
        );
        tokio::time::sleep(20 * MS).await;
    }
}
