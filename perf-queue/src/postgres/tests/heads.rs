//! Claims do not go through the entries of jobs that ended, and pass by no job.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::support::*;
use crate::postgres::PostgresRemote;
use crate::postgres::batch::Added;
use crate::remote::{How, Remote, Rules};

/// More than lies between a head and its first job at the least.
const MANY: i32 = 20_000;

impl PostgresRemote {
    /// Numbers are drawn, as for jobs that were enqueued.
    async fn draw_numbers(&self) {
        let sql = format!(
            "SELECT max(nextval('{}.numbers')) FROM generate_series(1, $1)",
            self.schema()
        );
        let draw = sqlx::query(AssertSqlSafe(sql)).bind(MANY);
        draw.execute(self.pool()).await.unwrap();
    }

    /// Where claims begin.
    async fn head(&self) -> i64 {
        let sql = format!("SELECT seq FROM {}.heads", self.schema());
        let head = sqlx::query_scalar(AssertSqlSafe(sql));
        head.fetch_one(self.pool()).await.unwrap()
    }

    /// The number of the first job that waits.
    pub(super) async fn first(&self) -> i64 {
        let sql = format!(
            "SELECT min(seq) FROM {}.jobs WHERE token = 0",
            self.schema()
        );
        let first = sqlx::query_scalar(AssertSqlSafe(sql));
        first.fetch_one(self.pool()).await.unwrap()
    }
}

/// Enqueues two jobs, and leases and ends one, so many times: one of ten claims looks where the first job is.
async fn work(remote: &PostgresRemote, rounds: usize) {
    for _ in 0..rounds {
        remote.draw_numbers().await;
        add(remote, &jobs("", 2)).await;
        let granted = take(remote, 1).await.granted;
        let ended = done(&granted[0]);
        remote.exchange(&[ended], want(0)).await.unwrap();
    }
}

#[tokio::test]
async fn claims_begin_near_the_first_job_that_waits() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &jobs("", 1)).await;
    let start = remote.first().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        work(&remote, 1).await;
        let (head, first) = (remote.head().await, remote.first().await);
        assert!(head <= first, "the head {head} is after the job {first}");
        if head > start {
            break;
        }
        assert!(Instant::now() < deadline, "the head stays where it was");
    }
}

#[tokio::test]
async fn a_job_of_a_transaction_that_took_long_is_not_passed_by() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let mut conn = PgConnection::connect_with(&remote.pool().connect_options())
        .await
        .unwrap();
    // Its numbers are drawn, and nobody sees it.
    let late = jobs("", 1);
    let added = Added::of(&late);
    let mut tx = conn.begin().await.unwrap();
    let query = remote.enqueue_query(&added, false);
    query.execute(&mut *tx).await.unwrap();
    work(&remote, 100).await;
    tx.commit().await.unwrap();
    assert_eq!(got(&take(&remote, 1).await), ids(&late));
}

#[tokio::test]
async fn a_job_that_comes_back_is_not_passed_by() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    for how in [
        How::Released,
        How::Retry {
            after: ms(0),
            error: "no".to_owned(),
        },
        How::Snooze {
            after: ms(0),
            penalty: None,
        },
    ] {
        add(&remote, &jobs("", 1)).await;
        let early = take(&remote, 1).await.granted;
        work(&remote, 100).await;
        let ended = end(&early[0], how);
        remote.exchange(&[ended], want(0)).await.unwrap();
        let mut left = Vec::new();
        loop {
            let more = take(&remote, 1_000).await.granted;
            if more.is_empty() {
                break;
            }
            left.extend(more);
        }
        assert!(left.iter().any(|job| job.lease.id == early[0].lease.id));
        let ended: Vec<_> = left.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
    }
}

/// Numbers are drawn from here on.
async fn set_numbers(remote: &PostgresRemote, to: i64) {
    let sql = format!("SELECT setval('{}.numbers', $1)", remote.schema());
    let set = sqlx::query(AssertSqlSafe(sql)).bind(to);
    set.execute(remote.pool()).await.unwrap();
}

/// Works until claims begin after the number.
async fn work_past(remote: &PostgresRemote, number: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while remote.head().await <= number {
        work(remote, 1).await;
        assert!(Instant::now() < deadline, "the head stays where it was");
    }
}

/// As after a move to another server that took the tables and left the sequence.
#[tokio::test]
async fn jobs_are_not_passed_by_where_numbers_begin_again() {
    let Some(backend) = backend().await else {
        return;
    };
    for opened_again in [false, true] {
        let mut remote = backend.clone().open("q", None).await.unwrap();
        add(&remote, &jobs("", 1)).await;
        let first = remote.first().await;
        work_past(&remote, first).await;
        let old = take(&remote, 1_000).await.granted;
        let ended: Vec<_> = old.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        let late = remote.head().await + 10 * i64::from(MANY);
        set_numbers(&remote, 1).await;
        if opened_again {
            remote = backend.clone().open("q", None).await.unwrap();
        }
        let new = jobs("", 3);
        add(&remote, &new).await;
        if opened_again {
            // As many others are enqueued before the first claim.
            set_numbers(&remote, late).await;
        }
        let granted = take(&remote, 10).await;
        assert_eq!(got(&granted), ids(&new), "opened again: {opened_again}");
        let ended: Vec<_> = granted.granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        set_numbers(&remote, late).await;
    }
}

/// Then all that is left of jobs is gone through.
#[tokio::test]
async fn claims_begin_behind_jobs_that_ended_where_none_waits() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &jobs("", 100)).await;
    let last = remote.first().await + 99;
    let granted = take(&remote, 1_000).await.granted;
    let ended: Vec<_> = granted.iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while remote.head().await <= last {
        remote.draw_numbers().await;
        assert!(take(&remote, 1).await.granted.is_empty());
        assert!(Instant::now() < deadline, "the head stays where it was");
    }
    // And what comes is found.
    let new = jobs("", 3);
    add(&remote, &new).await;
    assert_eq!(got(&take(&remote, 10).await), ids(&new));
}
