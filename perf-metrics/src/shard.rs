//! Which part of a sharded cell a thread writes to, so that threads do not wait for each other's
//! cache lines.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::sync::{Mutex, PoisonError};

use metrics::atomics::AtomicU64;

/// Threads that have a shard to themselves, and so need no atomic additions: as many as the
/// workers of a large runtime. Memory grows with the shards that are written to.
const OWN: usize = 12;
/// Shards that any number of further threads share.
const SHARED: usize = 4;
/// All shards.
pub(crate) const SHARDS: usize = OWN + SHARED;

/// The shard of the current thread. Purposefully neither `Send` nor kept across an `.await`: what
/// another thread writes to an own shard may be lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shard {
    index: usize,
    _of_this_thread: PhantomData<*const ()>,
}

impl Shard {
    #[inline]
    pub(crate) fn current() -> Self {
        let index = INDEX.get();
        Self {
            index: if index < SHARDS { index } else { sit() },
            _of_this_thread: PhantomData,
        }
    }

    /// The index of the shard, below [`SHARDS`].
    #[inline]
    pub(crate) fn index(self) -> usize {
        // Never another number: it spares every array of shards the look at its bounds.
        self.index % SHARDS
    }

    /// Whether no other thread writes to this shard now.
    #[inline]
    pub(crate) fn own(self) -> bool {
        self.index < OWN
    }

    /// Adds to a cell of this shard.
    #[inline]
    pub(crate) fn add(self, cell: &AtomicU64, n: u64, ordering: Ordering) {
        if self.own() {
            // No addition of another thread can come between.
            cell.store(cell.load(Relaxed).wrapping_add(n), ordering);
        } else {
            cell.fetch_add(n, ordering);
        }
    }

    /// Adds to a cell of this shard that holds the bits of a floating-point number.
    #[inline]
    pub(crate) fn add_f64(self, cell: &AtomicU64, value: f64) {
        let add = |bits: u64| (f64::from_bits(bits) + value).to_bits();
        if self.own() {
            cell.store(add(cell.load(Relaxed)), Relaxed);
        } else {
            // Never an error: the closure never refuses.
            let _ = cell.fetch_update(Relaxed, Relaxed, |bits| Some(add(bits)));
        }
    }
}

/// The shards that are free, and how many threads have had to share.
struct Seats {
    /// By index: taken or not.
    taken: [bool; OWN],
    sharing: usize,
}

static SEATS: Mutex<Seats> = Mutex::new(Seats {
    taken: [false; OWN],
    sharing: 0,
});

/// A thread's shard, which the thread gives back when it ends. The lock orders what the next owner
/// does after what this one did.
struct Seat(usize);

thread_local! {
    static SEAT: Seat = Seat::take();
    /// That of the seat, or [`UNSET`]; apart from it, as what has no destructor is read without a
    /// look at whether it was called.
    static INDEX: Cell<usize> = const { Cell::new(UNSET) };
}

const UNSET: usize = usize::MAX;

/// Gives the thread its shard. One that is ending has given it back, and shares.
#[cold]
fn sit() -> usize {
    let index = SEAT.try_with(|seat| seat.0).unwrap_or(SHARDS - 1);
    INDEX.set(index);
    index
}

impl Seat {
    fn take() -> Self {
        let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = seats.taken.iter().position(|taken| !taken) {
            seats.taken[free] = true;
            return Self(free);
        }
        seats.sharing = seats.sharing.wrapping_add(1);
        Self(OWN + seats.sharing % SHARED)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Other destructors of this thread may still count.
        INDEX.set(SHARDS - 1);
        let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.taken.get_mut(self.0) {
            *taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn threads_that_run_at_once_own_different_shards_and_the_rest_share() {
        let all = Barrier::new(2 * SHARDS);
        let indices: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2 * SHARDS)
                .map(|_| {
                    scope.spawn(|| {
                        let index = Shard::current().index();
                        all.wait();
                        index
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(indices.iter().all(|index| *index < SHARDS));
        for own in 0..OWN {
            assert!(indices.iter().filter(|index| **index == own).count() <= 1);
        }
    }

    #[test]
    fn a_thread_keeps_its_shard_and_gives_it_back() {
        // More threads than shards, one after the other: without giving back, most would share.
        for _ in 0..10 * SHARDS {
            let (first, second) =
                std::thread::spawn(|| (Shard::current().index(), Shard::current().index()))
                    .join()
                    .unwrap();
            assert_eq!(first, second);
        }
    }

    #[test]
    fn nothing_is_lost_when_threads_come_and_go() {
        let cells: Vec<_> = (0..SHARDS).map(|_| AtomicU64::new(0)).collect();
        let sums: Vec<_> = (0..SHARDS).map(|_| AtomicU64::new(0)).collect();
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..2 * SHARDS {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            let shard = Shard::current();
                            shard.add(&cells[shard.index()], 1, Relaxed);
                            shard.add_f64(&sums[shard.index()], 0.5);
                        }
                    });
                }
            });
        }
        let threads = 20 * 2 * SHARDS as u64;
        let total: u64 = cells.iter().map(|cell| cell.load(Relaxed)).sum();
        let sum: f64 = sums.iter().map(|s| f64::from_bits(s.load(Relaxed))).sum();
        assert_eq!((total, sum), (threads * 100, threads as f64 * 50.0));
    }
}
