//! Invalidations by tag and of everything, decided by a logical clock.

use std::collections::HashMap;

use super::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// Tags are looked over for unused ones when there are so many.
pub(crate) const PRUNE_AT: usize = 1_024;

/// A moment of the logical clock: that at which a load began. What it loaded is older than every
/// invalidation that ticked later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

/// The logical clock of a cache, and when everything and each tag was last invalidated by it.
///
/// An invalidation ticks the clock and notes the tick; it costs the same however many entries it
/// concerns. Each entry has the stamp at which its load began, and whoever reads it compares. No
/// wall clock is involved, so none can go back.
#[derive(Debug)]
pub(crate) struct Versions {
    clock: AtomicU64,
    all: AtomicU64,
    tags: Mutex<Tags>,
}

#[derive(Debug)]
struct Tags {
    known: HashMap<Arc<str>, Arc<Tag>>,
    /// The newest invalidation among the tags that were forgotten: a load that began before it may
    /// come up with one of them.
    forgotten: u64,
    prune_at: usize,
}

/// A tag that entries share.
#[derive(Debug)]
pub(crate) struct Tag {
    name: Arc<str>,
    invalidated: AtomicU64,
}

impl Tag {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Versions {
    pub(crate) fn new() -> Self {
        Self {
            clock: AtomicU64::new(0),
            all: AtomicU64::new(0),
            tags: Mutex::new(Tags {
                known: HashMap::new(),
                forgotten: 0,
                prune_at: PRUNE_AT,
            }),
        }
    }

    pub(crate) fn now(&self) -> Stamp {
        Stamp(self.clock.load(Ordering::SeqCst))
    }

    /// Whether nothing has invalidated what was loaded from `stamp` on, tags aside.
    #[inline]
    pub(crate) fn is_current(&self, stamp: Stamp) -> bool {
        self.all.load(Ordering::Acquire) <= stamp.0
    }

    /// Whether none of its tags has been invalidated either.
    pub(crate) fn are_current(&self, stamp: Stamp, tags: &[Arc<Tag>]) -> bool {
        self.is_current(stamp)
            && tags
                .iter()
                .all(|tag| tag.invalidated.load(Ordering::Acquire) <= stamp.0)
    }

    pub(crate) fn invalidate_all(&self) {
        let tick = self.tick();
        self.all.fetch_max(tick, Ordering::SeqCst);
    }

    pub(crate) fn invalidate_tag(&self, name: &str) {
        let mut tags = self.tags();
        let tag = tags.tag(name);
        let tick = self.tick();
        tag.invalidated.fetch_max(tick, Ordering::SeqCst);
    }

    /// The tag of this name.
    pub(crate) fn tag(&self, name: &str) -> Arc<Tag> {
        self.tags().tag(name)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        // Nothing of a user's runs under this lock.
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn known_tags(&self) -> usize {
        self.tags().known.len()
    }
}

impl Tags {
    fn tag(&mut self, name: &str) -> Arc<Tag> {
        if let Some(tag) = self.known.get(name) {
            return Arc::clone(tag);
        }
        if self.known.len() >= self.prune_at {
            self.prune();
        }
        let name: Arc<str> = name.into();
        let tag = Arc::new(Tag {
            name: Arc::clone(&name),
            invalidated: AtomicU64::new(self.forgotten),
        });
        self.known.insert(name, Arc::clone(&tag));
        tag
    }

    /// Forgets the tags that no entry has. Entries get theirs under this lock, so one that only
    /// this map has stays so.
    fn prune(&mut self) {
        let mut forgotten = self.forgotten;
        self.known.retain(|_, tag| {
            let used = Arc::strong_count(tag) > 1;
            if !used {
                forgotten = forgotten.max(tag.invalidated.load(Ordering::SeqCst));
            }
            used
        });
        self.forgotten = forgotten;
        self.prune_at = PRUNE_AT.max(self.known.len() * 2);
    }
}
