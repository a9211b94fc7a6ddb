use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::patience::Patience;
use super::table::{SeriesId, Table};
use crate::clock::Instant;

/// The time between two looks at what is running.
const EVERY: Duration = Duration::from_secs(1);

/// The lines that a look writes at most, one a method and route, those of the oldest requests: where
/// everything hangs, more say little.
const LINES: usize = 10;

/// Tells of requests that have run for too long without headers.
///
/// It has no task: it looks when a request starts or when the monitor is read, a second after its
/// last look at the earliest.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Option<Patience>,
    /// The clock's reading at the last look.
    looked: AtomicU64,
}

/// A request that is running.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunningRequest {
    /// The method; `_OTHER` for those that HTTP does not know.
    pub method: &'static str,
    /// The route, as in the label `http_route`.
    pub route: String,
    /// The time since it started; in seconds when serialised, as `age_seconds`.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// Whether it has been answered with headers, and its body is being sent.
    pub has_headers: bool,
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

impl Watchdog {
    pub(super) fn new(patience: Option<Patience>) -> Self {
        Self {
            patience,
            looked: AtomicU64::new(Instant::now().raw()),
        }
    }

    /// Whether it is time to look again.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.patience.is_some() && self.since(now) >= EVERY
    }

    fn since(&self, now: Instant) -> Duration {
        Instant::from_raw(self.looked.load(Relaxed)).until(now)
    }
}

impl Table {
    /// The requests that have been running for `min_age` or longer, the oldest first.
    pub(super) fn long_running(&self, min_age: Duration) -> Vec<RunningRequest> {
        let now = Instant::now();
        let mut all = Vec::new();
        self.running.visit(|seen| {
            let age = seen.started.until(now);
            if age >= min_age {
                all.push(RunningRequest {
                    method: seen.series.method_name(),
                    route: self.route_name(seen.series).to_owned(),
                    age,
                    has_headers: seen.has_headers,
                });
            }
        });
        all.sort_by_key(|running| std::cmp::Reverse(running.age));
        all
    }

    /// Writes a line for each method and route of which a request exceeds its limit that did not
    /// before; it tells the limit, the age of the oldest, and how many there are.
    pub(super) fn watch(&self, now: Instant) {
        let Some(patience) = &self.watchdog.patience else {
            return;
        };
        let looked = self.watchdog.looked.load(Relaxed);
        let due = Instant::from_raw(looked).until(now) >= EVERY;
        let swap = |from, to| {
            let swapped = self
                .watchdog
                .looked
                .compare_exchange(from, to, Relaxed, Relaxed);
            swapped.is_ok()
        };
        // One thread looks.
        if !due || !swap(looked, now.raw()) {
            return;
        }
        let least = patience.least();
        let mut all: HashMap<SeriesId, Late> = HashMap::new();
        self.running.visit(|seen| {
            let age = seen.started.until(now);
            // A body may well be sent for hours.
            if seen.has_headers || age < least {
                return;
            }
            let late = all.entry(seen.series).or_insert_with(|| {
                let (method, route) = (seen.series.method_name(), self.route_name(seen.series));
                Late::beyond(patience.of(method, route))
            });
            if age >= late.limit {
                late.oldest = late.oldest.max(age);
                late.found += u64::from(!seen.reported());
                late.running += 1;
            }
        });
        let mut late: Vec<_> = all.into_iter().filter(|(_, late)| late.found > 0).collect();
        late.sort_by_key(|(_, late)| std::cmp::Reverse(late.oldest));
        let unnamed = late.len().saturating_sub(LINES);
        late.truncate(LINES);
        // Those that are left out have their turn at a later look.
        let named: HashMap<_, _> = late
            .iter()
            .map(|(series, it)| (*series, it.limit))
            .collect();
        self.running.visit(|seen| {
            let limit = named.get(&seen.series).filter(|_| !seen.has_headers);
            if limit.is_some_and(|limit| seen.started.until(now) >= *limit) {
                seen.report();
            }
        });
        for (series, late) in late {
            // Not in the span of the request that happens to look.
            tracing::warn!(
                parent: None,
                http.request.method = series.method_name(),
                http.route = self.route_name(series),
                seconds = late.oldest.as_secs_f64(),
                limit_seconds = late.limit.as_secs_f64(),
                found = late.found,
                running = late.running,
                unnamed_routes = unnamed,
                "request is still running"
            );
        }
    }
}

/// The requests of a method and route that exceed their limit.
struct Late {
    limit: Duration,
    oldest: Duration,
    /// Those that did not before.
    found: u64,
    running: u64,
}

impl Late {
    /// None yet; without a limit, none ever.
    fn beyond(limit: Option<Duration>) -> Self {
        Self {
            limit: limit.unwrap_or(Duration::MAX),
            oldest: Duration::ZERO,
            found: 0,
            running: 0,
        }
    }
}
