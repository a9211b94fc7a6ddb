use std::sync::Arc;
use std::time::Duration;

use crate::LoadError;
use crate::clock::{Instant, NEVER};
use crate::entry::Entry;

/// The natural logarithm of a random number is hardly ever below the negative of this: once in
/// e^20, half a billion draws.
const SURELY: f64 = 20.0;

/// When to load a value again while it is still fresh, so that nobody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum RefreshAhead {
    /// Not before it is asked for and no longer fresh.
    #[default]
    Never,
    /// By chance: each hit may start the refresh, the likelier the nearer the end of the time to
    /// live and the longer the load took, so that of many processes about one does, and early
    /// enough. A hit `r` before the end refreshes with the probability `exp(-r / (beta * load
    /// time))`. (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede
    /// Prevention, VLDB 2015.)
    XFetch {
        /// 1.0 is optimal where load times vary little; more refreshes earlier.
        beta: f64,
    },
    /// From this part of the time to live on: 0.9 refreshes at the first hit in its last tenth.
    Fraction(f64),
}

/// How long entries are of use, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) time_to_live: Option<Duration>,
    /// The part of the time to live that chance may take away: entries stored together do not
    /// expire together. It only ever shortens, so that the time to live stays the promise.
    pub(crate) jitter: f64,
    pub(crate) time_to_idle: Option<Duration>,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) refresh_ahead: RefreshAhead,
    pub(crate) negative_ttl: Duration,
    pub(crate) retry_failed_after: Duration,
}

/// What an entry is good for at a time.
#[derive(Debug)]
pub(crate) enum State<V> {
    Fresh(Arc<V>),
    /// Served at once; to be loaded again behind it.
    Refresh {
        value: Arc<V>,
        stale: bool,
    },
    /// Served without a load: one has just failed.
    Retained(Arc<V>),
    /// Served only if a load fails, or takes too long.
    Fallback(Arc<V>),
    /// A load has just failed, and this is how.
    Failed(LoadError),
    Useless,
}

impl Policy {
    /// Sets until when an entry is fresh that is stored at `now`, and of use.
    pub(crate) fn set_times<V>(&self, entry: &mut Entry<V>, now: Instant, times: Times) {
        let ttl = times.own.or(self.time_to_live);
        let ttl = match (ttl, times.at_most) {
            (Some(ttl), Some(cap)) => Some(ttl.min(cap)),
            (ttl, cap) => ttl.or(cap),
        };
        entry.fresh_until = ttl.map_or(NEVER, |ttl| now.after(self.jittered(ttl)));
        // A failure has no afterlife: there is nothing to fall back on.
        entry.useful_until = match entry.value {
            Some(_) => entry.fresh_until.after(self.afterlife()),
            None => entry.fresh_until,
        };
        entry.plain_until = match self.refresh_ahead {
            RefreshAhead::Never => entry.fresh_until,
            RefreshAhead::XFetch { beta } => {
                (entry.fresh_until).before(multiply(times.load, beta * SURELY))
            }
            RefreshAhead::Fraction(part) => {
                let fresh_for = entry.fresh_until.since(now);
                entry.fresh_until.before(multiply(fresh_for, 1.0 - part))
            }
        };
    }

    /// Whether a value of such times is kept at all: one without a time to live is not served stale
    /// either.
    pub(crate) fn is_kept(&self, times: Times) -> bool {
        !(times.own.or(self.time_to_live)).is_some_and(|ttl| ttl.is_zero())
    }

    fn jittered(&self, ttl: Duration) -> Duration {
        if self.jitter > 0.0 {
            ttl.saturating_sub(multiply(ttl, self.jitter * fastrand::f64()))
        } else {
            ttl
        }
    }

    /// How long an entry may be of use after it is no longer fresh.
    pub(crate) fn afterlife(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }

    /// What the entry is good for. That nothing has invalidated it is the caller's to know.
    pub(crate) fn state<V>(&self, mut entry: Entry<V>, now: Instant) -> State<V> {
        let used = entry.touch(now);
        let more = entry.more.clone();
        if let Some(failure) = more.as_ref().and_then(|more| more.failure.as_ref()) {
            return match now < entry.fresh_until {
                true => State::Failed(failure.clone()),
                false => State::Useless,
            };
        }
        let idle = |after| used.is_some_and(|used| now.since(used) >= after);
        if self.time_to_idle.is_some_and(idle) {
            return State::Useless;
        }
        let Some(value) = entry.value.take() else {
            return State::Useless;
        };
        let more = more.as_deref();
        if now < entry.fresh_until {
            return match now >= entry.plain_until && self.is_drawn(&entry, now) {
                true => State::Refresh {
                    value,
                    stale: false,
                },
                false => State::Fresh(value),
            };
        }
        let stale_for = now.since(entry.fresh_until);
        if more.is_some_and(|more| now < more.retry_at) {
            return State::Retained(value);
        }
        let expired = more.is_some_and(|more| more.expired);
        if stale_for < self.stale_while_revalidate && !expired {
            return State::Refresh { value, stale: true };
        }
        match stale_for < self.stale_if_error {
            true => State::Fallback(value),
            false => State::Useless,
        }
    }

    /// Whether a hit so near to the end starts a refresh.
    fn is_drawn<V>(&self, entry: &Entry<V>, now: Instant) -> bool {
        match self.refresh_ahead {
            RefreshAhead::Never => false,
            RefreshAhead::Fraction(_) => true,
            RefreshAhead::XFetch { .. } => {
                // `beta * load time` is this window by `SURELY`. 1 - [0, 1) is never 0, whose
                // logarithm is none.
                let window = entry.fresh_until.since(entry.plain_until);
                let early = multiply(window, -(1.0 - fastrand::f64()).ln() / SURELY);
                now.after(early) >= entry.fresh_until
            }
        }
    }
}

/// What is special about the times of one value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Its own time to live.
    pub(crate) own: Option<Duration>,
    /// It must not live longer than this.
    pub(crate) at_most: Option<Duration>,
    /// How long its load took.
    pub(crate) load: Duration,
}

/// Saturating, and for factors of any kind.
fn multiply(duration: Duration, factor: f64) -> Duration {
    // Too long for a `Duration`; a negative product is none.
    let beyond = match factor > 0.0 {
        true => Duration::MAX,
        false => Duration::ZERO,
    };
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(beyond)
}
