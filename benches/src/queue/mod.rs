//! The works of perf-queue: 20,000 no-op jobs with payloads of 100 bytes, enqueued as one batch and then
//! worked off by 10 workers, from the first enqueue to the last job's end being where it is safe.
//!
//! | group | durability | beside `ours` |
//! |---|---|---|
//! | `queue/memory/20000` | none | `naive`: workers that share a channel; `tokio-mpsc`: they take 32 jobs at once; `floor`: a channel and one consumer |
//! | `queue/memory-one-by-one/20000` | none; an `enqueue` for each job | `naive` and `floor` as above |
//! | `queue/memory-limits-1000-keys/20000` | none; both limits, which hold nothing back | `floor` |
//! | `queue/sqlite/20000` | WAL, `synchronous=FULL` | `floor`: inserts and deletes of 1,000 rows a commit |
//! | `queue/postgres/20000` | `fsync` on | `floor`: one `UNNEST`, then claims that delete 100 rows a commit |
//! | `queue/redis/20000` | none | `floor`: `LPUSH` in a pipeline, then `RPOP` of 100 |
//! | `queue/{backend}-backlog/200000` | as above | the same with ten times the jobs, per 20,000 |

pub mod durable;
mod floors;
pub mod latency;
pub mod memory;

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::Group;

/// Jobs of a group.
pub const JOBS: usize = 20_000;
/// Workers that run them.
pub const WORKERS: usize = 10;

/// The groups of perf-queue.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut groups = memory::groups(rt);
    groups.extend(durable::groups(rt));
    groups
}

/// A payload of 100 bytes.
#[must_use]
pub fn payload() -> String {
    "x".repeat(100)
}
