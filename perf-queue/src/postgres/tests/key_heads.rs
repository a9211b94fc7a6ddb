//! Claims of jobs with keys do not go through what jobs of these keys have left, and pass by no job.

use sqlx::{AssertSqlSafe, Connection as _, Row};

use super::support::*;
use crate::Postgres;
use crate::postgres::PostgresRemote;
use crate::remote::{How, NewJob, Remote, Rules};

/// A server where nothing is cleaned up, and no transaction of another test keeps numbers in use.
pub(super) async fn own_server() -> Option<testkit::OwnPostgres> {
    let options = testkit::PostgresOptions::new().setting("autovacuum", "off");
    testkit::Postgres::start_with(options).await
}

impl PostgresRemote {
    async fn run(&self, sql: &str) -> i64 {
        let sql = sql.replace("{schema}", self.schema());
        let row = sqlx::query(AssertSqlSafe(sql));
        row.fetch_one(self.pool()).await.unwrap().get(0)
    }

    /// Where claims of the only key begin.
    async fn key_head(&self) -> i64 {
        self.run("SELECT max(head) FROM {schema}.keys").await
    }

    /// How many entries an exchange goes through that may claim 100 jobs, in the indices that lead to them. All of
    /// them are to be there.
    pub(super) async fn entries_of_a_claim(&self) -> i64 {
        let run = |sql: &str| AssertSqlSafe(sql.replace("{schema}", self.schema()));
        let read = "SELECT sum(pg_stat_get_xact_tuples_returned(i::regclass))::bigint
            FROM unnest(ARRAY[
                '{schema}.jobs_ready', '{schema}.arrivals_pkey', '{schema}.keys_pkey',
                '{schema}.keys_ring', '{schema}.keys_timer', '{schema}.keys_fade'
            ]) i";
        let mut conn = self.connection().await;
        let mut tx = conn.begin().await.unwrap();
        // Of what the connection did before, too.
        let before: i64 = sqlx::query_scalar(run(read))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let claim =
            "SELECT cardinality(ids) FROM {schema}.exchange((SELECT queue FROM {schema}.queues),
            '{}', '{}', '{}', '{}', '{}', '{}', 100, 0, 30000000, 10)";
        let claimed: i32 = sqlx::query_scalar(run(claim))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(claimed, 100);
        let after: i64 = sqlx::query_scalar(run(read))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        after - before
    }

    /// Leases and ends so many jobs, 100 at a time.
    pub(super) async fn work_off(&self, mut jobs: usize) {
        while jobs > 0 {
            let granted = take(self, 100).await.granted;
            assert!(!granted.is_empty(), "{jobs} jobs are left");
            jobs -= granted.len().min(jobs);
            let ended: Vec<_> = granted.iter().map(done).collect();
            self.exchange(&ended, want(0)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn claims_do_not_go_through_what_jobs_of_their_keys_have_left() {
    let Some(server) = own_server().await else {
        return;
    };
    let pool = pool(&server.url()).await;
    // Few keys with many jobs; more of them that have many turns; and many with one job each.
    for keys in [4, 100, 8_000] {
        let backend = Postgres::new(pool.clone()).schema(testkit::unique("queue"));
        let remote = backend.open("q", None).await.unwrap();
        let held = hold_back(&remote).await;
        let all: Vec<_> = (0..8_000).map(|i| job(&format!("{}", i % keys))).collect();
        for some in all.chunks(1_000) {
            add(&remote, some).await;
        }
        remote.work_off(7_000).await;
        let entries = remote.entries_of_a_claim().await;
        assert!(
            entries < 3_000,
            "with {keys} keys a claim of 100 jobs goes through {entries} entries"
        );
        drop(held);
    }
}

/// Numbers are drawn, as for jobs that were enqueued, until those of transactions that are over are noted.
async fn work(remote: &PostgresRemote, key: &str, rounds: usize) {
    for _ in 0..rounds {
        let draw = "SELECT max(nextval('{schema}.numbers')) FROM generate_series(1, 2000)";
        remote.run(draw).await;
        add(remote, &jobs(key, 2)).await;
        let granted = take(remote, 1).await.granted;
        let ended = done(&granted[0]);
        remote.exchange(&[ended], want(0)).await.unwrap();
    }
}

#[tokio::test]
async fn claims_begin_near_the_first_job_of_the_key() {
    let Some(server) = own_server().await else {
        return;
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", None);
    let remote = remote.await.unwrap();
    add(&remote, &jobs("k", 1)).await;
    let start = remote.first().await;
    work(&remote, "k", 20).await;
    let (head, first) = (remote.key_head().await, remote.first().await);
    assert!(start < head && head <= first, "{start} {head} {first}");
    // The key is forgotten, and comes again.
    let left = take(&remote, 1_000).await.granted;
    let ended: Vec<_> = left.iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    remote.forget_keys().await;
    assert_eq!(remote.keys().await, 0);
    add(&remote, &jobs("k", 1)).await;
    remote.exchange(&[], want(0)).await.unwrap();
    let (again, first) = (remote.key_head().await, remote.first().await);
    assert!(head < again && again <= first, "{head} {again} {first}");
}

#[tokio::test]
async fn a_job_with_a_key_that_comes_back_is_not_passed_by() {
    let Some(server) = own_server().await else {
        return;
    };
    let pool = pool(&server.url()).await;
    let hows = [
        How::Released,
        How::Retry {
            after: ms(0),
            error: "no".to_owned(),
        },
        How::Snooze {
            after: ms(1),
            penalty: None,
        },
    ];
    for concurrency_per_key in [None, Some(1), Some(100)] {
        for (how, priority) in hows.iter().flat_map(|how| [(how, 0), (how, 3), (how, -3)]) {
            let rules = Rules {
                concurrency_per_key,
                ..Rules::default()
            };
            let backend = Postgres::new(pool.clone()).schema(testkit::unique("queue"));
            let remote = backend.open("q", Some(&rules)).await.unwrap();
            let early = NewJob {
                priority,
                ..job("k")
            };
            add(&remote, std::slice::from_ref(&early)).await;
            let first = take(&remote, 1).await.granted;
            // Others of the key, unless they have to wait for it.
            let other = if concurrency_per_key == Some(1) {
                "other"
            } else {
                "k"
            };
            work(&remote, other, 5).await;
            let ended = end(&first[0], how.clone());
            remote.exchange(&[ended], want(0)).await.unwrap();
            let mut left = Vec::new();
            while !left.contains(&early.id) {
                let more = take_until(&remote, want(1_000)).await.granted;
                let ended: Vec<_> = more.iter().map(done).collect();
                remote.exchange(&ended, want(0)).await.unwrap();
                left.extend(more.iter().map(|job| job.lease.id));
            }
        }
    }
}

/// Where more have arrived than an exchange looks at, those of one key may not be in the order of their numbers.
#[tokio::test]
async fn a_job_that_has_arrived_after_others_is_not_passed_by() {
    let Some(server) = own_server().await else {
        return;
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", None);
    let remote = remote.await.unwrap();
    work(&remote, "k", 5).await;
    let left = take(&remote, 1_000).await.granted;
    let ended: Vec<_> = left.iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    let both = jobs("both", 2);
    add(&remote, &both[..1]).await;
    add(&remote, &both[1..]).await;
    let others: Vec<_> = (0..1_000).map(|i| job(&format!("{i}"))).collect();
    add(&remote, &others).await;
    // They arrive when their numbers are those of transactions that are over, and the first arrives last.
    let hide = "WITH hidden AS (UPDATE {schema}.arrivals SET queue = -1 RETURNING 1) SELECT count(*) FROM hidden";
    assert_eq!(remote.run(hide).await, 1_002);
    work(&remote, "k", 5).await;
    let show = "WITH shown AS (
            UPDATE {schema}.arrivals a SET
                queue = (SELECT queue FROM {schema}.queues),
                n = 1000000 + CASE
                    WHEN a.n = (SELECT min(n) FROM {schema}.arrivals WHERE queue = -1) THEN 1000000 ELSE a.n
                END
            WHERE a.queue = -1 RETURNING 1
        ) SELECT count(*) FROM shown";
    assert_eq!(remote.run(show).await, 1_002);
    let mut claimed = Vec::new();
    for _ in 0..4 {
        claimed.extend(got(&take(&remote, 1_000).await));
    }
    claimed.retain(|id| both.iter().any(|job| job.id == *id));
    assert_eq!(claimed, ids(&both));
}

/// As after a move to another server that took the tables and left the sequence.
#[tokio::test]
async fn jobs_with_keys_are_not_passed_by_where_numbers_begin_again() {
    let Some(server) = own_server().await else {
        return;
    };
    let backend = Postgres::new(pool(&server.url()).await);
    for (opened_again, only_turns) in [(false, false), (true, false), (false, true)] {
        let mut remote = backend.clone().open("q", None).await.unwrap();
        work(&remote, "k", 20).await;
        assert!(remote.key_head().await > 0);
        if only_turns {
            // As where a transaction has kept all other numbers in use.
            let forget = "WITH forgotten AS (UPDATE {schema}.keys SET head = 0), queues AS (
                    UPDATE {schema}.queues SET ended = 0, floor = 0, arrived = 0 WHERE ring > 0 RETURNING 1
                ) SELECT count(*) FROM queues";
            assert_eq!(remote.run(forget).await, 1);
        }
        let late = remote.first().await + 1_000_000;
        let set = |to: i64| format!("SELECT setval('{{schema}}.numbers', {to})");
        remote.run(&set(1)).await;
        if opened_again {
            remote = backend.clone().open("q", None).await.unwrap();
        }
        let new = jobs("k", 3);
        add(&remote, &new).await;
        if opened_again {
            // As many others are enqueued before the first claim.
            remote.run(&set(late)).await;
        }
        let granted = take(&remote, 1_000).await.granted;
        for job in &new {
            assert!(
                granted.iter().any(|granted| granted.lease.id == job.id),
                "opened again: {opened_again}, only turns: {only_turns}"
            );
        }
        let ended: Vec<_> = granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        remote.run(&set(late)).await;
    }
}

/// Keys that wait have turns that are not given again for long, and must come before those that get new ones.
#[tokio::test]
async fn keys_that_wait_have_their_turns_where_numbers_begin_again() {
    let Some(server) = own_server().await else {
        return;
    };
    let backend = Postgres::new(pool(&server.url()).await);
    for (opened_again, ring_alone) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = format!("opened again: {opened_again}, ring alone: {ring_alone}");
        let mut remote = backend.clone().open("q", None).await.unwrap();
        work(&remote, "k", 20).await;
        let before = take(&remote, 1_000).await.granted;
        let ended: Vec<_> = before.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        let keys = ["a", "b", "c"];
        for key in keys {
            add(&remote, &jobs(key, 4)).await;
        }
        // The keys have their turns.
        let granted = take(&remote, 3).await.granted;
        let ended: Vec<_> = granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        let mut left = 12 - granted.len();
        let mut to = 1;
        if ring_alone {
            // As where a transaction was open all the time, and the sequence is behind by a little.
            let forget = "WITH noted AS (UPDATE {schema}.queues SET floor = 1, ended = 0, arrived = 0 RETURNING ring)
                SELECT min(ring) FROM noted";
            to = remote.run(forget).await - 500;
            assert!(to > 0, "{case}");
        }
        remote
            .run(&format!("SELECT setval('{{schema}}.numbers', {to})"))
            .await;
        if opened_again {
            remote = backend.clone().open("q", None).await.unwrap();
        }
        let mut first = Vec::new();
        let mut new = jobs("new", 2);
        left += new.len();
        while left > 0 {
            let granted = take(&remote, 2).await.granted;
            assert!(!granted.is_empty(), "{case}: {left} jobs are left");
            left -= granted.len();
            first.extend(granted.iter().map(|job| job.key.clone()));
            if !new.is_empty() {
                add(&remote, &std::mem::take(&mut new)).await;
                // So many jobs are enqueued that numbers are as high as before.
                let draw =
                    "SELECT setval('{schema}.numbers', 1000000 + max(turn)) FROM {schema}.keys";
                remote.run(draw).await;
            }
            let ended: Vec<_> = granted.iter().map(done).collect();
            remote.exchange(&ended, want(0)).await.unwrap();
        }
        // Each key has had its turn before one has its next.
        for key in keys {
            assert!(
                first[..4].iter().any(|of| of == key.as_bytes()),
                "{case}: {first:?}"
            );
        }
    }
}

/// What is noted for jobs without a key is written now and then, not by each exchange.
#[tokio::test]
async fn claims_of_jobs_with_keys_seldom_write_where_those_without_begin() {
    let Some(server) = own_server().await else {
        return;
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", None);
    let remote = remote.await.unwrap();
    add(&remote, &jobs("", 500)).await;
    add(&remote, &jobs("k", 500)).await;
    remote.run("SELECT setval('{schema}.numbers', 50000)").await;
    let mut written = 0;
    let mut before = 0;
    for _ in 0..200 {
        take(&remote, 1).await;
        let noted = "SELECT since::text::bigint FROM {schema}.heads";
        let since = remote.run(noted).await;
        written += usize::from(since != before);
        before = since;
    }
    // One of ten.
    assert!((1..100).contains(&written), "{written}");
}
