//! `cargo run --release --manifest-path benches/peers/Cargo.toml [-- --only batch/sqlite] [--rounds 10]`
//!
//! The groups of perf-batch with the peers that would double the build of the benches, interleaved
//! with the other entries.
//!
//! | entry | what it does |
//! |---|---|
//! | `sea_orm` | `insert_many` of models without RETURNING, over the pool of the other entries |
//! | `diesel_async` | `insert_into .. values(&rows)` over tokio-postgres |
//! | `diesel` | the same on SQLite, on a thread that may block |
//! | `tokio_postgres` | COPY by `BinaryCopyInWriter`, which writes rows one by one |
//! | `batch_aint_one` | single rows of many callers, written by one `unnest` a batch |
//!
//! Above the limit on a statement's values, the rows go in several statements, as large as the
//! limit allows, in one transaction. All connections wait for the disk alike. diesel and sqlx share
//! one build of SQLite.

mod aint_one;
mod diesel_rows;
mod orm;
mod tokio_copy;

use std::process::ExitCode;
use std::sync::Arc;

use perf_benches::batch::{self, Answer, Callers, Failure, SIZES, Time, Transport, Work};
use perf_benches::{Group, Works};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let works: Works = |rt| {
        let all = [
            sqlite(rt),
            postgres(rt, Transport::Tcp),
            postgres(rt, Transport::Socket),
            callers(rt),
        ];
        let groups = all.into_iter().flat_map(|groups| {
            groups.unwrap_or_else(|error| {
                eprintln!("left out: {error}");
                Vec::new()
            })
        });
        groups.collect()
    };
    perf_benches::ratios_main(&[("batch", works)])
}

fn sqlite(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    let db = rt.block_on(batch::sqlite::open())?;
    let diesel = diesel_rows::Lite::open(&db)?;
    let group = |rows| {
        let mut group = batch::sqlite::group(rt, &db, rows);
        let work = Work::new(rt, &db, rows, Answer::new);
        group.push(work.entry("sea_orm", |db, rows| orm::sqlite(db.pool, rows)));
        let diesel = diesel.clone();
        group.push(work.entry("diesel", move |_, rows| diesel.clone().insert(rows)));
        group
    };
    Ok(SIZES.map(group).into())
}

fn postgres(rt: &Arc<Runtime>, transport: Transport) -> Result<Vec<Group>, Failure> {
    let Some(db) = rt.block_on(batch::postgres::open(transport))? else {
        return Ok(Vec::new());
    };
    let diesel = rt.block_on(diesel_rows::Pg::open(&db))?;
    let copy = rt.block_on(tokio_copy::Copy::open(&db))?;
    let group = |rows| {
        let mut group = batch::postgres::group(rt, transport, &db, rows);
        let work = Work::new(rt, &db, rows, Answer::new);
        group.push(work.entry("sea_orm", |db, rows| orm::postgres(db.pool, rows)));
        let (diesel, copy) = (diesel.clone(), copy.clone());
        group.push(work.entry("diesel_async", move |_, rows| diesel.clone().insert(rows)));
        group.push(work.entry("tokio_postgres", move |_, rows| copy.clone().insert(rows)));
        group
    };
    Ok(SIZES.map(group).into())
}

fn callers(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for callers in Callers::all(rt)? {
        for time in [Time::Total, Time::P99] {
            let batcher = {
                let _runtime = rt.enter();
                aint_one::batcher(callers.db().pool.clone())
            };
            let mut group = callers.group(time)?;
            let save = move |row| aint_one::save(batcher.clone(), row);
            group.push(callers.entry("batch_aint_one", time, save));
            groups.push(group);
        }
    }
    Ok(groups)
}
