use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A value with what the cache is to know of it. Made by [`LoadContext::value`], or from a plain
/// value.
#[must_use = "a value is kept when the loader returns it, or by `insert`"]
pub struct Value<V> {
    pub(crate) value: Arc<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) etag: Option<Arc<str>>,
}

impl<V> Value<V> {
    /// A value of which there is nothing to say.
    pub fn new(value: V) -> Self {
        Self::shared(Arc::new(value))
    }

    /// The same of a value that is shared already: it is not copied, nor put into another `Arc`.
    pub fn shared(value: Arc<V>) -> Self {
        Self {
            value,
            ttl: None,
            tags: Vec::new(),
            etag: None,
        }
    }

    /// How long this one is fresh, in all tiers; with [`Duration::ZERO`] it is not kept, and only
    /// those get it who wait for it. [`jitter`](crate::Builder::jitter) applies.
    ///
    /// Defaults to the cache's [`time_to_live`](crate::Builder::time_to_live).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a tag: [`invalidate_tag`](crate::Cache::invalidate_tag) removes all values that have
    /// it.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// What the origin can tell by whether it has changed: the next loader finds it in
    /// [`Previous::etag`].
    pub fn etag(mut self, etag: impl Into<Arc<str>>) -> Self {
        self.etag = Some(etag.into());
        self
    }
}

impl<V> From<V> for Value<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V> fmt::Debug for Value<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("ttl", &self.ttl)
            .field("tags", &self.tags)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// What a loader is told, and how it says more than a value.
pub struct LoadContext<V> {
    previous: Option<Previous<V>>,
}

impl<V> LoadContext<V> {
    pub(crate) fn new(previous: Option<Previous<V>>) -> Self {
        Self { previous }
    }

    /// The value to return, to which a time to live, tags and an entity tag can be added.
    pub fn value(&self, value: V) -> Value<V> {
        Value::new(value)
    }

    /// The value that this load is to replace, if one is still there: because it is about to
    /// expire, or has, and is kept for [`stale_while_revalidate`](crate::Builder::stale_while_revalidate)
    /// or [`stale_if_error`](crate::Builder::stale_if_error). An invalidated value never is.
    pub fn previous(&self) -> Option<&Previous<V>> {
        self.previous.as_ref()
    }
}

impl<V> fmt::Debug for LoadContext<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadContext")
            .field("previous", &self.previous)
            .finish()
    }
}

/// A value that is to be replaced, for a loader that can ask whether it has changed.
pub struct Previous<V> {
    pub(crate) value: Arc<V>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) etag: Option<Arc<str>>,
}

impl<V> Previous<V> {
    /// The value itself.
    pub fn value(&self) -> &Arc<V> {
        &self.value
    }

    /// What [`Value::etag`] said of it.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// The same value, tags and entity tag, for another time to live: for a loader to return when
    /// the origin says that nothing has changed.
    pub fn not_modified(&self) -> Value<V> {
        Value {
            value: Arc::clone(&self.value),
            ttl: None,
            tags: self.tags.clone(),
            etag: self.etag.clone(),
        }
    }
}

impl<V> fmt::Debug for Previous<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous")
            .field("tags", &self.tags)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}
