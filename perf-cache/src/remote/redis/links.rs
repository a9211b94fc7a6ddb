//! The connections of a tier, which the caches that have clones of it share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Client;
use tokio::time::{Instant, timeout};

use super::link::{CONNECT_WITHIN, Failure, Link};

pub(super) struct Links {
    pub(super) client: Client,
    /// How many connections for reads each has.
    wires: usize,
    current: Mutex<Option<Link>>,
    /// Held by the one who connects: when the last attempt that failed ended, and how.
    connecting: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

impl Links {
    pub(super) fn new(client: Client, wires: usize, first: Link) -> Self {
        Self {
            client,
            wires,
            current: Mutex::new(Some(first)),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// A use of those that there are. What is of no use any more is let go.
    pub(super) fn current(&self) -> Option<Link> {
        let mut current = self.lock();
        let another = current.as_ref().and_then(Link::another);
        let lost = current.take_if(|_| another.is_none());
        drop(current);
        drop(lost);
        another
    }

    /// The same; connects where there is nothing of use. Who waits for another one's attempt shares what
    /// becomes of it, but waits no longer than for one of its own.
    pub(super) async fn connect(&self, within: Duration) -> Result<Link, Failure> {
        let asked = Instant::now();
        let waiting = timeout(CONNECT_WITHIN.max(within), self.connecting.lock());
        let mut last = waiting.await.map_err(|_| Failure::TimedOut)?;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        if let Some((ended, failure)) = &*last
            && *ended > asked
        {
            return Err(failure.clone());
        }
        match Link::open(&self.client, self.wires, within).await {
            Ok(link) => {
                *self.lock() = link.another();
                Ok(link)
            }
            Err(failure) => {
                *last = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Link>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as where there can be no wires.
    #[cfg(test)]
    pub(super) fn without_wires(&self) -> Self {
        let link = self.current().unwrap();
        link.wires().abolish();
        Self::new(self.client.clone(), 0, link)
    }
}
