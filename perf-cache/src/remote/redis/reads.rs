//! Reads at the same time share round trips.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
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

/// Names of values to be read together.
struct Ask {
    names: Vec<Vec<u8>>,
    lease: bool,
    /// Plain reads do not tell, or shall not be tried.
    by_script: bool,
    answer: oneshot::Sender<(Vec<Vec<u8>>, Vec<Found>)>,
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

    /// However many keys are missing.
    #[cfg(test)]
    pub(super) fn always_plainly(&self) {
        self.inner.queue().unsettled = f32::NEG_INFINITY;
    }

    /// The names come back with what was found. `None`: it did not work.
    pub(super) async fn read(
        &self,
        names: Vec<Vec<u8>>,
        lease: bool,
    ) -> Option<(Vec<Vec<u8>>, Vec<Found>)> {
        let (answer, answered) = oneshot::channel();
        // Many keys are one round trip, whether they are there or not.
        let by_script = lease && names.len() > 1;
        self.inner.ask(Ask {
            names,
            lease,
            by_script,
            answer,
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
    async fn round_trip(&self, mut asks: Vec<Ask>, by_script: bool) {
        asks.retain(|ask| !ask.answer.is_closed());
        if asks.is_empty() {
            return;
        }
        for ask in &mut asks {
            ask.by_script |= by_script;
        }
        let names = |by_script: bool| {
            let asks = asks.iter().filter(move |ask| ask.by_script == by_script);
            asks.flat_map(|ask| ask.names.iter().map(|name| (name.as_slice(), ask.lease)))
        };
        let plain: Vec<&[u8]> = names(false).map(|(name, _)| name).collect();
        let script: Vec<(&[u8], bool)> = names(true).collect();
        let mut calls = redis::pipe();
        ask_plainly(&mut calls, &self.state, &plain);
        ask_script(&mut calls, &self.state, &script);
        let (plain, script) = (plain.len(), script.len());
        let Ok(answers) = self.server.exchange(&calls).await else {
            return;
        };
        let mut answers = answers.into_iter();
        let mut plain = found_plainly(&mut answers, plain).into_iter();
        let mut script = found_by_script(&mut answers, script).into_iter();
        let (mut keys, mut open, mut again) = (0, 0, Vec::new());
        for mut ask in asks {
            let many = ask.names.len();
            let (found, by_script) = match ask.by_script {
                true => (&mut script, true),
                false => (&mut plain, false),
            };
            let found: Vec<Option<Found>> = found.take(many).collect();
            let found: Option<Vec<Found>> = found.into_iter().collect();
            let settled = |(when, value): &Found| when.settles(value.as_deref(), ask.lease);
            let settled = found
                .iter()
                .flatten()
                .filter(|found| settled(found))
                .count();
            (keys, open) = (keys + many, open + many - settled);
            match found {
                Some(found) if by_script || settled == many => {
                    // Or the caller is gone.
                    let _ = ask.answer.send((ask.names, found));
                }
                // The script does not say what it was to.
                None if by_script => (),
                _ => {
                    ask.by_script = true;
                    again.push(ask);
                }
            }
        }
        let mut queue = self.queue();
        // They have waited longest.
        queue.asks.splice(..0, again);
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
            while let Some((asks, by_script)) = self.next() {
                inner.round_trip(asks, by_script).await;
                tokio::task::yield_now().await;
            }
        };
        inner.stop.run_until_cancelled(trips).await;
    }

    /// What is to be sent now, and whether all of it by the script. `None`: nothing, and who asks next
    /// starts anew.
    fn next(&mut self) -> Option<(Vec<Ask>, bool)> {
        let mut queue = self.inner.queue();
        if queue.asks.is_empty() {
            queue.trips -= 1;
            self.over = true;
            return None;
        }
        let most = queue.asks.len().min(MOST_AT_ONCE);
        let rest = queue.asks.split_off(most);
        let asks = std::mem::replace(&mut queue.asks, rest);
        Some((asks, queue.unsettled > 0.5))
    }
}

impl Drop for Trips {
    /// All is to end, or the runtime of the trips has ended: nobody is to wait.
    fn drop(&mut self) {
        if !self.over {
            let mut queue = self.inner.queue();
            queue.trips -= 1;
            let asks = std::mem::take(&mut queue.asks);
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
