use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::Target;
use crate::Entry;

/// Why a run failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Rows of one run at least, in several batches where one is smaller: a service writes its batches
/// one after another, and what is lost to the caches that another entry left behind is not what
/// one batch takes.
const AT_LEAST: usize = 1_000;

/// One piece of work, for entries that do it in different ways.
#[derive(Clone)]
pub struct Work<D, R> {
    rt: Arc<Runtime>,
    target: D,
    rows: usize,
    batches: usize,
    make: Arc<dyn Fn(i64) -> Vec<R>>,
    written: u64,
}

impl<D: Target, R: Send + 'static> Work<D, R> {
    /// Writes `rows` rows to `target`, which `make` makes from their numbers.
    pub fn new(rt: &Arc<Runtime>, target: &D, rows: usize, make: fn(i64) -> R) -> Self {
        let count = i64::try_from(rows).unwrap_or(i64::MAX);
        let all = move |first| (first..first + count).map(make).collect();
        Self {
            rt: Arc::clone(rt),
            target: target.clone(),
            rows,
            batches: (AT_LEAST / rows.max(1)).max(1),
            make: Arc::new(all),
            written: rows as u64,
        }
    }

    /// The work with `spoil` done to its rows, so that only `written` of them can be written.
    pub(crate) fn spoilt(mut self, written: usize, spoil: impl Fn(&mut [R]) + 'static) -> Self {
        let make = self.make;
        self.make = Arc::new(move |first| {
            let mut rows = make(first);
            spoil(&mut rows);
            rows
        });
        self.written = written as u64;
        self
    }

    /// How many rows a run writes, over all its batches.
    pub fn elements(&self) -> u64 {
        (self.rows * self.batches) as u64
    }

    /// An entry that counts the time of `run`, which says how many rows it wrote.
    ///
    /// # Panics
    ///
    /// The entry panics if `run` fails or wrote another number of rows: the time of work that was
    /// not done compares with nothing.
    pub fn entry<F>(&self, name: &'static str, run: impl Fn(D, Vec<R>) -> F + 'static) -> Entry
    where
        F: Future<Output = Result<u64, Failure>> + Send + 'static,
    {
        let Self {
            rt,
            target,
            rows,
            batches,
            make,
            written: expected,
        } = self;
        let (rt, target, make) = (Arc::clone(rt), target.clone(), Arc::clone(make));
        let (rows, batches, expected) = (*rows, *batches, *expected);
        Entry::new(name, move || {
            let timed = rt.block_on(async {
                let first = target.make_room(rows * batches).await?;
                let mut running = Vec::with_capacity(batches);
                for batch in 0..batches {
                    let rows = make(first + i64::try_from(rows * batch)?);
                    running.push(run(target.clone(), rows));
                }
                // On a thread of the runtime, which also waits for the network.
                let running = tokio::spawn(async move {
                    let start = Instant::now();
                    for running in running {
                        let written = running.await?;
                        if written != expected {
                            return Err(format!("it wrote {written} rows, not {expected}").into());
                        }
                    }
                    Ok(start.elapsed())
                });
                running.await?
            });
            finished(name, timed)
        })
    }
}

#[expect(
    clippy::panic,
    reason = "the time of work that was not done compares with nothing"
)]
pub(crate) fn finished(name: &str, timed: Result<Duration, Failure>) -> Duration {
    timed.unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl<D: fmt::Debug, R> fmt::Debug for Work<D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("target", &self.target)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}
