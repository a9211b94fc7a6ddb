use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LoadError;
use crate::clock::{Instant, NEVER};
use crate::core::versions::{Stamp, Tag};
use crate::deferred;

/// What the cache knows of a key: a value, or that its load failed.
///
/// Small and cheap to clone, for an engine clones it on every hit: one reference count, no box
/// around what most entries need.
pub(crate) struct Entry<V> {
    /// Taken by whoever has asked for it. `None` too for a failure that is remembered.
    pub(crate) value: Option<Arc<V>>,
    /// `deferred::drop_later`, for a value that is still here when the entry dies. A pointer, as a
    /// call would need bounds here, and so on every type up to the public one.
    drop_later: fn(Arc<V>),
    /// Before this it is simply fresh; from then on `fresh_until` and the policy decide.
    pub(crate) plain_until: Instant,
    /// Until when it is fresh.
    pub(crate) fresh_until: Instant,
    /// Until when it is of use at all, be it to a failing loader.
    pub(crate) useful_until: Instant,
    /// When its load began.
    pub(crate) began: Instant,
    pub(crate) stamp: Stamp,
    /// What few entries have.
    pub(crate) more: Option<Arc<More>>,
}

/// What few entries have.
#[derive(Debug, Default)]
pub(crate) struct More {
    pub(crate) tags: TagList,
    pub(crate) etag: Option<Arc<str>>,
    /// The load failed with this: there is no value.
    pub(crate) failure: Option<LoadError>,
    /// When it was last asked for, where entries go when they are idle.
    pub(crate) used: Option<AtomicU64>,
    /// A load failed, so this one's value is served until then without another try.
    pub(crate) retry_at: Instant,
    /// It was expired by hand: it is there for failing loads alone.
    pub(crate) expired: bool,
}

/// The tags of one value. Most have none, which costs nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct TagList(Option<Arc<[Arc<Tag>]>>);

impl FromIterator<Arc<Tag>> for TagList {
    fn from_iter<I: IntoIterator<Item = Arc<Tag>>>(tags: I) -> Self {
        let mut tags = tags.into_iter().peekable();
        Self(
            tags.peek()
                .is_some()
                .then(|| tags.collect::<Vec<_>>().into()),
        )
    }
}

impl std::ops::Deref for TagList {
    type Target = [Arc<Tag>];

    fn deref(&self) -> &[Arc<Tag>] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<V> Entry<V> {
    pub(crate) fn new(value: Option<Arc<V>>, began: Instant, stamp: Stamp) -> Self
    where
        V: Send + Sync + 'static,
    {
        Self {
            value,
            drop_later: deferred::drop_later,
            plain_until: NEVER,
            fresh_until: NEVER,
            useful_until: NEVER,
            began,
            stamp,
            more: None,
        }
    }

    pub(crate) fn tags(&self) -> &[Arc<Tag>] {
        self.more.as_ref().map_or(&[], |more| &*more.tags)
    }

    /// When it was last asked for, where that counts.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        let used = self.more.as_ref()?.used.as_ref()?;
        Some(Instant(used.load(Ordering::Relaxed)))
    }

    /// Marks it as used at `now`; the previous time that it was.
    pub(crate) fn touch(&self, now: Instant) -> Option<Instant> {
        let used = self.more.as_ref()?.used.as_ref()?;
        Some(Instant(used.fetch_max(now.0, Ordering::Relaxed)))
    }
}

impl More {
    /// The same, to be changed.
    pub(crate) fn copy(more: Option<&Arc<Self>>) -> Self {
        let Some(more) = more else {
            return Self::default();
        };
        Self {
            tags: more.tags.clone(),
            etag: more.etag.clone(),
            failure: more.failure.clone(),
            used: (more.used.as_ref()).map(|used| AtomicU64::new(used.load(Ordering::Relaxed))),
            retry_at: more.retry_at,
            expired: more.expired,
        }
    }
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            drop_later: self.drop_later,
            plain_until: self.plain_until,
            fresh_until: self.fresh_until,
            useful_until: self.useful_until,
            began: self.began,
            stamp: self.stamp,
            more: self.more.clone(),
        }
    }
}

impl<V> Drop for Entry<V> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.drop_later)(value);
        }
        // The error of a failure is a user's as well.
        if let Some(more) = self.more.take_if(|more| more.failure.is_some()) {
            deferred::drop_later(more);
        }
    }
}
