use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sqlx::Database;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::hooks;
use crate::pool::Inner;

impl<DB: Database> Inner<DB> {
    /// Opens the base connections side by side (sqlx alone would open one after another). What is
    /// not open after `within` is left to the maintenance, which goes on refilling the base.
    pub(crate) async fn warm_up(self: &Arc<Self>, within: Duration) {
        let deadline = Instant::now() + within;
        let mut opening = Vec::new();
        let mut open = Vec::new();
        let all = poll_fn(|cx| {
            let mut started = 0;
            // An acquire takes its place in `size` when it is first polled.
            while self.sqlx.size() < self.base && started < self.base {
                started += 1;
                let mut acquire = hooks::attempt(&self.sqlx);
                match acquire.as_mut().poll(cx) {
                    Poll::Ready(found) => open.extend(found.ok()),
                    Poll::Pending => opening.push(acquire),
                }
            }
            opening.retain_mut(|acquire| match Pin::new(acquire).poll(cx) {
                Poll::Ready(found) => {
                    open.extend(found.ok());
                    false
                }
                Poll::Pending => true,
            });
            if opening.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let _ = timeout_at(deadline, all).await;
        drop(opening);
        let mut returning = JoinSet::new();
        for mut found in open {
            returning.spawn(hooks::returning(found.live.conn.return_to_pool()));
        }
        let _ = timeout_at(deadline, returning.join_all()).await;
        self.publish();
        let open = self.sqlx.size();
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
