//! The works of perf-batch: saving many rows.
//!
//! | group | work | beside `ours` |
//! |---|---|---|
//! | `batch/sqlite/{rows}` | 10 to 100,000 rows of five columns | `naive`, `one_transaction`, `push_values`, `floor_*` |
//! | `batch/sqlite_narrow/100000` | rows of four columns without a key of two | `floor_values` |
//! | `batch/postgres/{rows}` | as on SQLite, over TCP | the same |
//! | `batch/postgres_socket/{rows}` | over the Unix socket | the same |
//! | `batch/slow_disk/1000` | Postgres, each `fdatasync` 10 ms later | `naive`, `one_transaction` |
//! | `batch/fallback/{db}/{bad}` | 1,000 rows, so many of them bad, all others saved | `clean`, `row_by_row`, `savepoints` |
//! | `batch/callers/{n}` | single rows of so many callers at once, Postgres over TCP | `naive_pool_20` |
//! | `batch/callers_p99/{n}` | the same; the time is the 99th percentile of a row's | `naive_pool_20` |
//!
//! **Durability** is the same for all entries of a group: SQLite is a file in WAL mode with
//! `synchronous=FULL`, Postgres is testkit's server with its settings as they come. On both a
//! commit waits for the disk.
//!
//! **Entries.** `naive` is a commit a row over a connection that it keeps, its statement prepared
//! once; `one_transaction` puts the same statements into one transaction; `push_values` is sqlx's
//! `QueryBuilder`, one statement where the limit on its values allows that. Each `floor_*` is what
//! one would write by hand for just this table, without a check of anything; the fastest of them
//! is the floor at that size:
//!
//! | floor | what it does |
//! |---|---|
//! | `floor_statement` | SQLite: one statement of all rows, which commits itself |
//! | `floor_values` | statements of a fixed number of rows of values, in a transaction where there are several |
//! | `floor_unnest` | Postgres: one statement with an array a column, which commits itself |
//! | `floor_copy` | Postgres: `COPY` of rows in its binary format, which commits itself |
//!
//! All of them take a connection out of a pool that does not ping it first, so that what is
//! compared is the writing. Each runs as a task of the runtime, as in a service, and its rows are
//! made before the clock starts. A run of 10 or 100 rows is 1,000 rows in batches of that size. SQLite's table is emptied before each run and its log folded
//! in; Postgres' gets new keys each time and is emptied when it holds 100,000 rows, as a
//! `TRUNCATE` would have the next statement planned again. Every run checks how many rows it wrote.
//!
//! **Peers** that would double this crate's build are in a package of their own, `benches/peers`,
//! which adds them to the groups here.

mod callers;
mod fallback;
mod narrow;
pub mod postgres;
mod rows;
mod slow_disk;
pub mod sqlite;
mod target;
mod work;

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::Group;

pub use callers::{Callers, Time};
pub use rows::{Answer, COLUMNS};
pub use target::{Lite, Pg, Target, Transport};
pub use work::{Failure, Work};

/// The numbers of rows of a group each.
pub const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

/// Up to here a group has the ways that take a trip a row.
const SINGLY: usize = 1_000;

/// What takes SQLite's write lock at once, as a transaction that writes should.
pub(crate) const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// The groups of perf-batch.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut add = |what: &str, made: Result<Vec<Group>, Failure>| match made {
        Ok(made) => groups.extend(made), // none: testkit says what is missing
        Err(error) => eprintln!("{what}: left out: {error}"),
    };
    add("batch/sqlite", sqlite::groups(rt));
    add("batch/sqlite_narrow", narrow::groups(rt));
    add("batch/postgres", postgres::groups(rt, Transport::Tcp));
    add(
        "batch/postgres_socket",
        postgres::groups(rt, Transport::Socket),
    );
    add("batch/slow_disk", slow_disk::groups(rt));
    add("batch/fallback/sqlite", fallback::sqlite(rt));
    add("batch/fallback/postgres", fallback::postgres(rt));
    add("batch/callers", callers::groups(rt));
    groups
}
