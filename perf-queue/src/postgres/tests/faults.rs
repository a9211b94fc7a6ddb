//! Answers that are lost, calls that are dropped, and connections that are cut or lead nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;

use super::super::listen::Listener;
use super::support::*;
use crate::remote::{Remote, Rules};
use crate::{BackendError, Postgres};

#[tokio::test]
async fn a_lost_answer_to_an_enqueue_adds_nothing_twice() {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let proxy = testkit::Proxy::start(server.address()).await;
    let pool = pool(&proxy.url(&server.url())).await;
    let backend = Postgres::new(pool).schema(testkit::unique("queue"));
    let remote = backend.open("q", Some(&Rules::default())).await.unwrap();
    add(&remote, &jobs("", 1)).await;
    let all = jobs("", 100);
    for after in [true, false] {
        if after {
            proxy.cut_after_request(testkit::contains("payload"));
        } else {
            proxy.cut_before_request(testkit::contains("payload"));
        }
        let error = remote.enqueue(&all).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        add(&remote, &all).await;
    }
    assert_eq!(remote.counts().await.unwrap().ready, 101);
}

#[tokio::test]
async fn a_lost_answer_to_an_exchange_loses_no_job() {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let proxy = testkit::Proxy::start(server.address()).await;
    let pool = pool(&proxy.url(&server.url())).await;
    let backend = Postgres::new(pool).schema(testkit::unique("queue"));
    let remote = backend.open("q", Some(&Rules::default())).await.unwrap();
    let all = jobs("k", 10);
    add(&remote, &all).await;
    let ask = crate::remote::Want {
        lease: Duration::from_secs(1),
        ..want(5)
    };
    let first = remote.exchange(&[], ask).await.unwrap();
    let ended: Vec<_> = first.granted.iter().map(done).collect();
    let one = first.granted[0].lease.id.to_bytes();
    proxy.cut_after_request(move |request| request.windows(16).any(|bytes| bytes == one));
    let error = remote.exchange(&ended, ask).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    // Once more: they are done already, and those granted by the lost answer come again later.
    let mut seen = BTreeSet::new();
    let mut ended = ended;
    while seen.len() < 5 {
        let answer = remote.exchange(&ended, ask).await.unwrap();
        seen.extend(got(&answer));
        ended = answer.granted.iter().map(done).collect();
        if ended.is_empty() {
            tokio::time::sleep(answer.next.unwrap_or(ms(20)).min(ms(50))).await;
        }
    }
    assert_eq!(seen, ids(&all[5..]).into_iter().collect());
    remote.exchange(&ended, want(0)).await.unwrap();
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (0, 0));
}

#[tokio::test]
async fn terminated_connections_and_a_restart_lose_nothing() {
    let Some(server) = testkit::Postgres::start().await else {
        return;
    };
    let pool = pool(&server.url()).await;
    let remote = Postgres::new(pool.clone()).open("q", None).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), remote.woken())
        .await
        .unwrap();
    let all = jobs("k", 200);
    let mut seen = BTreeSet::new();
    let mut ended = Vec::new();
    let mut twice = 0;
    for (round, batch) in all.chunks(20).enumerate() {
        match round {
            3 => {
                let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                              WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                sqlx::query(others).execute(&pool).await.unwrap();
            }
            5 => {
                server.crash().await;
                server.restart().await;
            }
            7 => {
                server.stop().await;
                let error = remote.enqueue(batch).await.unwrap_err();
                assert!(matches!(error, BackendError::Unavailable { .. }), "{error}");
                server.restart().await;
            }
            _ => {}
        }
        while let Err(error) = remote.enqueue(batch).await {
            assert!(error.is_retryable(), "{error}");
        }
        let ask = crate::remote::Want {
            lease: Duration::from_secs(2),
            ..want(15)
        };
        ended = loop {
            match remote.exchange(&ended, ask).await {
                Ok(answer) => {
                    twice += got(&answer)
                        .into_iter()
                        .filter(|id| !seen.insert(*id))
                        .count();
                    break answer.granted.iter().map(done).collect();
                }
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
    }
    while seen.len() < all.len() || !ended.is_empty() {
        let answer = remote.exchange(&ended, want(50)).await.unwrap();
        twice += got(&answer)
            .into_iter()
            .filter(|id| !seen.insert(*id))
            .count();
        ended = answer.granted.iter().map(done).collect();
        if ended.is_empty() {
            tokio::time::sleep(ms(20)).await;
        }
    }
    assert_eq!(seen, ids(&all).into_iter().collect());
    // A fault can take an answer away, and last longer than the leases that are held.
    assert!(twice <= 3 * 2 * 15, "{twice} ran twice");
    // Listens again.
    tokio::time::timeout(Duration::from_secs(30), remote.woken())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_call_leaves_the_queue_whole() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let all = jobs("k", 50);
    for n in 0..50_usize {
        let call = remote.enqueue(&all);
        let _ = tokio::time::timeout(Duration::from_micros(50 * n as u64), call).await;
    }
    add(&remote, &all).await;
    assert_eq!(remote.counts().await.unwrap().ready, 50);
    for n in 0..50_u64 {
        let ask = crate::remote::Want {
            lease: ms(1),
            ..want(10)
        };
        let call = remote.exchange(&[], ask);
        let _ = tokio::time::timeout(Duration::from_micros(50 * n), call).await;
    }
    let (mut seen, mut ended) = (BTreeSet::new(), Vec::new());
    while seen.len() < 50 {
        let answer = remote.exchange(&ended, want(50)).await.unwrap();
        seen.extend(got(&answer));
        ended = answer.granted.iter().map(done).collect();
    }
    assert_eq!(seen, ids(&all).into_iter().collect());
}

/// As after a failover that leaves connections open to nowhere.
#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_and_takes_no_connections_along() {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let proxy = testkit::Proxy::start(server.address()).await;
    let pool = PgPoolOptions::new().max_connections(2);
    let pool = pool.connect(&proxy.url(&server.url())).await.unwrap();
    let backend = Postgres::new(pool.clone()).schema(testkit::unique("queue"));
    let remote = backend.response_timeout(ms(1_000));
    let remote = remote.open("q", Some(&Rules::default())).await.unwrap();
    let all = jobs("", 10);
    proxy.black_hole(true);
    for _ in 0..4 {
        let call = remote.enqueue(&all);
        let answer = tokio::time::timeout(Duration::from_secs(10), call).await;
        let error = answer.expect("it does not wait for ever").unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    assert!(pool.size() <= 2);
    proxy.heal();
    add(&remote, &all).await;
    assert_eq!(remote.counts().await.unwrap().ready, 10);
}

#[tokio::test]
async fn who_listens_on_a_connection_to_nowhere_finds_out() {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let proxy = testkit::Proxy::start(server.address()).await;
    let pool = PgPoolOptions::new()
        .connect_lazy(&proxy.url(&server.url()))
        .unwrap();
    let listener = Listener::pinging(&pool, "channel".into(), ms(700));
    listener.heard().await;
    // Asked once in a while, it answers.
    for _ in 0..3 {
        let heard = proxy.counts().to_clients;
        proxy.until(|counts| counts.to_clients > heard).await;
    }
    assert_eq!(proxy.connections(), 1);
    proxy.black_hole(true);
    let again = proxy.until(|counts| counts.connections > 1);
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .expect("it connects again");
    proxy.heal();
    listener.heard().await;
}
