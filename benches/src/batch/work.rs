use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::Target;
use crate::Entry;

/// Why a run failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One piece of work, for entries that do it in different ways.
#[derive(Clone)]
pub struct Work<D, R> {
    rt: Arc<Runtime>,
    target: D,
    rows: usize,
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

    /// How many rows the work has.
    pub fn rows(&self) -> usize {
        self.rows
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
            make,
            written: expected,
        } = self;
        let (rt, target, make) = (Arc::clone(rt), target.clone(), Arc::clone(make));
        let (rows, expected) = (*rows, *expected);
        Entry::new(name, move || {
            let timed = rt.block_on(async {
                let rows = make(target.make_room(rows).await?);
                let running = run(target.clone(), rows);
                // On a thread of the runtime, which also waits for the network.
                let running = tokio::spawn(async move {
                    let start = Instant::now();
                    let written = running.await?;
                    Ok::<_, Failure>((start.elapsed(), written))
                });
                match running.await? {
                    Ok((time, written)) if written == expected => Ok(time),
                    Ok((_, written)) => {
                        Err(format!("it wrote {written} rows, not {expected}").into())
                    }
                    Err(error) => Err(error),
                }
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
