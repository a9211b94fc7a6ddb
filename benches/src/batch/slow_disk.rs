//! Postgres on a disk that takes 10 ms longer for each `fdatasync`, as a small server's does.
//!
//! 1,000 commits take 16 s there, so the ratios take few rounds, and criterion none.

use std::sync::Arc;
use std::time::Duration;

use perf_batch::BulkInsert;
use testkit::{Postgres, PostgresOptions};
use tokio::runtime::Runtime;

use super::postgres::{naive, one_transaction, ours};
use super::rows::TABLE;
use super::{Answer, Failure, Pg, Work};
use crate::Group;
use crate::shim::SlowSync;

const DELAY: Duration = Duration::from_millis(10);
const ROWS: usize = 1_000;
/// At most so many rounds, each of 17 s.
const ROUNDS: usize = 3;

pub(super) fn groups(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    let Some(db) = rt.block_on(open())? else {
        return Ok(Vec::new());
    };
    let work = Work::new(rt, &db, ROWS, Answer::new);
    let insert = BulkInsert::<Answer>::new();
    let entries = vec![
        work.entry("naive", naive),
        work.entry("one_transaction", one_transaction),
        work.entry("ours", move |db, rows| ours(insert.clone(), db, rows)),
    ];
    let group = Group::new(format!("batch/slow_disk/{ROWS}"), ROWS as u64, entries);
    Ok(vec![group.at_most(ROUNDS)])
}

async fn open() -> Result<Option<Pg>, Failure> {
    if testkit::Postgres::shared().await.is_none() {
        return Ok(None);
    }
    let shim = SlowSync::compile()?;
    let options = shim.slow(DELAY, PostgresOptions::new());
    let Some(server) = Postgres::start_with(options).await else {
        return Ok(None);
    };
    shim.check(&server)?;
    let url = server.schema_url().await;
    let holds = Arc::new((server, shim));
    Pg::at(url, "answers", TABLE, Some(holds)).await.map(Some)
}
