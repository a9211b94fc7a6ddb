//! What a pool does for itself: it keeps its gauges true, its base open and idle connections alive,
//! closes what is too old or too many, and tells of leaks and of thresholds that are passed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::Database;
use sqlx::pool::CloseEvent;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::hooks;
use crate::pool::Inner;
use crate::supply::Look;
use crate::thresholds::{Passed, Thresholds};

/// How late the gauges may show what happens inside sqlx: connections that are closed, or used
/// through the bare sqlx pool.
const EVERY: Duration = Duration::from_secs(1);

/// Shorter intervals would only keep the processor busy.
const LEAST: Duration = Duration::from_millis(10);

/// How long a connection that came back may wait for its next caller before it goes back to sqlx.
const COLD_AFTER: Duration = Duration::from_millis(500);

/// Idle connections that are pinged at a time.
const SWEPT_AT_A_TIME: u32 = 4;

/// What there is to do, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upkeep {
    pub(crate) base: u32,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) keepalive_interval: Option<Duration>,
    /// How often to look for connections that are too old.
    pub(crate) look_every: Option<Duration>,
    pub(crate) leak_detection_threshold: Option<Duration>,
    pub(crate) warn: Thresholds,
}

impl Upkeep {
    /// How often to get up: often enough for the shortest of the intervals.
    fn tick(&self) -> Duration {
        let quarters = [
            self.idle_timeout,
            self.keepalive_interval,
            self.leak_detection_threshold,
        ];
        let quarters = quarters.into_iter().flatten().map(|interval| interval / 4);
        let shortest = quarters.chain(self.look_every).min();
        shortest.unwrap_or(EVERY).clamp(LEAST, EVERY)
    }

    fn sweep_every(&self) -> Option<Duration> {
        self.keepalive_interval
            .into_iter()
            .chain(self.look_every)
            .min()
    }
}

/// Runs until the pool is closed or dropped.
pub(crate) async fn run<DB: Database>(
    pool: Weak<Inner<DB>>,
    mut closed: CloseEvent,
    wake: Arc<Notify>,
    upkeep: Upkeep,
) {
    let tick = upkeep.tick();
    let mut rounds = Rounds::new(upkeep, Instant::now());
    loop {
        let closing = tokio::select! {
            () = &mut closed => true,
            _ = timeout(tick, wake.notified()) => false,
        };
        let Some(inner) = pool.upgrade() else { return };
        if closing {
            // The bare sqlx pool can be closed too, and our waiters must hear of it.
            inner.turn_away();
            inner.publish();
            return;
        }
        rounds.run_once(&inner, Instant::now());
    }
}

/// What is remembered from one round to the next.
struct Rounds {
    upkeep: Upkeep,
    passed: Passed,
    low_water: LowWater,
    swept: Instant,
}

impl Rounds {
    fn new(upkeep: Upkeep, now: Instant) -> Self {
        Self {
            upkeep,
            passed: Passed::default(),
            low_water: LowWater::new(now),
            swept: now,
        }
    }

    fn run_once<DB: Database>(&mut self, inner: &Arc<Inner<DB>>, now: Instant) {
        // From there they are swept, like all others.
        let cold_after = match inner.warm.is_shared() {
            true => Duration::ZERO,
            false => COLD_AFTER,
        };
        for live in inner.warm.take_older(cold_after) {
            inner.put_back(live);
        }
        inner.publish();
        inner.load.turn(now);
        let status = inner.status();
        for crossing in self.upkeep.warn.look(&status, &mut self.passed) {
            if crossing.above {
                tracing::warn!(pool = &*inner.name, "{crossing}");
            } else {
                tracing::info!(pool = &*inner.name, "{crossing}");
            }
        }
        if let Some(threshold) = self.upkeep.leak_detection_threshold {
            for holder in inner.holders.new_leaks(threshold) {
                inner.metrics.leaked();
                tracing::warn!(
                    pool = &*inner.name,
                    taken_at = %holder.taken_at,
                    held_for = ?holder.held_for,
                    "possible leak: a connection is held for longer than {threshold:?}"
                );
            }
        }
        let surplus = self.upkeep.idle_timeout.map_or(0, |idle_timeout| {
            let low = inner.least_idle.swap(u32::MAX, Ordering::AcqRel).min(
                status
                    .idle
                    .saturating_add(inner.swept.load(Ordering::Acquire)),
            );
            self.low_water.look(low, idle_timeout, now)
        });
        inner.shrink(surplus.min(status.size.saturating_sub(self.upkeep.base)));
        let evicted = inner.lifetimes.take_eviction();
        let due = self.upkeep.sweep_every();
        if evicted || due.is_some_and(|every| now.duration_since(self.swept) >= every) {
            self.swept = now;
            inner.sweep(status.idle);
        }
        inner.refill(self.upkeep.base);
    }
}

