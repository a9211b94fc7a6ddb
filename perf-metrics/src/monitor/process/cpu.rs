use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// The kernel counts in hundredths of a second: below this, the ratio would be off by more than
/// one in a hundred, and two who read at the same time would leave each other nothing to measure.
const LEAST: Duration = Duration::from_secs(1);

/// How much of its processors the process used between two readings.
#[derive(Debug)]
pub(super) struct CpuUsage {
    since: Instant,
    seconds: Option<f64>,
    ratio: Option<f64>,
}

impl CpuUsage {
    /// Starts to measure at `now`, when the process had used `seconds` in all.
    pub(super) fn new(now: Instant, seconds: Option<f64>) -> Self {
        Self {
            since: now,
            seconds,
            ratio: None,
        }
    }

    /// The share that was used since the last reading, 0 to 1, or that of the last reading if
    /// that was less than a second ago.
    pub(super) fn ratio(
        &mut self,
        now: Instant,
        seconds: Option<f64>,
        cores: Option<f64>,
    ) -> Option<f64> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < LEAST {
            return self.ratio;
        }
        let used = seconds.zip(self.seconds).map(|(to, from)| to - from);
        self.ratio = used
            .zip(cores)
            .map(|(used, cores)| (used / elapsed.as_secs_f64() / cores).max(0.0));
        (self.since, self.seconds) = (now, seconds);
        self.ratio
    }
}

/// How many processors the process may use, given the quota of its control groups.
pub(super) fn cores(quota: Option<f64>) -> Option<f64> {
    // Within the affinity and the quota, but never less than one, and always a whole number.
    let whole = available_parallelism().ok().map(|n| n.get() as f64);
    match (whole, quota) {
        (Some(whole), Some(quota)) if whole >= quota.floor() => Some(quota),
        (None, quota) => quota,
        (whole, _) => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_the_processors_that_may_be_used() {
        let start = Instant::now();
        let mut cpu = CpuUsage::new(start, Some(10.0));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(cpu.ratio(at(10), Some(15.0), Some(2.0)), Some(0.25));
        assert_eq!(cpu.ratio(at(14), Some(17.0), Some(0.5)), Some(1.0));
    }

    #[test]
    fn two_who_read_at_the_same_time_see_the_same() {
        let start = Instant::now();
        let mut cpu = CpuUsage::new(start, Some(0.0));
        let soon = start + Duration::from_millis(999);
        assert_eq!(cpu.ratio(soon, Some(0.5), Some(1.0)), None);
        let later = start + Duration::from_secs(2);
        assert_eq!(cpu.ratio(later, Some(1.0), Some(1.0)), Some(0.5));
        let again = later + Duration::from_millis(1);
        assert_eq!(cpu.ratio(again, Some(1.001), Some(1.0)), Some(0.5));
    }

    #[test]
    fn what_the_system_does_not_tell_is_not_made_up() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        assert_eq!(CpuUsage::new(start, None).ratio(later, None, None), None);
    }

    #[test]
    fn a_quota_that_is_no_whole_number_holds() {
        assert_eq!(cores(Some(0.5)), Some(0.5));
        assert!(cores(None) >= Some(1.0));
        let most = cores(None);
        assert_eq!(cores(Some(1e6)), most);
    }
}
