//! What the planner makes of tables that it takes for empty, as after a vacuum of an idle queue.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Row};

use super::support::*;
use crate::Postgres;
use crate::remote::{NewJob, Rules};

/// Jobs that wait meanwhile.
const BACKLOG: usize = 3_000;

#[tokio::test]
async fn ends_and_promotions_look_at_their_own_jobs_alone() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &jobs("", BACKLOG)).await;
    let due = jobs("", 50).into_iter().map(|job| NewJob {
        delay: ms(1),
        ..job
    });
    add(&remote, &due.collect::<Vec<_>>()).await;
    let granted = take(&remote, 50).await.granted;
    tokio::time::sleep(Duration::from_millis(2)).await;

    let mut conn = sqlx::PgConnection::connect_with(&remote.pool().connect_options())
        .await
        .unwrap();
    let schema = remote.schema();
    let run = |sql: &str| AssertSqlSafe(sql.replace("{schema}", schema));
    sqlx::raw_sql(run(
        "ALTER TABLE {schema}.jobs SET (autovacuum_enabled = off);
         UPDATE pg_class SET reltuples = 0, relpages = 1000 WHERE oid = '{schema}.jobs'::regclass;
         UPDATE pg_class SET reltuples = 0
         WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{schema}.jobs'::regclass)",
    ))
    .execute(&mut conn)
    .await
    .unwrap();
    let column = |i: usize| granted.iter().map(|_| i as i64).collect::<Vec<_>>();
    let ids: Vec<Vec<u8>> = granted
        .iter()
        .map(|job| job.lease.id.to_bytes().to_vec())
        .collect();
    let tokens: Vec<i64> = granted
        .iter()
        .map(|job| job.lease.token.cast_signed())
        .collect();
    // Half of them done, the others to be retried.
    let hows: Vec<i16> = (0..granted.len()).map(|i| (i % 2) as i16).collect();
    let errors: Vec<String> = granted.iter().map(|_| "no".to_owned()).collect();
    let mut tx = conn.begin().await.unwrap();
    sqlx::query(run(
        "SELECT * FROM {schema}.exchange((SELECT queue FROM {schema}.queues),
         $1, $2, $3, $4, $5, $6, 0, 0, 30000000, 10)",
    ))
    .bind(&ids)
    .bind(&tokens)
    .bind(&hows)
    .bind(column(0))
    .bind(hows.iter().map(|_| 0_i16).collect::<Vec<_>>())
    .bind(&errors)
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let read: i64 = sqlx::query(run(
        "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables
         WHERE relid = '{schema}.jobs'::regclass",
    ))
    .fetch_one(&mut *tx)
    .await
    .unwrap()
    .get(0);
    assert!(
        read < BACKLOG as i64 / 4,
        "{read} of {BACKLOG} jobs were read"
    );
}

/// As after many turns of few keys, while nothing could be removed: the index of the ring is far larger then than
/// that of all keys.
#[tokio::test]
async fn claims_read_the_ring_alone_and_not_all_keys() {
    // Of its own, so that no transaction of another test keeps what is removed here.
    let options = testkit::PostgresOptions::new().setting("autovacuum", "off");
    let Some(server) = testkit::Postgres::start_with(options).await else {
        return;
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", None);
    let remote = remote.await.unwrap();
    for key in ["a", "b", "c", "d"] {
        add(&remote, &jobs(key, 5)).await;
    }
    assert_eq!(take(&remote, 4).await.granted.len(), 4);
    let run = |sql: &str| AssertSqlSafe(sql.replace("{schema}", remote.schema()));
    let mut conn = remote.connection().await;
    for sql in [
        "DO $$ BEGIN FOR i IN 1..2000 LOOP
             UPDATE {schema}.keys SET turn = nextval('{schema}.numbers');
         END LOOP; END $$",
        "VACUUM {schema}.keys",
    ] {
        sqlx::raw_sql(run(sql)).execute(&mut *conn).await.unwrap();
    }
    let read = "SELECT pg_stat_get_xact_tuples_returned('{schema}.keys_ring'::regclass),
        pg_stat_get_xact_tuples_returned('{schema}.keys_pkey'::regclass)";
    let mut tx = conn.begin().await.unwrap();
    // Of what the connection did before, too.
    let before: (i64, i64) = sqlx::query_as(run(read)).fetch_one(&mut *tx).await.unwrap();
    sqlx::query(run(
        "SELECT FROM {schema}.exchange((SELECT queue FROM {schema}.queues),
         '{}', '{}', '{}', '{}', '{}', '{}', 1, 0, 30000000, 10)",
    ))
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let after: (i64, i64) = sqlx::query_as(run(read)).fetch_one(&mut *tx).await.unwrap();
    // That of the one key that has its turn, and by its place in the table from then on.
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 0));
}
