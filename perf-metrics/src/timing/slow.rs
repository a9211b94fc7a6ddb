use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::clock::Instant;

/// Lines of a kind in a second. More say little that the first do not, and cost the service what
/// it is already short of.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Lets so many lines pass in each second, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Limit {
    window: Mutex<Window>,
    /// The clock's reading at the first that was counted and that nobody was told of; zero if there
    /// is none. Who starts a request looks at it, and takes no lock before it is time.
    untold: AtomicU64,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Limit {
    /// Whether a line may be written now; if so, how many were not since the last.
    pub(super) fn allow(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = window.began.is_none_or(|began| began.until(now) >= WINDOW);
        if fresh {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.suppressed += 1;
            if window.suppressed == 1 {
                self.untold.store(now.raw(), Relaxed);
            }
            return None;
        }
        window.lines += 1;
        Some(self.tell(&mut window))
    }

    /// How many were not written, if nobody was told: a second after the first of them, or at once
    /// where there is no `now`.
    fn untold(&self, now: Option<Instant>) -> Option<u64> {
        let first = self.untold.load(Relaxed);
        let due = |now| Instant::from_raw(first).until(now) >= WINDOW;
        if first == 0 || !now.is_none_or(due) {
            return None;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        Some(self.tell(&mut window)).filter(|n| *n > 0)
    }

    fn tell(&self, window: &mut Window) -> u64 {
        self.untold.store(0, Relaxed);
        std::mem::take(&mut window.suppressed)
    }
}

/// Writes a line for each slow request.
#[derive(Debug, Default)]
pub(super) struct SlowLog {
    limit: Limit,
}

/// A request that took long.
#[derive(Debug)]
pub(super) struct Slow<'a> {
    pub(super) method: &'static str,
    pub(super) route: &'a str,
    /// `None` if it ended before it had one.
    pub(super) status: Option<StatusCode>,
    /// Why it ended then.
    pub(super) reason: Option<&'static str>,
    pub(super) time: Duration,
    pub(super) trace: Option<TraceId>,
}

impl SlowLog {
    /// Writes how many lines were left out since the last, once their second is over; at once where
    /// there is no `now`.
    pub(super) fn tell(&self, now: Option<Instant>) {
        if let Some(suppressed) = self.limit.untold(now) {
            // Not in the span of whoever happens to look.
            tracing::warn!(parent: None, suppressed, "slow requests were not logged");
        }
    }

    pub(super) fn write(&self, slow: &Slow<'_>) {
        let Some(suppressed) = self.limit.allow(Instant::now()) else {
            return;
        };
        let span = tracing::Span::current().id().map(|id| id.into_u64());
        tracing::warn!(
            http.request.method = slow.method,
            http.route = slow.route,
            http.response.status_code = slow.status.map(|status| status.as_u16()),
            aborted = slow.reason,
            seconds = slow.time.as_secs_f64(),
            trace_id = slow.trace.map(tracing::field::display),
            span_id = span,
            suppressed,
            "slow request"
        );
    }
}

/// The id of a trace that the request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceId(u128);

impl TraceId {
    /// From the header `traceparent` of the W3C's trace context: version, trace id, parent id and
    /// flags in lower-case hexadecimal digits, such as
    /// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.is_empty() {
            return None;
        }
        let value = headers.get("traceparent")?.to_str().ok()?;
        let id = value.split('-').nth(1).filter(|id| id.len() == 32)?;
        let id = u128::from_str_radix(id, 16).ok()?;
        Self::from_halves([(id >> 64) as u64, id as u64])
    }

    /// The id that was taken apart; `None` for zeros, which are not one.
    pub(super) fn from_halves([high, low]: [u64; 2]) -> Option<Self> {
        let id = u128::from(high) << 64 | u128::from(low);
        (id != 0).then_some(Self(id))
    }

    /// The halves of the id, the upper first.
    pub(super) fn halves(self) -> [u64; 2] {
        [(self.0 >> 64) as u64, self.0 as u64]
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_pass_a_second_and_the_next_tells_of_the_others() {
        let limit = Limit::default();
        let start = Instant::now();
        let at = |ms| start.plus(Duration::from_millis(ms));
        let allow = |ms| limit.allow(at(ms));
        for _ in 0..LINES {
            assert_eq!(allow(0), Some(0));
        }
        for _ in 0..500 {
            assert_eq!(allow(999), None);
        }
        assert_eq!(allow(1000), Some(500));
        assert_eq!(allow(1001), Some(0));
    }

    #[test]
    fn what_was_left_out_is_told_a_second_after_the_first_of_it_or_at_the_end() {
        let limit = Limit::default();
        let start = Instant::now();
        let at = |ms| start.plus(Duration::from_millis(ms));
        assert_eq!(limit.untold(None), None);
        for _ in 0..LINES + 3 {
            limit.allow(at(500));
        }
        assert_eq!(limit.untold(Some(at(1499))), None);
        assert_eq!(limit.untold(Some(at(1500))), Some(3));
        assert_eq!(limit.untold(None), None);
        limit.allow(at(1499));
        assert_eq!(limit.untold(Some(at(1500))), None);
        assert_eq!(limit.untold(None), Some(1));
    }

    #[test]
    fn the_trace_id_is_that_of_traceparent() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            TraceId::of(&headers).map(|id| id.to_string())
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(
            of(&format!("00-{id}-b7ad6b7169203331-01")).as_deref(),
            Some(id)
        );
        for none in [
            "",
            "00",
            "00-0-0-0",
            "00-xx-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-zaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(TraceId::of(&HeaderMap::new()), None);
    }
}
