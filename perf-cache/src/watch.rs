use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Instant;

/// Fewer requests say nothing about a ratio.
const REQUESTS: u64 = 1_000;

/// The window over which the ratio is taken, at least, and so the time between two warnings.
const WINDOW: Duration = Duration::from_secs(60);

/// Looks at the hit ratio of the last minute or so, and says when it is low. It needs no task: a
/// low ratio comes with misses, and those look.
#[derive(Debug)]
pub(crate) struct Watch {
    warn_below: f64,
    alert_below: f64,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    since: Instant,
    hits: u64,
    requests: u64,
}

/// How low it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Low {
    Warn(f64),
    Alert(f64),
}

impl Watch {
    pub(crate) fn new(warn_below: f64, alert_below: f64) -> Self {
        Self {
            warn_below,
            alert_below,
            window: Mutex::default(),
        }
    }

    /// To be called now and then, with the counts since the cache was built.
    pub(crate) fn look(&self, now: Instant, hits: u64, requests: u64) -> Option<Low> {
        // Whoever else looks will do.
        let mut window = self.window.try_lock().ok()?;
        let asked = requests.saturating_sub(window.requests);
        if asked < REQUESTS || now.since(window.since) < WINDOW {
            return None;
        }
        let ratio = hits.saturating_sub(window.hits) as f64 / asked as f64;
        *window = Window {
            since: now,
            hits,
            requests,
        };
        if ratio < self.alert_below {
            Some(Low::Alert(ratio))
        } else if ratio < self.warn_below {
            Some(Low::Warn(ratio))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_ratio_is_said_once_a_window_of_enough_requests() {
        let watch = Watch::new(0.8, 0.7);
        let at = |seconds| Instant::default().after(Duration::from_secs(seconds));
        assert_eq!(watch.look(at(59), 0, 5_000), None, "too early");
        assert_eq!(watch.look(at(60), 4_500, 5_000), None, "good");
        assert_eq!(watch.look(at(120), 4_500, 5_500), None, "too few");
        assert_eq!(watch.look(at(130), 5_250, 6_000), Some(Low::Warn(0.75)));
        assert_eq!(watch.look(at(140), 5_250, 8_000), None, "just said");
        assert_eq!(watch.look(at(190), 5_750, 8_000), Some(Low::Alert(0.25)));
    }
}
