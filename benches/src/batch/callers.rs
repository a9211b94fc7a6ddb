//! Many callers, each of which saves single rows and waits for each.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_batch::{Batcher, BulkInsert};
use sqlx::PgPool;
use tokio::runtime::Runtime;

use super::postgres::{INSERT, open};
use super::rows::bind;
use super::work::finished;
use super::{Answer, Failure, Pg, Target, Transport};
use crate::{Entry, Group};

/// Callers at once, and the rows of each.
const LOADS: [(usize, usize); 3] = [(1, 200), (16, 100), (256, 20)];
/// Connections of `naive_pool_20`.
const CONNECTIONS: u32 = 20;

/// Which time of a run counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// From the first row to the last.
    Total,
    /// The 99th percentile of the time that a caller waits for a row.
    P99,
}

/// So many callers, who save so many rows each.
#[derive(Clone)]
pub struct Callers {
    rt: Arc<Runtime>,
    db: Pg,
    callers: usize,
    rows: usize,
}

pub(super) fn groups(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    Callers::all(rt)?
        .iter()
        .flat_map(|callers| [Time::Total, Time::P99].map(|time| callers.group(time)))
        .collect()
}

impl Callers {
    /// The loads of the groups `batch/callers/{n}`; none where there is no server.
    ///
    /// # Errors
    ///
    /// What kept it from making the table.
    pub fn all(rt: &Arc<Runtime>) -> Result<Vec<Self>, Failure> {
        let Some(db) = rt.block_on(open(Transport::Tcp))? else {
            return Ok(Vec::new());
        };
        let load = |(callers, rows)| Self {
            rt: Arc::clone(rt),
            db: db.clone(),
            callers,
            rows,
        };
        Ok(LOADS.map(load).into())
    }

    /// The table.
    pub fn db(&self) -> &Pg {
        &self.db
    }

    /// The group, by the time that counts.
    ///
    /// # Errors
    ///
    /// What kept it from connecting.
    pub fn group(&self, time: Time) -> Result<Group, Failure> {
        let pool = self.rt.block_on(self.db.pool_of(CONNECTIONS))?;
        let naive = move |row| naive(pool.clone(), row);
        let insert = BulkInsert::<Answer>::new();
        let batcher = {
            let _runtime = self.rt.enter();
            Batcher::builder(self.db.pool.clone(), insert).spawn()
        };
        let ours = move |row| {
            let batcher = batcher.clone();
            async move { Ok(batcher.add(row).await?) }
        };
        let entries = vec![
            self.entry("naive_pool_20", time, naive),
            self.entry("ours", time, ours),
        ];
        let what = match time {
            Time::Total => "callers",
            Time::P99 => "callers_p99",
        };
        let name = format!("batch/{what}/{}", self.callers);
        Ok(Group::new(name, (self.callers * self.rows) as u64, entries))
    }

    /// An entry whose callers save a row by `save`.
    ///
    /// # Panics
    ///
    /// The entry panics if a row cannot be saved.
    pub fn entry<F>(
        &self,
        name: &'static str,
        time: Time,
        save: impl Fn(Answer) -> F + Clone + Send + 'static,
    ) -> Entry
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let this = self.clone();
        Entry::new(name, move || {
            let timed = this.rt.block_on(this.run(save.clone()));
            let timed = timed.map(|(total, p99)| match time {
                Time::Total => total,
                Time::P99 => p99,
            });
            finished(name, timed)
        })
    }

    async fn run<F>(
        &self,
        save: impl Fn(Answer) -> F + Clone + Send + 'static,
    ) -> Result<(Duration, Duration), Failure>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut first = self.db.make_room(self.callers * self.rows).await?;
        let mut all = Vec::with_capacity(self.callers);
        for _ in 0..self.callers {
            let end = first + i64::try_from(self.rows)?;
            all.push((first..end).map(Answer::new).collect::<Vec<_>>());
            first = end;
        }
        let start = Instant::now();
        let tasks = all.into_iter().map(|rows| {
            let save = save.clone();
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(rows.len());
                for row in rows {
                    let start = Instant::now();
                    save(row).await?;
                    waits.push(start.elapsed());
                }
                Ok::<_, Failure>(waits)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut waits = Vec::with_capacity(self.callers * self.rows);
        for task in tasks {
            waits.extend(task.await??);
        }
        let total = start.elapsed();
        waits.sort_unstable();
        let p99 = waits.get(waits.len() * 99 / 100);
        Ok((total, p99.copied().unwrap_or_default()))
    }
}

async fn naive(pool: PgPool, row: Answer) -> Result<(), Failure> {
    bind!(sqlx::query(INSERT), row).execute(&pool).await?;
    Ok(())
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers")
            .field("callers", &self.callers)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}
