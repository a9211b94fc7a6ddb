//! The wires of a link, each of which may be missing: reads go by the client's connection then.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ConnectionInfo, RedisResult};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::link::CONNECT_WITHIN;
use super::reply::Replies;
use super::request::Request;
use super::wire::Wire;

/// How long a connection beside the wires may be without use while these are used. Servers and networks
/// close what is idle, after a minute at the earliest.
const IDLE: Duration = Duration::from_secs(10);
/// How often something is said on each connection, whether there are reads or not.
pub(super) const AWAKE_EVERY: Duration = Duration::from_secs(30);
/// The first and the longest pause before those that are missing are opened again.
const MEND_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(30)];

pub(super) struct Wires {
    /// Where they lead, which is where the client's connection leads, wherever the server's name may lead
    /// the next time: what was invalidated at one server and read from another would be stale. `None`:
    /// there can be none.
    to: Option<ConnectionInfo>,
    pool: Mutex<Pool>,
    /// Told when one is missing.
    lost: Notify,
    /// Of all who share them, one has it and replaces those that are missing.
    mending: tokio::sync::Mutex<()>,
}

struct Pool {
    /// How many there should be.
    count: usize,
    /// How many there are, free or in use.
    there: usize,
    /// Those that nobody waits at.
    free: VecDeque<Wire>,
    /// There are to be none any more.
    is_abolished: bool,
    /// When the connection beside them was last used for a read.
    beside: Instant,
}

impl Wires {
    /// None yet, of so many.
    pub(super) fn new(to: Option<ConnectionInfo>, count: usize) -> Self {
        let pool = Pool {
            count: if to.is_some() { count } else { 0 },
            there: 0,
            free: VecDeque::with_capacity(count),
            is_abolished: false,
            beside: Instant::now(),
        };
        Self {
            to,
            pool: Mutex::new(pool),
            lost: Notify::new(),
            mending: tokio::sync::Mutex::new(()),
        }
    }

    /// `None`: take the connection beside them. All are used in turn, and so is that connection now and
    /// then, so that none is idle for long while there are reads.
    pub(super) fn take(&self) -> Option<Taken<'_>> {
        let now = Instant::now();
        let mut pool = self.pool();
        let wire = (now - pool.beside < IDLE).then(|| pool.free.pop_front());
        let wire = wire.flatten();
        if wire.is_none() {
            pool.beside = now;
        }
        drop(pool);
        wire.map(|wire| self.taken(wire))
    }

    const fn taken(&self, wire: Wire) -> Taken<'_> {
        Taken {
            wires: self,
            wire: Some(wire),
        }
    }

    /// None is to be used any more, neither those that there are nor others. Says whether that is new.
    pub(super) fn abolish(&self) -> bool {
        let mut pool = self.pool();
        let before = std::mem::replace(&mut pool.is_abolished, true);
        pool.count = 0;
        let free = std::mem::take(&mut pool.free);
        pool.there -= free.len();
        drop(pool);
        drop(free);
        !before
    }

    /// Opens those that are missing, once.
    pub(super) async fn open(&self) {
        let _only = self.mending.lock().await;
        self.fill().await;
    }

    /// Replaces those that are missing, and says something on those that are free now and then, so that
    /// nobody closes them, and one on which nothing arrives any more is found before a read waits for it.
    /// `within`: how long to wait for an answer.
    ///
    /// Does not return. Where several do this, one works, and when it is dropped another one.
    pub(super) async fn mend(&self, within: Duration) {
        let _only = self.mending.lock().await;
        let mut pause = MEND_AFTER[0];
        let mut awake = Instant::now() + AWAKE_EVERY;
        loop {
            let complete = self.fill().await;
            pause = if complete {
                MEND_AFTER[0]
            } else {
                (pause * 2).min(MEND_AFTER[1])
            };
            // Processes that lost the same server do not come back in step.
            let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            let again = async {
                if complete {
                    self.lost.notified().await;
                }
                // One that is lost again and again does not keep the server busy.
                sleep(pause).await;
            };
            tokio::select! {
                biased;
                () = sleep_until(awake) => {
                    self.say_something(within).await;
                    awake = Instant::now() + AWAKE_EVERY;
                }
                () = again => (),
            }
        }
    }

    fn add(&self, wire: Wire) {
        let mut pool = self.pool();
        if !pool.is_abolished {
            pool.there += 1;
            pool.free.push_back(wire);
        }
    }

    /// Says whether all are there.
    async fn fill(&self) -> bool {
        let missing = {
            let pool = self.pool();
            pool.count.saturating_sub(pool.there)
        };
        let Some(to) = self.to.as_ref().filter(|_| missing > 0) else {
            return true;
        };
        // They end with this.
        let mut opening = JoinSet::new();
        for _ in 0..missing {
            let to = to.clone();
            opening.spawn(async move { timeout(CONNECT_WITHIN, Wire::open(&to)).await });
        }
        let mut opened = 0;
        while let Some(wire) = opening.join_next().await {
            match wire {
                Ok(Ok(Ok(Some(wire)))) => {
                    opened += 1;
                    self.add(wire);
                }
                Ok(Ok(Err(error))) => {
                    tracing::debug!(%error, "the shared tier has a connection less for reads");
                }
                Ok(Ok(Ok(None)) | Err(_)) | Err(_) => {
                    tracing::debug!("the shared tier has a connection less for reads");
                }
            }
        }
        opened == missing
    }

    async fn say_something(&self, within: Duration) {
        let mut request = Request::default();
        request.begin(1);
        request.word(b"TIME");
        let mut replies = Replies::default();
        let free = self.pool().free.len();
        for _ in 0..free {
            let wire = self.pool().free.pop_front();
            let Some(mut wire) = wire.map(|wire| self.taken(wire)) else {
                return;
            };
            // Whatever the answer is.
            let answered = timeout(within, wire.exchange(&request, &mut replies)).await;
            if let Ok(Ok(())) = answered {
                wire.give_back();
            }
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.pool().free.len()
    }
}

/// A wire in use. It is lost unless it is given back.
pub(super) struct Taken<'a> {
    wires: &'a Wires,
    /// Until it is given back.
    wire: Option<Wire>,
}

impl Taken<'_> {
    /// As [`Wire::exchange`].
    pub(super) async fn exchange(
        &mut self,
        request: &Request,
        replies: &mut Replies,
    ) -> RedisResult<()> {
        match &mut self.wire {
            Some(wire) => wire.exchange(request, replies).await,
            None => Err(io::Error::from(io::ErrorKind::NotConnected).into()),
        }
    }

    /// All that was asked on it has been answered.
    pub(super) fn give_back(mut self) {
        let mut pool = self.wires.pool();
        if !pool.is_abolished {
            pool.free.extend(self.wire.take());
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.wire.is_some() {
            self.wires.pool().there -= 1;
            self.wires.lost.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
