use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// What handlers write down, with the time since the log began.
#[derive(Debug)]
pub(crate) struct Log<E> {
    start: Instant,
    entries: Arc<Mutex<Vec<(Duration, E)>>>,
}

impl<E: Clone> Log<E> {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn add(&self, entry: E) {
        let at = self.start.elapsed();
        self.entries().push((at, entry));
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<(Duration, E)>> {
        self.entries.lock().unwrap()
    }

    pub(crate) fn values(&self) -> Vec<E> {
        self.entries().iter().map(|(_, e)| e.clone()).collect()
    }

    pub(crate) fn times(&self) -> Vec<Duration> {
        self.entries().iter().map(|(at, _)| *at).collect()
    }
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            entries: Arc::clone(&self.entries),
        }
    }
}

/// How many of `times` the fullest half-open window of `period` holds.
pub(crate) fn busiest_window(times: &[Duration], period: Duration) -> usize {
    let within = |from: Duration| {
        times
            .iter()
            .filter(|t| **t >= from && **t < from + period)
            .count()
    };
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
