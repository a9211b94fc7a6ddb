use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};

use metrics::GaugeFn;
use metrics::atomics::AtomicU64;

use crate::shard::{SHARDS, Shard};

/// A gauge: a number that is set, and counts of what came and what went.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// The bits of a floating-point number.
    base: AtomicU64,
    flow: OnceLock<Arc<Flows>>,
}

/// What came and what went, by shard.
#[derive(Debug, Default)]
pub(crate) struct Flows([Flow; SHARDS]);

/// What came and what went on one shard. On a cache line of its own, or two, as processors fetch
/// them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Flow {
    came: AtomicU64,
    went: AtomicU64,
}

impl Level {
    /// The value now. What comes and goes meanwhile is counted as there, or not; what is there all
    /// the time always is.
    pub(crate) fn value(&self) -> f64 {
        let base = f64::from_bits(self.base.load(Acquire));
        let Some(flow) = self.flow.get() else {
            return base;
        };
        // First those that went: each came before, perhaps on another shard.
        let sum = |cell: fn(&Flow) -> &AtomicU64| {
            let cells = flow.0.iter().map(|flow| cell(flow).load(Acquire));
            cells.fold(0, u64::wrapping_add)
        };
        let went = sum(|flow| &flow.went);
        let came = sum(|flow| &flow.came);
        base + came.wrapping_sub(went) as f64
    }

    /// Where it is counted what comes and goes.
    pub(crate) fn flows(&self) -> &Arc<Flows> {
        self.flow.get_or_init(Arc::default)
    }
}

impl Flows {
    /// Counts one that came.
    #[inline]
    pub(crate) fn enter(&self, shard: Shard) {
        if let Some(flow) = self.0.get(shard.index()) {
            shard.add(&flow.came, 1, Relaxed);
        }
    }

    /// Counts one that went, which must have come before. Who sees this sees what its thread did
    /// before.
    #[inline]
    pub(crate) fn leave(&self, shard: Shard) {
        if let Some(flow) = self.0.get(shard.index()) {
            shard.add(&flow.went, 1, Release);
        }
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        GaugeFn::increment(&self.base, value);
    }

    fn decrement(&self, value: f64) {
        GaugeFn::decrement(&self.base, value);
    }

    fn set(&self, value: f64) {
        GaugeFn::set(&self.base, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_what_was_set_and_what_came_less_what_went() {
        let level = Level::default();
        assert_eq!(level.value(), 0.0);
        level.set(2.5);
        level.increment(1.0);
        level.decrement(0.5);
        assert_eq!(level.value(), 3.0);
        level.flows().enter(Shard::current());
        level.flows().enter(Shard::current());
        level.flows().leave(Shard::current());
        assert_eq!(level.value(), 4.0);
    }

    #[test]
    fn what_came_on_one_thread_and_went_on_another_is_not_there() {
        let level = Level::default();
        std::thread::scope(|scope| {
            scope.spawn(|| level.flows().enter(Shard::current()));
        });
        assert_eq!(level.value(), 1.0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::scope(|inner| {
                    inner.spawn(|| level.flows().leave(Shard::current()));
                })
            });
        });
        assert_eq!(level.value(), 0.0);
    }

    #[test]
    fn a_gauge_read_while_things_come_and_go_is_never_negative_nor_misses_who_stays() {
        let level = Level::default();
        level.flows().enter(Shard::current());
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::sync_channel(64);
            let level = &level;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    level.flows().enter(Shard::current());
                    if send.send(()).is_err() {
                        break;
                    }
                }
            });
            let leaving = scope.spawn(move || {
                receive
                    .iter()
                    .for_each(|()| level.flows().leave(Shard::current()));
            });
            while !leaving.is_finished() {
                assert!(level.value() >= 1.0);
            }
        });
        assert_eq!(level.value(), 1.0);
    }
}
