use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sqlx::Database;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::hooks;
use crate::pool::Inner;
use crate::supply::{opening, poll_once};

impl<DB: Database> Inner<DB> {
    /// Opens the base connections side by side (sqlx alone would open one after another), each in a
    /// task of the pool. What is not open after `within` is waited for no longer, and goes on; what
    /// failed is left to the maintenance, which goes on refilling the base.
    ///
    /// Cancel safe: what was begun goes on.
    pub(crate) async fn warm_up(self: &Arc<Self>, within: Duration) {
        let mut attempts = Vec::new();
        let mut open = Vec::new();
        // All begin before one is over: sqlx opens a connection only where none is idle, and takes
        // its place in `size` when the attempt is first polled.
        for _ in 0..self.base {
            if self.sqlx.size() >= self.base {
                break;
            }
            let mut attempt = hooks::attempt(&self.sqlx);
            match poll_once(&mut attempt) {
                Poll::Ready(found) => open.extend(found.ok()),
                Poll::Pending => attempts.push(attempt),
            }
        }
        let (end, mut ended) = mpsc::channel::<()>(1);
        for attempt in attempts {
            let (pool, connect_timeout) = (Arc::downgrade(self), self.connect_timeout);
            let end = end.clone();
            self.spawn(async move {
                match opening(attempt, pool, connect_timeout).await {
                    Some((inner, live)) if inner.desk.is_empty() => inner.putting_back(live).await,
                    Some((inner, live)) => inner.hand_over(live),
                    None => {}
                }
                drop(end);
            });
        }
        for found in open {
            let (returned, end) = (self.putting_back(found.live), end.clone());
            self.spawn(async move {
                returned.await;
                drop(end);
            });
        }
        drop(end);
        // Nothing is sent: it ends with the last of the tasks.
        let _ = timeout(within, ended.recv()).await;
        self.publish();
        let open = u32::try_from(self.sqlx.num_idle()).unwrap_or(u32::MAX);
        if open < self.base {
            tracing::warn!(
                pool = &*self.name,
                open,
                base = self.base,
                ?within,
                "not all base connections could be opened in time, the pool goes on without"
            );
        }
    }
}
