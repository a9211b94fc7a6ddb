//! Reads at the same time share round trips.

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::Token;
use super::lookup::{Found, ask_plainly, ask_script, found_by_script, found_plainly};
use super::server::Server;

/// Reads that wait to be sent; when there are as many, the next is refused: its caller loads.
const MOST_WAITING: usize = 10_000;
/// Reads that are sent at once, unless one alone has more keys.
const MOST_AT_ONCE: usize = 1_000;
/// Round trips at the same time: those that come meanwhile gather for the next.
const TRIPS: usize = 2;

/// What is to be read.
struct Ask {
    of: Of,
    lease: bool,
    /// Plain reads do not tell, or shall not be tried.
    by_script: bool,
}

/// Names of values, and who is to have them back with what was found.
enum Of {
    One(Vec<u8>, oneshot::Sender<(Vec<u8>, Found)>),
    Many(Vec<Vec<u8>>, oneshot::Sender<(Vec<Vec<u8>>, Vec<Found>)>),
}

impl Ask {
    fn names(&self) -> &[Vec<u8>] {
        match &self.of {
            Of::One(name, _) => std::slice::from_ref(name),
            Of::Many(names, _) => names,
        }
    }

    fn is_given_up(&self) -> bool {
        match &self.of {
            Of::One(_, answer) => answer.is_closed(),
            Of::Many(_, answer) => answer.is_closed(),
        }
    }

    /// Says what was found, if that settles it; else it comes back, for the script. Counts the keys
    /// that are not settled by plain reads.
    fn settle(
        mut self,
        found: &mut impl Iterator<Item = Option<Found>>,
        open: &mut usize,
    ) -> Option<Self> {
        let settles = |found: &Option<Found>| {
            let settled = |(when, value): &Found| when.settles(value.as_deref(), self.lease);
            found.as_ref().is_some_and(settled)
        };
        match self.of {
            Of::One(name, answer) => {
                let found = found.next().flatten();
                let unsettled = !settles(&found);
                *open += usize::from(unsettled);
                if unsettled && !self.by_script {
                    self.of = Of::One(name, answer);
                    self.by_script = true;
                    return Some(self);
                }
                // Or the script does not say what it was to, or the caller is gone.
                let _ = found.map(|found| answer.send((name, found)));
            }
            Of::Many(names, answer) => {
                let found: Vec<Option<Found>> = found.take(names.len()).collect();
                let unsettled = found.iter().filter(|found| !settles(found)).count();
                *open += unsettled;
                if unsettled > 0 && !self.by_script {
                    self.of = Of::Many(names, answer);
                    self.by_script = true;
                    return Some(self);
                }
                let found: Option<Vec<Found>> = found.into_iter().collect();
                let _ = found.map(|found| answer.send((names, found)));
            }
        }
        None
    }
}

/// Gathers reads and sends them.
#[derive(Clone)]
pub(super) struct Reads {
    inner: Arc<Inner>,
}

struct Inner {
    server: Arc<Server>,
    state: String,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    queue: Mutex<Queue>,
}

struct Queue {
    asks: Vec<Ask>,
    /// Since when the first of them waits.
    since: Option<Instant>,
    /// Under way, or about to be.
    trips: usize,
    /// Which share of the keys is not settled by plain reads, of late.
    unsettled: f32,
}

