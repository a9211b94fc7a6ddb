//! `cargo run --release --manifest-path benches/queue-peers/Cargo.toml [-- --only queue/redis] [--rounds 10]`
//!
//! The groups of perf-queue with the peers that would double the build of the benches, interleaved with
//! the other entries: 20,000 jobs enqueued in as large batches as the peer takes, then run by 10 workers,
//! from the first enqueue to when the last job's end is stored. The peers cannot tell that, so from the
//! start of the last job on the store is asked every 2 ms whether any is left. In memory nothing is
//! stored, and the start of the last job is the end.
//!
//! | entry | how it is set |
//! |---|---|
//! | `apalis-memory` | its channel; a worker with a concurrency of 10 |
//! | `apalis-sqlite` | WAL and `synchronous=FULL` like the others; batches of 1,000; 5,000 jobs, whose time counts four times: its cost of a job grows with the backlog |
//! | `apalis-postgres` | batches of 1,000, asked for every 10 ms |
//! | `graphile_worker` | a local queue of 500, completions batched |
//! | `apalis-redis` | batches of 1,000; 5,000 jobs, whose time counts four times: a backlog of 8,000 does not drain |
//! | `oxana` | no wait between looks at the queue |

mod apalis_peers;
mod count;
mod graphile;
mod oxana_peer;

use std::process::ExitCode;
use std::sync::Arc;

use perf_benches::queue::{durable, memory};
use perf_benches::{Entry, Group, Works};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let works: Works = |rt| {
        let mut groups = Vec::new();
        groups.extend(with_peers(memory::groups(rt), in_memory(rt)));
        groups.extend(with_peers(durable::sqlite(rt), sqlite(rt)).map(slow));
        if let Some(server) = rt.block_on(testkit::Postgres::shared()) {
            let peers = postgres(rt, &server);
            groups.extend(with_peers(durable::postgres(rt, &server), peers).map(slow));
        }
        if let Some(server) = rt.block_on(testkit::Redis::shared()) {
            let peers = redis(rt, &server);
            groups.extend(with_peers(durable::redis(rt, &server), peers).map(slow));
        }
        groups
    };
    perf_benches::ratios_main(&[("queue", works)])
}

/// The group of 20,000 jobs alone, with the peers.
fn with_peers(groups: Vec<Group>, peers: Vec<Entry>) -> Option<Group> {
    let mut group = groups.into_iter().next()?;
    peers.into_iter().for_each(|peer| group.push(peer));
    Some(group)
}

/// A group whose peers take seconds.
fn slow(group: Group) -> Group {
    group.at_most(10)
}

/// An entry whose failure is said, and ends the program: a ratio to nothing would be worse.
fn entry<F>(name: &'static str, rt: &Arc<Runtime>, run: impl Fn() -> F + 'static) -> Entry
where
    F: Future<Output = Result<std::time::Duration, Failure>> + 'static,
{
    Entry::future(name, rt, move || {
        let run = run();
        async move {
            run.await.unwrap_or_else(|error| {
                eprintln!("{name}: {error}");
                std::process::exit(1);
            })
        }
    })
}

fn in_memory(rt: &Arc<Runtime>) -> Vec<Entry> {
    vec![entry("apalis-memory", rt, apalis_peers::memory)]
}

fn sqlite(rt: &Arc<Runtime>) -> Vec<Entry> {
    vec![entry("apalis-sqlite", rt, apalis_peers::sqlite)]
}

fn postgres(rt: &Arc<Runtime>, server: &testkit::Postgres) -> Vec<Entry> {
    let (apalis, graphile) = (server.url(), server.url());
    vec![
        entry("apalis-postgres", rt, move || {
            apalis_peers::postgres(apalis.clone())
        }),
        entry("graphile_worker", rt, move || {
            graphile::run(graphile.clone())
        }),
    ]
}

fn redis(rt: &Arc<Runtime>, server: &testkit::Redis) -> Vec<Entry> {
    let (apalis, oxana) = (server.url().to_owned(), server.url().to_owned());
    vec![
        entry("apalis-redis", rt, move || {
            apalis_peers::redis(apalis.clone())
        }),
        entry("oxana", rt, move || oxana_peer::run(oxana.clone())),
    ]
}
