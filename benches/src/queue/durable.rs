//! The queue in a file and on servers.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_queue::{Postgres, Queue, QueueBackend, Redis, Sqlite};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{JOBS, WORKERS, floors, payload};
use crate::{Entry, Group};

/// Jobs of the groups that show what a backlog costs.
const BACKLOG: usize = 10 * JOBS;

pub(super) fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut groups = sqlite(rt);
    if let Some(server) = rt.block_on(testkit::Postgres::shared()) {
        groups.extend(postgres(rt, &server));
    }
    if let Some(server) = rt.block_on(testkit::Redis::shared()) {
        groups.extend(redis(rt, &server));
    }
    groups
}

/// The group of 20,000 jobs, and the one of 200,000, whose time counts a tenth.
fn pair<F>(
    rt: &Arc<Runtime>,
    name: &str,
    ours: impl Fn(usize) -> F + Clone + 'static,
    floor: Entry,
) -> Vec<Group>
where
    F: Future<Output = Duration> + 'static,
{
    let run = {
        let ours = ours.clone();
        move || ours(JOBS)
    };
    let again = ours.clone();
    vec![
        Group::new(
            format!("queue/{name}/{JOBS}"),
            JOBS as u64,
            vec![Entry::future("ours", rt, run), floor],
        ),
        Group::new(
            format!("queue/{name}-backlog/{BACKLOG}"),
            JOBS as u64,
            vec![
                Entry::future("ours", rt, move || again(JOBS)),
                Entry::future("backlog", rt, move || {
                    let whole = ours(BACKLOG);
                    async move { whole.await / (BACKLOG / JOBS) as u32 }
                }),
            ],
        )
        .at_most(5),
    ]
}

#[expect(
    clippy::expect_used,
    reason = "without a queue there is nothing to measure"
)]
async fn ours<B: QueueBackend<String, ()>>(backend: B, jobs: usize) -> Duration {
    let queue = Queue::<String>::builder("bench").backend(backend);
    let queue = queue.build().await.expect("the backend is there");
    let workers = queue.workers(WORKERS, |_, _| async { Ok(()) }).spawn();
    let jobs = vec![payload(); jobs];
    // On a thread of the runtime, as in a service.
    let took = tokio::spawn(async move {
        let start = Instant::now();
        queue.enqueue_batch(jobs).await.expect("there is room");
        queue.drain().await.expect("the backend answers");
        start.elapsed()
    });
    let took = took.await.expect("it does not panic");
    workers.shutdown(Duration::from_secs(1)).await;
    took
}

/// The groups of SQLite; the first is that of [`JOBS`].
pub fn sqlite(rt: &Arc<Runtime>) -> Vec<Group> {
    let run = |jobs| async move {
        let Ok(dir) = TempDir::new() else {
            return Duration::ZERO;
        };
        let backend = Sqlite::open(dir.path().join("queue.db")).capacity(BACKLOG);
        ours(backend, jobs).await
    };
    let floor = Entry::future("floor", rt, || floors::sqlite(JOBS));
    pair(rt, "sqlite", run, floor)
}

/// The groups of Postgres, likewise; none where it cannot be reached.
pub fn postgres(rt: &Arc<Runtime>, server: &testkit::Postgres) -> Vec<Group> {
    let pool = rt.block_on(async {
        let url = server.schema_url().await;
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .test_before_acquire(false);
        pool.connect(&url).await
    });
    let Ok(pool) = pool else {
        return Vec::new();
    };
    let schema = testkit::unique("queue");
    let run = {
        let pool: PgPool = pool.clone();
        move |jobs| {
            let backend = Postgres::new(pool.clone())
                .schema(schema.clone())
                .capacity(BACKLOG);
            ours(backend, jobs)
        }
    };
    let floor = Entry::future("floor", rt, move || floors::postgres(pool.clone(), JOBS));
    pair(rt, "postgres", run, floor)
}

/// The groups of Redis, likewise.
pub fn redis(rt: &Arc<Runtime>, server: &testkit::Redis) -> Vec<Group> {
    let url = server.url().to_owned();
    let prefix = testkit::unique("queue");
    let run = {
        let url = url.clone();
        move |jobs| {
            let backend = Redis::connect(url.clone())
                .prefix(prefix.clone())
                .capacity(BACKLOG)
                .allow_data_loss();
            ours(backend, jobs)
        }
    };
    let floor = |name, jobs: usize| {
        let url = url.clone();
        Entry::future(name, rt, move || {
            let whole = floors::redis(url.clone(), jobs);
            async move { whole.await / (jobs / JOBS) as u32 }
        })
    };
    let mut groups = pair(rt, "redis", run, floor("floor", JOBS));
    if let Some(backlog) = groups.last_mut() {
        // What a larger heap costs the server.
        backlog.push(floor("floor", JOBS));
        backlog.push(floor("floor-backlog", BACKLOG));
    }
    groups
}
