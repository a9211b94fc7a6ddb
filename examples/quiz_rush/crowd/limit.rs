use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::api::CALLS_PER_SECOND;

/// Calls above the limit that it forgives in any second: a sender cannot know how long its calls
/// travel, so calls spaced well may still arrive a little bunched. 5% of the limit.
const TOLERANCE: u32 = 10;
/// Calls that it takes in any second, all told.
pub(crate) const CAPACITY: usize = (CALLS_PER_SECOND + TOLERANCE) as usize;
const WINDOW: Duration = Duration::from_secs(1);

/// A sliding window: a call is taken when fewer than [`CAPACITY`] calls were taken in the second
/// before it. Refused calls do not count.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    taken: VecDeque<Instant>,
}

impl Limit {
    /// Takes a call, or says after what time there is room again.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        while self
            .taken
            .front()
            .is_some_and(|&t| now.saturating_duration_since(t) >= WINDOW)
        {
            self.taken.pop_front();
        }
        match self.taken.front() {
            Some(&oldest) if self.taken.len() >= CAPACITY => {
                Err(WINDOW.saturating_sub(now.saturating_duration_since(oldest)))
            }
            _ => {
                self.taken.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_above_limit_and_tolerance_is_refused_until_the_window_has_moved() {
        let mut limit = Limit::default();
        let start = Instant::now();
        for _ in 0..CAPACITY {
            limit.take(start).unwrap();
        }
        let later = start + Duration::from_millis(400);
        assert_eq!(limit.take(later), Err(Duration::from_millis(600)));
        limit.take(start + WINDOW).unwrap();
    }

    #[test]
    fn calls_spaced_at_the_limit_are_all_taken() {
        let mut limit = Limit::default();
        let start = Instant::now();
        for n in 0..2_000 {
            limit.take(start + Duration::from_millis(5) * n).unwrap();
        }
    }
}
