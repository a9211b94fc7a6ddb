use std::sync::Arc;

use tokio::sync::watch;

/// What went through a [`Proxy`](crate::Proxy) since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted, with those that were refused.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections cut by [`Proxy::cut`](crate::Proxy::cut) or a planned cut.
    pub cuts: u64,
    /// Bytes sent to the server.
    pub to_server: u64,
    /// Bytes sent to clients.
    pub to_clients: u64,
    /// Messages lost by [`Proxy::lose_messages`](crate::Proxy::lose_messages).
    pub lost_messages: u64,
}

/// One connection in the counts, open until this is dropped.
pub(super) struct Open {
    counts: Arc<watch::Sender<Counts>>,
}

impl Open {
    pub(super) fn new(counts: &Arc<watch::Sender<Counts>>) -> Self {
        counts.send_modify(|counts| {
            counts.connections += 1;
            counts.open += 1;
        });
        Self {
            counts: Arc::clone(counts),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.change(|counts| counts.open -= 1);
    }
}
