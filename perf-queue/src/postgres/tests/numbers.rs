//! Jobs whose numbers are lower than those of others that were there first, and which no claim passes by.
//!
//! A job whose number was below the head when its transaction ended was never claimed.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::support::*;
use crate::postgres::PostgresRemote;
use crate::postgres::batch::Added;
use crate::remote::{NewJob, Remote};
use crate::{JobId, Postgres};

/// What a transaction does with its jobs, while claims move the head past their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    Plain,
    /// One statement draws the numbers of all of them.
    Batch,
    /// Its id and its jobs are of a part of the transaction.
    InSavepoint,
    /// Such a part is undone, and its jobs are enqueued again.
    AfterUndonePart,
    /// What the commit does is done before.
    WithConstraintsImmediate,
    /// What the commit does draws the numbers.
    AtCommit,
    /// The connection that it began on is gone before it commits.
    Prepared,
    PreparedAtCommit,
    /// It has its id long before it draws a number.
    LastOfAll,
    RolledBack,
}

const ALL: [Late; 10] = [
    Late::Prepared,
    Late::PreparedAtCommit,
    Late::Plain,
    Late::Batch,
    Late::InSavepoint,
    Late::AfterUndonePart,
    Late::WithConstraintsImmediate,
    Late::AtCommit,
    Late::LastOfAll,
    Late::RolledBack,
];

impl Late {
    fn jobs(self, key: &str) -> Vec<NewJob> {
        jobs(key, if self == Self::Batch { 50 } else { 1 })
    }

    async fn begin(self, conn: &mut PgConnection, remote: &PostgresRemote, late: &[NewJob]) {
        let added = Added::of(late);
        run(conn, "BEGIN").await;
        match self {
            Self::InSavepoint => run(conn, "SAVEPOINT s").await,
            Self::AfterUndonePart => {
                run(conn, "SAVEPOINT s").await;
                let query = remote.enqueue_query(&added, false);
                query.execute(&mut *conn).await.unwrap();
                run(conn, "ROLLBACK TO s").await;
            }
            Self::LastOfAll => return run(conn, "SELECT pg_current_xact_id()").await,
            _ => {}
        }
        let at_commit = matches!(
            self,
            Self::WithConstraintsImmediate | Self::AtCommit | Self::PreparedAtCommit
        );
        let query = remote.enqueue_query(&added, at_commit);
        query.execute(&mut *conn).await.unwrap();
        match self {
            Self::InSavepoint => run(conn, "RELEASE s").await,
            Self::WithConstraintsImmediate => run(conn, "SET CONSTRAINTS ALL IMMEDIATE").await,
            Self::Prepared | Self::PreparedAtCommit => run(conn, "PREPARE TRANSACTION 'p'").await,
            _ => {}
        }
    }

    /// What of it is there in the end.
    async fn end(
        self,
        conn: &mut PgConnection,
        remote: &PostgresRemote,
        late: &[NewJob],
    ) -> Vec<JobId> {
        match self {
            Self::Prepared | Self::PreparedAtCommit => run(conn, "COMMIT PREPARED 'p'").await,
            Self::LastOfAll => {
                let added = Added::of(late);
                let query = remote.enqueue_query(&added, false);
                query.execute(&mut *conn).await.unwrap();
                run(conn, "COMMIT").await;
            }
            Self::RolledBack => {
                run(conn, "ROLLBACK").await;
                return Vec::new();
            }
            _ => run(conn, "COMMIT").await,
        }
        ids(late)
    }
}

async fn run(conn: &mut PgConnection, sql: &str) {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    sql.execute(conn).await.unwrap();
}

/// Each claim looks where the first job is, instead of one of ten.
async fn look_always(remote: &PostgresRemote) {
    let sql = "CREATE FUNCTION {schema}.random() RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'";
    let sql = sql.replace("{schema}", remote.schema());
    run(&mut *remote.connection().await, &sql).await;
}

/// More than lies between a head and its first job at the least.
async fn draw_numbers(conn: &mut PgConnection, remote: &PostgresRemote) {
    let sql = format!(
        "SELECT max(nextval('{}.numbers')) FROM generate_series(1, 20000)",
        remote.schema()
    );
    run(conn, &sql).await;
}

#[tokio::test]
async fn a_job_with_a_lower_number_of_a_transaction_with_a_higher_id_is_not_passed_by() {
    // One of its own, so that no other transaction ends meanwhile.
    let options = testkit::PostgresOptions::new()
        .setting("autovacuum", "off")
        .setting("max_prepared_transactions", 2);
    let Some(server) = testkit::Postgres::start_with(options).await else {
        return;
    };
    let pool = pool(&server.url()).await;
    let backend = Postgres::new(pool);
    let mut passed_by = Vec::new();
    for key in ["", "k"] {
        let name = format!("queue {key}");
        let remote = backend.clone().open(&name, None).await.unwrap();
        if key.is_empty() {
            look_always(&remote).await;
        }
        for how in ALL {
            if !is_found(how, key, &remote).await {
                passed_by.push((how, key));
            }
        }
    }
    assert!(passed_by.is_empty(), "{passed_by:?} are passed by");
}

async fn is_found(how: Late, key: &str, remote: &PostgresRemote) -> bool {
    let options = remote.pool().connect_options();
    let mut low = PgConnection::connect_with(&options).await.unwrap();
    let mut high = PgConnection::connect_with(&options).await.unwrap();
    // A transaction that has woken a process could not be prepared.
    let awake = format!("UPDATE {}.sleepers SET asleep = false", remote.schema());
    run(&mut low, &awake).await;
    let early = jobs(key, 5);
    run(&mut low, "BEGIN").await;
    remote.enqueue_all_in(&mut low, &early).await.unwrap();
    let late = how.jobs(key);
    how.begin(&mut high, remote, &late).await;
    // The commit draws its numbers. It is of the transaction with the lower id, and with lower ones for its
    // parts: as far as the server knows, no later one has ended.
    draw_numbers(&mut low, remote).await;
    run(&mut low, "COMMIT").await;
    let mut claimed = Vec::new();
    for _ in 0..4 {
        claimed.extend(take(remote, 1).await.granted);
    }
    let there = how.end(&mut high, remote, &late).await;
    claimed.extend(take(remote, there.len() + 1).await.granted);
    let mut expected = [ids(&early), there].concat();
    let mut got: Vec<_> = claimed.iter().map(|job| job.lease.id).collect();
    expected.sort();
    got.sort();
    let ended: Vec<_> = claimed.iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    got == expected
}
