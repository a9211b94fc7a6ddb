use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::room::Room;

/// How the tasks around a backend tell each other that something has changed.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) room: Room,
    /// Where idle workers wait.
    pub(crate) workers: Notify,
    /// Something is to be told before the next job starts. One task waits for that.
    #[cfg(feature = "sqlite")]
    pub(crate) asked: Notify,
    drained: Notify,
    drainers: AtomicUsize,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            room: Room::new(),
            workers: Notify::new(),
            #[cfg(feature = "sqlite")]
            asked: Notify::new(),
            drained: Notify::new(),
            drainers: AtomicUsize::new(0),
        }
    }

    /// The queue has just become empty.
    pub(crate) fn emptied(&self) {
        if self.drainers.load(SeqCst) > 0 {
            self.drained.notify_waiters();
        }
    }

    /// Waits until `is_empty`, asked again each time the queue has become empty.
    pub(crate) async fn drained(&self, is_empty: impl Fn() -> bool) {
        // Counted before the first look: whoever empties the queue after that look sees the count.
        let _counted = Counted::new(&self.drainers);
        loop {
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            if is_empty() {
                return;
            }
            drained.await;
        }
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
