use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Time;

/// Events by time; those of the same instant in the order in which they were added.
#[derive(Debug)]
pub(super) struct Timers<E> {
    heap: BinaryHeap<Reverse<(Time, u64, E)>>,
    added: u64,
}

impl<E: Ord> Timers<E> {
    pub(super) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            added: 0,
        }
    }

    pub(super) fn add(&mut self, at: Time, event: E) {
        let len = self.heap.len();
        if len == self.heap.capacity() && len > 1_024 {
            // As for the jobs: by quarters.
            self.heap.reserve_exact(len / 4);
        }
        self.heap.push(Reverse((at, self.added, event)));
        self.added += 1;
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The first event, if its time has come.
    #[inline]
    pub(super) fn pop_due(&mut self, now: Time) -> Option<(Time, E)> {
        if self.first()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<(Time, u64, E)>()
    }

    pub(super) fn shrink(&mut self) {
        if self.heap.is_empty() && self.heap.capacity() > 1_024 {
            self.heap = BinaryHeap::new();
        }
    }
}
