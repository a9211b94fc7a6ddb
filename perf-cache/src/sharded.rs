use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 16;

/// A counter whose threads do not fight for one cache line: a hit costs well under what the
/// lookup itself costs, also when every core hits at once.
#[derive(Debug, Default)]
pub(crate) struct Sharded([Line; SHARDS]);

// 128 bytes: x86 prefetches cache lines in pairs, and Apple's lines are that long.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Sharded {
    #[inline]
    pub(crate) fn add_one(&self) {
        thread_local! {
            static SHARD: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        // A thread that is being torn down has lost its number; any shard will do.
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        if let Some(line) = self.0.get(shard) {
            line.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|l| l.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let counter = Sharded::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1_000).for_each(|_| counter.add_one()));
            }
        });
        assert_eq!(counter.sum(), 2 * SHARDS as u64 * 1_000);
    }
}
