//! From one version of the schema to the next.

use super::support::*;
use crate::BackendError;
use crate::postgres::migrate::migrate;
use crate::postgres::schema::MIGRATIONS;
use crate::remote::Remote;

const MORE: &[&str] = &[
    "ALTER TABLE {schema}.queues ADD COLUMN later int NOT NULL DEFAULT 7;\n",
    "CREATE TABLE {schema}.later (n int);\n",
];
const FAILS: &[&str] = &["CREATE TABLE {schema}.never (n int);\n", "SELECT 1 / 0;\n"];

#[tokio::test]
async fn a_later_version_migrates_what_is_there_once_and_in_order() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.clone().open("q", None).await.unwrap();
    add(&remote, &jobs("k", 2)).await;
    let name = remote.schema().replace('"', "");
    let later = [MIGRATIONS, &[MORE]].concat();
    let one = || migrate(remote.pool(), &name, &later);
    tokio::try_join!(one(), one(), one(), one()).unwrap();
    let version = i32::try_from(later.len()).unwrap();
    assert_eq!(remote.rows("migrations").await, i64::from(version));
    assert_eq!(remote.rows("later").await, 0);
    assert_eq!(
        take(&remote, 9).await.granted.len(),
        2,
        "the jobs are there"
    );

    // What fails is undone, and so is nothing before it.
    let fails = [MIGRATIONS, &[MORE, FAILS, MORE]].concat();
    assert!(migrate(remote.pool(), &name, &fails).await.is_err());
    assert_eq!(remote.rows("migrations").await, i64::from(version));
    let never = format!("SELECT to_regclass('{}.never') IS NULL", remote.schema());
    let never = sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(never));
    assert!(never.fetch_one(remote.pool()).await.unwrap());

    // And this version refuses what it does not know.
    for backend in [backend.clone(), backend.migrate(false)] {
        let BackendError::Unfit { reason, .. } = backend.open("q", None).await.unwrap_err() else {
            panic!("it is not refused")
        };
        assert!(reason.contains("newer version of perf-queue"), "{reason}");
    }
}

#[tokio::test]
async fn a_new_schema_gets_all_versions_at_once_and_one_by_hand_the_same() {
    let Some(backend) = backend().await else {
        return;
    };
    let text = backend.migrations();
    for version in 1..=MIGRATIONS.len() {
        assert!(text.contains(&format!("-- Version {version}.\n")));
    }
    let remote = backend.open("q", None).await.unwrap();
    let name = testkit::unique("queue");
    let later = [MIGRATIONS, &[MORE]].concat();
    migrate(remote.pool(), &name, &later).await.unwrap();
    let count = format!("SELECT count(*) FROM \"{name}\".migrations");
    let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count));
    let count = count.fetch_one(remote.pool()).await.unwrap();
    assert_eq!(usize::try_from(count).unwrap(), later.len());
    assert_eq!(remote.counts().await.unwrap().ready, 0);
}
