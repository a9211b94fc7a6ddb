//! The ends of jobs that are told on one connection while others are leased on another.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::support::*;
use crate::model::changes::Clock as _;
use crate::postgres::PostgresRemote;
use crate::remote::{Ended, Granted, How, NewJob, Remote, Rules};

const MANY: usize = 150;

async fn opened() -> Option<PostgresRemote> {
    open(Rules::default()).await
}

fn all_done(granted: &[Granted]) -> Vec<Ended> {
    granted.iter().map(done).collect()
}

#[tokio::test]
async fn many_that_ended_are_gone_and_others_are_leased() {
    let Some(remote) = opened().await else {
        return;
    };
    let all = jobs("", 2 * MANY);
    add(&remote, &all).await;
    let first = take(&remote, MANY).await;
    let ended = all_done(&first.granted);
    let second = remote.exchange(&ended, want(MANY)).await.unwrap();
    assert_eq!(got(&second), ids(&all[MANY..]));
    assert!(second.lost.is_empty() && !second.untold);
    assert_eq!(remote.rows("jobs").await, MANY as i64);
    // Told again, none of them is there.
    let third = remote.exchange(&ended, want(1)).await.unwrap();
    assert_eq!(third.lost.len(), MANY);
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.in_flight, counts.ready), (MANY as u64, 0));
}

#[tokio::test]
async fn ends_that_are_not_taken_are_to_be_told_again_and_the_leases_do_not_wait_for_them() {
    // The server may take 10 s for a claim.
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let all = jobs("", 2 * MANY);
    add(&remote, &all).await;
    let first = take(&remote, MANY).await;
    let mut conn = PgConnection::connect_with(&remote.pool().connect_options())
        .await
        .unwrap();
    let mut tx = conn.begin().await.unwrap();
    let lock = format!(
        "SELECT FROM {}.jobs WHERE id = $1 FOR UPDATE",
        remote.schema()
    );
    let lock = sqlx::query(AssertSqlSafe(lock)).bind(all[0].id.to_bytes().to_vec());
    lock.execute(&mut *tx).await.unwrap();
    let ended = all_done(&first.granted);
    let begun = Instant::now();
    let second = remote.exchange(&ended, want(MANY)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(got(&second), ids(&all[MANY..]));
    assert!(second.untold);
    tx.rollback().await.unwrap();
    let third = remote.exchange(&ended, want(0)).await.unwrap();
    assert!(!third.untold);
    assert_eq!(remote.rows("jobs").await, MANY as i64);
}

#[tokio::test]
async fn jobs_that_hold_others_back_are_ended_before_others_are_leased() {
    let rules = Rules {
        concurrency_per_key: Some(1),
        ..Rules::default()
    };
    let Some(remote) = open(rules).await else {
        return;
    };
    let keys: Vec<String> = (0..MANY).map(|i| i.to_string()).collect();
    let all: Vec<_> = keys.iter().flat_map(|key| jobs(key, 2)).collect();
    add(&remote, &all).await;
    let first = take(&remote, 2 * MANY).await;
    assert_eq!(first.granted.len(), MANY);
    let ended = all_done(&first.granted);
    let second = remote.exchange(&ended, want(2 * MANY)).await.unwrap();
    assert_eq!(second.granted.len(), MANY);
}

#[tokio::test]
async fn jobs_that_go_back_are_there_for_the_same_exchange() {
    let Some(remote) = opened().await else {
        return;
    };
    add(&remote, &jobs("", MANY)).await;
    let first = take(&remote, MANY).await.granted;
    let back: Vec<_> = first.iter().map(|job| end(job, How::Released)).collect();
    let second = remote.exchange(&back, want(MANY)).await.unwrap();
    assert_eq!(second.granted.len(), MANY);
}

/// What is told without a claim ends the connection that it is told on.
async fn lose_what_is_told_apart(remote: &PostgresRemote) {
    let sql = "DO $do$ BEGIN EXECUTE regexp_replace(
            pg_get_functiondef('{schema}.exchange'::regproc), '\nBEGIN\n',
            E'\nBEGIN IF want < 0 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;\n'
        ); END $do$";
    let sql = AssertSqlSafe(sql.replace("{schema}", remote.schema()));
    let change = sqlx::raw_sql(sql);
    change.execute(remote.pool()).await.unwrap();
}

/// They were told on the second connection each time, and their jobs ran again when their leases ended.
#[tokio::test]
async fn ends_go_with_the_next_claim_where_the_second_connection_is_lost_each_time() {
    let Some(remote) = opened().await else {
        return;
    };
    lose_what_is_told_apart(&remote).await;
    let all = jobs("", 3 * MANY);
    add(&remote, &all).await;
    let ask = want(MANY);
    let first = remote.exchange(&[], ask).await.unwrap();
    let mut ended = all_done(&first.granted);
    let second = remote.exchange(&ended, ask).await.unwrap();
    assert!(second.untold);
    assert_eq!(got(&second), ids(&all[MANY..2 * MANY]));
    ended.extend(all_done(&second.granted));
    let third = remote.exchange(&ended, ask).await.unwrap();
    assert!(!third.untold && third.lost.is_empty());
    assert_eq!(got(&third), ids(&all[2 * MANY..]));
    assert_eq!(remote.rows("jobs").await, MANY as i64);
    // Its jobs come back when their leases are over, and no others.
    remote.advance(LEASE).await;
    let again = take_until(&remote, want(3 * MANY)).await;
    assert_eq!(got(&again), ids(&all[2 * MANY..]));
}

/// They got it after the claim beside had looked for them, and waited for the next poll.
#[tokio::test]
async fn jobs_that_are_due_get_no_place_by_what_is_told_beside_a_claim() {
    let Some(remote) = opened().await else {
        return;
    };
    let due = jobs("", 5).into_iter().map(|job| NewJob {
        delay: ms(1),
        ..job
    });
    let due: Vec<_> = due.collect();
    add(&remote, &jobs("", 1)).await;
    let first = take(&remote, 1).await.granted;
    add(&remote, &due).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while remote.counts().await.unwrap().scheduled > 0 {
        assert!(Instant::now() < deadline, "they are not due");
    }
    let told = remote.tell(&all_done(&first)).await.unwrap();
    assert!(told.lost.is_empty());
    let scheduled = format!(
        "SELECT count(*) FROM {}.jobs WHERE due IS NOT NULL",
        remote.schema()
    );
    let scheduled: i64 = sqlx::query_scalar(AssertSqlSafe(scheduled))
        .fetch_one(remote.pool())
        .await
        .unwrap();
    assert_eq!(scheduled, 5);
    assert_eq!(got(&take(&remote, 10).await), ids(&due));
}
