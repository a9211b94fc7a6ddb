use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, Pipeline, Value};
use tokio::sync::Notify;

use super::link::{Failure, Link};
use super::meters::RemoteMeters;
use super::reply::Replies;
use super::request::Request;

/// The server, while it can be used: the circuit breaker. It is open, and costs nothing, from the
/// first thing that goes wrong until the keeper has a new link on which scripts run.
pub(super) struct Server {
    pub(super) client: Client,
    /// How long to wait for an answer.
    pub(super) timeout: Duration,
    pub(super) meters: Arc<RemoteMeters>,
    link: Mutex<Option<Link>>,
    /// Whether there is one, broken or not.
    has_link: AtomicBool,
    came_up: Notify,
}

/// The server cannot be used, or did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Down;

impl Server {
    pub(super) fn new(client: Client, timeout: Duration, meters: Arc<RemoteMeters>) -> Self {
        Self {
            client,
            timeout,
            meters,
            link: Mutex::new(None),
            has_link: AtomicBool::new(false),
            came_up: Notify::new(),
        }
    }

    pub(super) fn link(&self) -> Option<Link> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref()
            .filter(|link| !link.broken.is_cancelled())
            .cloned()
    }

    pub(super) fn is_up(&self) -> bool {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref()
            .is_some_and(|link| !link.broken.is_cancelled())
    }

    /// As `is_up`, without a lock. For a moment after a link broke it may still be so; who asks then finds
    /// that out when it is sent.
    pub(super) fn may_be_up(&self) -> bool {
        self.has_link.load(Ordering::Relaxed)
    }

    pub(super) fn set_link(&self, to: Option<Link>) {
        let up = to.is_some();
        let old = {
            let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
            self.has_link.store(up, Ordering::Relaxed);
            std::mem::replace(&mut *link, to)
        };
        drop(old);
        if up {
            self.came_up.notify_waiters();
        }
    }

    /// Waits until the server can be used.
    pub(super) async fn up(&self) -> Link {
        loop {
            let came_up = self.came_up.notified();
            if let Some(link) = self.link() {
                return link;
            }
            came_up.await;
        }
    }

    /// Sends all commands at once on the current link.
    pub(super) async fn exchange(&self, commands: &Pipeline) -> Result<Vec<Value>, Down> {
        let link = self.link().ok_or(Down)?;
        self.exchange_on(&link, commands).await
    }

    /// Returns within the timeout. A link on which something went wrong is broken then.
    pub(super) async fn exchange_on(
        &self,
        link: &Link,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Down> {
        self.done(link.exchange(commands, self.timeout).await)
    }

    /// As `exchange_on`, by who reads often.
    pub(super) async fn read(&self, request: &Request, replies: &mut Replies) -> Result<(), Down> {
        let link = self.link().ok_or(Down)?;
        self.done(link.read(request, replies, self.timeout).await)
    }

    fn done<T>(&self, answer: Result<T, Failure>) -> Result<T, Down> {
        answer.map_err(|failure| {
            self.failed(&failure);
            Down
        })
    }

    pub(super) fn failed(&self, failure: &Failure) {
        let cache = self.meters.cache();
        match failure {
            // Counted by who broke it.
            Failure::Broken => return,
            Failure::Lost(error) | Failure::Refused(error) => {
                tracing::debug!(cache, %error, "the shared tier failed");
            }
            Failure::TimedOut => {
                let after = self.timeout;
                tracing::debug!(cache, ?after, "the shared tier did not answer in time");
            }
        }
        self.meters.error();
    }
}
