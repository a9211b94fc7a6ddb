use std::fmt;
use std::panic::Location;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::task;
use tokio::time::Instant;

/// Who holds a connection, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Where the connection was taken: the line that called `acquire`, `begin` or `try_acquire`.
    /// For a query on `&pool` it is within sqlx.
    pub taken_at: &'static Location<'static>,
    /// How long ago.
    pub held_for: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Microseconds would only make equal messages look different.
        let millis = self.held_for.as_millis().try_into().unwrap_or(u64::MAX);
        write!(
            f,
            "{} for {:?}",
            self.taken_at,
            Duration::from_millis(millis)
        )
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    taken_at: &'static Location<'static>,
    since: Instant,
    task: Option<task::Id>,
    leaked: bool,
}

/// Everybody who holds a connection through a guard of ours.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    entries: Mutex<Slab<Entry>>,
    /// When a task was warned of last.
    warned: Mutex<Option<Instant>>,
}

/// A task that waits for many at once is warned of once, and not for each.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A place among the holders.
#[derive(Debug)]
pub(crate) struct Place(usize);

impl Holders {
    fn entries(&self) -> MutexGuard<'_, Slab<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, taken_at: &'static Location<'static>, since: Instant) -> Place {
        Place(self.entries().insert(Entry {
            taken_at,
            since,
            task: task::try_id(),
            leaked: false,
        }))
    }

    /// Gives the place up. Whether it was held for too long.
    pub(crate) fn remove(&self, Place(place): Place) -> bool {
        let left = self.entries().try_remove(place);
        left.is_some_and(|entry| entry.leaked)
    }

    /// The `most` who have held theirs for longest, the longest first.
    pub(crate) fn longest(&self, most: usize) -> Vec<Holder> {
        let now = Instant::now();
        let mut all: Vec<_> = self.entries().iter().map(|(_, entry)| *entry).collect();
        all.sort_unstable_by_key(|entry| entry.since);
        all.truncate(most);
        all.into_iter().map(|entry| entry.holder(now)).collect()
    }

    /// How long the connection that is held for longest has been.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let oldest = self.entries().iter().map(|(_, entry)| entry.since).min();
        oldest.map(|since| since.elapsed())
    }

    /// What the task that asks holds already, unless somebody was warned a moment ago.
    pub(crate) fn to_warn_of(&self) -> Option<Holder> {
        let held = self.of_this_task()?;
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|last| last.elapsed() < WARN_EVERY) {
            return None;
        }
        *warned = Some(Instant::now());
        Some(held)
    }

    /// What the task that asks holds already, if it holds something.
    fn of_this_task(&self) -> Option<Holder> {
        let task = task::try_id()?;
        let now = Instant::now();
        let entries = self.entries();
        let (_, own) = entries.iter().find(|(_, entry)| entry.task == Some(task))?;
        Some(own.holder(now))
    }

    /// Those who have held theirs for longer than `threshold`, each once.
    pub(crate) fn new_leaks(&self, threshold: Duration) -> Vec<Holder> {
        let now = Instant::now();
        let mut leaks = Vec::new();
        for (_, entry) in &mut *self.entries() {
            if !entry.leaked && now.duration_since(entry.since) > threshold {
                entry.leaked = true;
                leaks.push(entry.holder(now));
            }
        }
        leaks
    }
}

impl Entry {
    fn holder(&self, now: Instant) -> Holder {
        Holder {
            taken_at: self.taken_at,
            held_for: now.duration_since(self.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_come_first_and_places_are_used_again() {
        let holders = Holders::default();
        let here = Location::caller();
        let first = holders.add(here, Instant::now());
        advance(Duration::from_secs(1)).await;
        let second = holders.add(here, Instant::now());
        let held: Vec<_> = holders
            .longest(9)
            .iter()
            .map(|h| h.held_for.as_secs())
            .collect();
        assert_eq!(held, [1, 0]);
        assert!(!holders.remove(first));
        let _third = holders.add(here, Instant::now());
        assert_eq!(holders.entries().vacant_key(), 2);
        assert!(!holders.remove(second));
        assert_eq!(holders.longest(9).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leak_is_told_once_and_again_when_it_ends() {
        let holders = Holders::default();
        let place = holders.add(Location::caller(), Instant::now());
        let threshold = Duration::from_secs(10);
        advance(threshold).await;
        assert!(holders.new_leaks(threshold).is_empty());
        advance(Duration::from_millis(1)).await;
        assert_eq!(holders.new_leaks(threshold).len(), 1);
        assert!(holders.new_leaks(threshold).is_empty());
        assert!(holders.remove(place));
    }

    #[tokio::test]
    async fn a_task_sees_what_it_holds_itself() {
        let holders = std::sync::Arc::new(Holders::default());
        let other = std::sync::Arc::clone(&holders);
        let place = tokio::spawn(async move {
            let place = other.add(Location::caller(), Instant::now());
            assert!(other.of_this_task().is_some());
            place
        });
        let place = place.await.unwrap();
        let other = std::sync::Arc::clone(&holders);
        let of_another = tokio::spawn(async move { other.of_this_task() });
        assert_eq!(of_another.await.unwrap(), None);
        holders.remove(place);
    }
}
