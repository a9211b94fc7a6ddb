use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{CAPACITY, HistorySample, Totals};

/// The last samples.
#[derive(Debug, Default)]
pub(crate) struct History {
    state: Mutex<State>,
    samplers: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    samples: VecDeque<HistorySample>,
    /// What the next sample is measured from.
    last: Option<(Instant, Totals)>,
}

/// Counts a sampler for as long as it lives.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct Sampling<'a>(&'a AtomicUsize);

#[cfg(feature = "tokio")]
impl Drop for Sampling<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl History {
    /// Takes a sample unless another sampler has just done so.
    #[cfg(feature = "tokio")]
    pub(crate) fn sample(&self, now: Instant, totals: impl FnOnce() -> Totals) {
        // Half of the time between two ticks, of which one may be late.
        let least = Duration::from_millis(500);
        self.state().sample(now, least, totals);
    }

    /// The samples, the oldest first. Takes one if there is no sampler and the last is a second
    /// old.
    pub(crate) fn read(&self, now: Instant, totals: impl FnOnce() -> Totals) -> Vec<HistorySample> {
        let mut state = self.state();
        if self.samplers.load(Ordering::Relaxed) == 0 {
            state.sample(now, Duration::from_secs(1), totals);
        }
        state.samples.iter().cloned().collect()
    }

    /// Says that there is a sampler, until the value is dropped.
    #[cfg(feature = "tokio")]
    pub(crate) fn sampling(&self) -> Sampling<'_> {
        self.samplers.fetch_add(1, Ordering::Relaxed);
        Sampling(&self.samplers)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sample(&mut self, now: Instant, least: Duration, totals: impl FnOnce() -> Totals) {
        let since = |last: &(Instant, _)| now.saturating_duration_since(last.0);
        let elapsed = self.last.as_ref().map(since);
        if elapsed.is_some_and(|elapsed| elapsed < least) {
            return;
        }
        let totals = totals();
        if let (Some((_, before)), Some(elapsed)) = (&self.last, elapsed) {
            let at = SystemTime::now().duration_since(UNIX_EPOCH);
            let at = at.unwrap_or_default().as_secs_f64();
            let sample = totals.since(before, at, elapsed.as_secs_f64());
            if self.samples.len() >= CAPACITY {
                self.samples.pop_front();
            } else {
                // All at once, so that memory is flat from the first sample on.
                self.samples.reserve_exact(CAPACITY - self.samples.len());
            }
            self.samples.push_back(sample);
        }
        self.last = Some((now, totals));
    }
}
