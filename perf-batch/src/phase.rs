use std::sync::atomic::{AtomicBool, Ordering};

/// How far a write is, for whoever may have to give it up.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    committing: AtomicBool,
}

impl Phase {
    /// From here on the database may commit.
    pub(crate) fn commits(&self) {
        self.committing.store(true, Ordering::Release);
    }

    /// Nothing that was not told yet can be committed any more.
    pub(crate) fn settles(&self) {
        self.committing.store(false, Ordering::Release);
    }

    /// Whether rows may be committed although the write's future has not said so.
    pub(crate) fn is_committing(&self) -> bool {
        self.committing.load(Ordering::Acquire)
    }
}