impl<DB: Database> Inner<DB> {
    /// Closes idle connections.
    fn shrink(self: &Arc<Self>, by: u32) {
        for _ in 0..by {
            match self.look() {
                Look::Fresh(live) | Look::Stale(live) => self.close_soon(live),
                Look::Opening(_) | Look::Nothing | Look::Failed(_) => return,
            }
        }
    }

    /// Closes idle connections that are too old, and pings the others, a few at a time, so that the
    /// rest serves callers meanwhile.
    fn sweep(self: &Arc<Self>, idle: u32) {
        let pool = Arc::downgrade(self);
        // Where the database is in this process, no ping can find it gone.
        let within = self.checks.return_timeout.map(|_| self.checks.ping_timeout);
        self.spawn(async move {
            let mut left = idle;
            while left > 0 {
                let Some(inner) = pool.upgrade() else { return };
                let mut returns = JoinSet::new();
                for _ in 0..left.min(SWEPT_AT_A_TIME) {
                    let (Look::Fresh(mut live) | Look::Stale(mut live)) = inner.look() else {
                        break;
                    };
                    let returning = hooks::returning(live.conn.return_to_pool());
                    // One that does not answer is dropped, and so closed.
                    returns.spawn(async move {
                        let returned = async {
                            returning.await;
                            Ok(())
                        };
                        let _ = hooks::bounded(within, returned).await;
                    });
                }
                let count = u32::try_from(returns.len()).unwrap_or(u32::MAX);
                if count == 0 {
                    return;
                }
                left -= count.min(left);
                inner.swept.store(count, Ordering::Release);
                drop(inner);
                returns.join_all().await;
                let Some(inner) = pool.upgrade() else { return };
                inner.swept.store(0, Ordering::Release);
                inner.supply();
            }
        });
    }

    /// Opens what is missing of the base.
    fn refill(self: &Arc<Self>, base: u32) {
        // Those that are being opened count.
        let missing = base.saturating_sub(self.sqlx.size());
        if missing == 0 {
            return;
        }
        // sqlx opens a connection only where none is idle, so they are held meanwhile.
        let mut held = Vec::new();
        while let Look::Fresh(live) | Look::Stale(live) = self.look() {
            held.push(live);
        }
        let mut opened = 0;
        while opened < missing && self.open() {
            opened += 1;
        }
        for live in held {
            self.put_back(live);
        }
    }
}

/// How many connections were idle all the time: sqlx hands idle connections out in turn, so one at
/// a time keeps all of them young, and none is ever idle for long.
#[derive(Debug)]
struct LowWater {
    began: Instant,
    /// The least of this half of the time, and of the one before.
    this: u32,
    last: u32,
}

impl LowWater {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            this: u32::MAX,
            last: 0,
        }
    }

    /// Notes the least that were idle since the last look; at the end of each half of `within`,
    /// how many were never used in the last two halves.
    fn look(&mut self, low: u32, within: Duration, now: Instant) -> u32 {
        self.this = self.this.min(low);
        if now.duration_since(self.began) < within / 2 {
            return 0;
        }
        let surplus = self.this.min(self.last);
        self.began = now;
        self.last = self.this - surplus;
        self.this = u32::MAX;
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_idle_for_the_whole_time_is_surplus() {
        let minute = Duration::from_secs(60);
        let mut low_water = LowWater::new(Instant::now());
        let mut after = async |secs, low| {
            tokio::time::advance(Duration::from_secs(secs)).await;
            low_water.look(low, minute, Instant::now())
        };
        assert_eq!(after(10, 0).await, 0);
        assert_eq!(after(20, 9).await, 0);
        // The half with the peak is over; one more half without.
        assert_eq!(after(29, 9).await, 0);
        assert_eq!(after(1, 7).await, 0);
        assert_eq!(after(30, 8).await, 7);
        // Those are gone; one is left that was idle all the time.
        assert_eq!(after(30, 1).await, 1);
        assert_eq!(after(30, 0).await, 0);
    }

    #[test]
    fn a_round_comes_often_enough_for_the_shortest_interval() {
        let mut upkeep = Upkeep {
            base: 1,
            idle_timeout: None,
            keepalive_interval: None,
            look_every: None,
            leak_detection_threshold: None,
            warn: Thresholds::default(),
        };
        assert_eq!(upkeep.tick(), EVERY);
        upkeep.leak_detection_threshold = Some(Duration::from_millis(200));
        assert_eq!(upkeep.tick(), Duration::from_millis(50));
        upkeep.look_every = Some(Duration::from_nanos(1));
        assert_eq!(upkeep.tick(), LEAST);
    }
}