impl Reads {
    /// To be called in a runtime.
    pub(super) fn start(
        server: &Arc<Server>,
        state: String,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let queue = Queue {
            asks: Vec::new(),
            since: None,
            trips: 0,
            // Until it is known to be otherwise, Redis is as empty as this process.
            unsettled: 1.0,
        };
        let inner = Inner {
            server: Arc::clone(server),
            state,
            tasks: tasks.clone(),
            runtime: Handle::current(),
            stop,
            queue: Mutex::new(queue),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Those who wait are told that it did not work, and who comes later.
    pub(super) fn end(&self) {
        self.inner.stop.cancel();
    }

    /// However many keys are missing.
    #[cfg(test)]
    pub(super) fn always_plainly(&self) {
        self.inner.queue().unsettled = f32::NEG_INFINITY;
    }

    /// The name comes back with what was found. `None`: it did not work. Either within the timeout of
    /// the server.
    pub(super) async fn read_one(&self, name: Vec<u8>, lease: bool) -> Option<(Vec<u8>, Found)> {
        let (answer, answered) = oneshot::channel();
        self.inner.ask(Ask {
            of: Of::One(name, answer),
            lease,
            by_script: false,
        })?;
        answered.await.ok()
    }

    /// The same of names that are read together.
    pub(super) async fn read(
        &self,
        names: Vec<Vec<u8>>,
        lease: bool,
    ) -> Option<(Vec<Vec<u8>>, Vec<Found>)> {
        let (answer, answered) = oneshot::channel();
        self.inner.ask(Ask {
            of: Of::Many(names, answer),
            lease,
            // One round trip, whether they are there or not.
            by_script: lease,
        })?;
        answered.await.ok()
    }
}

impl Inner {
    fn ask(self: &Arc<Self>, ask: Ask) -> Option<()> {
        {
            let mut queue = self.queue();
            if queue.asks.len() >= MOST_WAITING {
                return None;
            }
            queue.asks.push(ask);
            queue.since.get_or_insert_with(Instant::now);
            if queue.trips >= TRIPS {
                return Some(());
            }
            queue.trips += 1;
        }
        let trips = Trips {
            inner: Arc::clone(self),
            over: false,
        };
        self.tasks.spawn_on(trips.run(), &self.runtime);
        Some(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing of a user's runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whose answers are dropped know that it did not work.
    async fn round_trip(&self, batch: Batch) {
        let Batch {
            mut asks,
            since,
            by_script,
        } = batch;
        asks.retain(|ask| !ask.is_given_up());
        if asks.is_empty() {
            return;
        }
        for ask in &mut asks {
            ask.by_script |= by_script;
        }
        let names = |by_script: bool| {
            let asks = asks.iter().filter(move |ask| ask.by_script == by_script);
            asks.flat_map(|ask| ask.names().iter().map(|name| (name.as_slice(), ask.lease)))
        };
        let plain: Vec<&[u8]> = names(false).map(|(name, _)| name).collect();
        let script: Vec<(&[u8], bool)> = names(true).collect();
        let mut calls = redis::pipe();
        ask_plainly(&mut calls, &self.state, &plain);
        ask_script(&mut calls, &self.state, &script);
        let (plain, script) = (plain.len(), script.len());
        let mut exchange = pin!(self.server.exchange(&calls));
        let left = self.server.timeout.saturating_sub(since.elapsed());
        let answers = match timeout(left, &mut exchange).await {
            Ok(answers) => answers,
            Err(_) => {
                // Some have waited for another trip before, and are not to wait longer. Whether the
                // server is too slow is another matter.
                drop(asks);
                let _ = exchange.await;
                return;
            }
        };
        let Ok(answers) = answers else { return };
        let mut answers = answers.into_iter();
        let mut plain = found_plainly(&mut answers, plain).into_iter();
        let mut script = found_by_script(&mut answers, script).into_iter();
        let (keys, mut open, mut again) = (plain.len() + script.len(), 0, Vec::new());
        for ask in asks {
            again.extend(match ask.by_script {
                true => ask.settle(&mut script, &mut open),
                false => ask.settle(&mut plain, &mut open),
            });
        }
        let mut queue = self.queue();
        if !again.is_empty() {
            // They have waited longest.
            queue.asks.splice(..0, again);
            queue.since = Some(since);
        }
        queue.unsettled += (open as f32 / keys as f32 - queue.unsettled) / 4.0;
    }
}

/// Round trips one after the other, as long as there are reads that wait.
struct Trips {
    inner: Arc<Inner>,
    over: bool,
}

impl Trips {
    async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        let trips = async {
            // Callers that are ready to run as well come along.
            tokio::task::yield_now().await;
            while let Some(batch) = self.next() {
                inner.round_trip(batch).await;
                tokio::task::yield_now().await;
            }
        };
        inner.stop.run_until_cancelled(trips).await;
    }

    /// What is to be sent now. `None`: nothing, and who asks next starts anew.
    fn next(&mut self) -> Option<Batch> {
        let mut queue = self.inner.queue();
        let Some(since) = queue.since.filter(|_| !queue.asks.is_empty()) else {
            queue.trips -= 1;
            self.over = true;
            return None;
        };
        let most = queue.asks.len().min(MOST_AT_ONCE);
        let rest = queue.asks.split_off(most);
        queue.since = (!rest.is_empty()).then_some(since);
        Some(Batch {
            asks: std::mem::replace(&mut queue.asks, rest),
            since,
            by_script: queue.unsettled > 0.5,
        })
    }
}

/// What is sent at once.
struct Batch {
    asks: Vec<Ask>,
    since: Instant,
    /// All of it by the script.
    by_script: bool,
}

impl Drop for Trips {
    /// All is to end, or the runtime of the trips has ended: nobody is to wait.
    fn drop(&mut self) {
        if !self.over {
            let mut queue = self.inner.queue();
            queue.trips -= 1;
            let asks = std::mem::take(&mut queue.asks);
            queue.since = None;
            drop(queue);
            drop(asks);
        }
    }
}

/// No two are the same, in whatever processes: SipHash under a key of the system's randomness.
pub(super) fn token() -> Token {
    let random = RandomState::new();
    let [left, right] = [0_u8, 1].map(|half| random.hash_one(half));
    (u128::from(left) << 64 | u128::from(right)).to_be_bytes()
}
