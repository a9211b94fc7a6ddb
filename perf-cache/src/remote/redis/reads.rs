//! Reads at the same time share round trips.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::Pipeline;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::{Before, Token};
use super::lookup::{Answers, Found, ask_plainly, ask_script};
use super::reader::Reader;
use crate::remote::{Read, Then};

/// Reads that wait to be sent; when there are as many, the next is refused: its caller loads.
const MOST_WAITING: usize = 10_000;
/// Reads that are sent at once, unless one alone has more keys.
const MOST_AT_ONCE: usize = 1_000;
/// Round trips at the same time: those that come meanwhile gather for the next.
const TRIPS: usize = 2;
/// A longer value, in bytes, is decoded in a task of its own: others have come with it.
const LONG: usize = 16 * 1024;

/// What is to be read.
struct Ask<V> {
    of: Of<V>,
    lease: bool,
    /// Plain reads do not tell, or shall not be tried.
    by_script: bool,
    since: Instant,
}

/// Names of values, and what becomes of what is found.
enum Of<V> {
    One(One<V>),
    Many(Vec<Vec<u8>>, oneshot::Sender<(Vec<Vec<u8>>, Vec<Found>)>),
}

/// A read of one key, which is told however it ends.
struct One<V> {
    name: Vec<u8>,
    before: Before,
    /// Until it is told.
    then: Option<Then<V>>,
}

impl<V> One<V> {
    fn tell(&mut self, read: Read<V>) {
        if let Some(then) = self.then.take() {
            // Unwind safe: nothing of it is left. Destructors of a user may be among it, and the reads of
            // others come after it; the panic hook has reported it.
            let _ = catch_unwind(AssertUnwindSafe(|| then(read)));
        }
    }
}

impl<V> Drop for One<V> {
    fn drop(&mut self) {
        self.tell(Read::Unavailable);
    }
}

impl<V> Ask<V> {
    fn names(&self) -> &[Vec<u8>] {
        match &self.of {
            Of::One(one) => std::slice::from_ref(&one.name),
            Of::Many(names, _) => names,
        }
    }

    fn is_given_up(&self) -> bool {
        match &self.of {
            // Somebody may have joined whoever asked.
            Of::One(_) => false,
            Of::Many(_, answer) => answer.is_closed(),
        }
    }
}

/// Gathers reads and sends them.
pub(super) struct Reads<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    reader: Arc<Reader>,
    state: String,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    queue: Mutex<Queue<V>>,
}

struct Queue<V> {
    asks: Vec<Ask<V>>,
    /// Under way, or about to be.
    trips: usize,
    ended: bool,
    /// Which share of the keys is not settled by plain reads, of late.
    unsettled: f32,
}

impl<V> Reads<V> {
    /// Those who wait are told that it did not work, and who comes later.
    pub(super) fn end(&self) {
        self.inner.queue().ended = true;
        self.inner.stop.cancel();
    }

    /// However many keys are missing.
    #[cfg(test)]
    pub(super) fn always_plainly(&self) {
        self.inner.queue().unsettled = f32::NEG_INFINITY;
    }
}

impl<V: DeserializeOwned + Send + Sync + 'static> Reads<V> {
    /// To be called in a runtime.
    pub(super) fn start(
        reader: &Arc<Reader>,
        state: String,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let queue = Queue {
            asks: Vec::new(),
            trips: 0,
            ended: false,
            // Until it is known to be otherwise, Redis is as empty as this process.
            unsettled: 1.0,
        };
        let inner = Inner {
            reader: Arc::clone(reader),
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

    /// `then` is called within the timeout of the server, where the answer arrives.
    pub(super) fn read_one(&self, name: Vec<u8>, before: Before, lease: bool, then: Then<V>) {
        let then = Some(then);
        self.inner.ask(Ask {
            of: Of::One(One { name, before, then }),
            lease,
            by_script: false,
            since: Instant::now(),
        });
    }

    /// Reads names together, which come back with what was found. `None`: it did not work. Either within
    /// the timeout of the server.
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
            since: Instant::now(),
        });
        answered.await.ok()
    }
}

impl<V> Inner<V> {
    fn queue(&self) -> MutexGuard<'_, Queue<V>> {
        // Nothing of a user's runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: DeserializeOwned + Send + Sync + 'static> Inner<V> {
    /// One that is refused is dropped, which tells.
    fn ask(self: &Arc<Self>, ask: Ask<V>) {
        {
            let mut queue = self.queue();
            if queue.ended || queue.asks.len() >= MOST_WAITING {
                // Not under the lock: it tells.
                drop(queue);
                return drop(ask);
            }
            queue.asks.push(ask);
            if queue.trips >= TRIPS {
                return;
            }
            queue.trips += 1;
        }
        let trips = Trips {
            inner: Arc::clone(self),
            over: false,
        };
        self.tasks.spawn_on(trips.run(), &self.runtime);
    }

    /// Those whose answers are dropped know that it did not work.
    async fn round_trip(self: &Arc<Self>, batch: Batch<V>) {
        let Batch {
            mut asks,
            by_script,
        } = batch;
        asks.retain(|ask| !ask.is_given_up());
        // Those that ask again come first.
        let Some(since) = asks.first().map(|ask| ask.since) else {
            return;
        };
        for ask in &mut asks {
            ask.by_script |= by_script;
        }
        let (calls, plain, script) = self.calls(&asks);
        let server = &self.reader.server;
        let mut exchange = pin!(server.exchange(&calls));
        let left = server.timeout.saturating_sub(since.elapsed());
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
        let (keys, mut open, mut again) = (plain + script, 0, Vec::new());
        let mut plain = Answers::plain(&mut answers, plain);
        let mut script = Answers::by_script(&mut answers, script);
        for ask in asks {
            again.extend(match ask.by_script {
                true => self.settle(ask, &mut script, &mut open),
                false => self.settle(ask, &mut plain, &mut open),
            });
        }
        let mut queue = self.queue();
        if !again.is_empty() {
            // They have waited longest.
            queue.asks.splice(..0, again);
        }
        queue.unsettled += (open as f32 / keys as f32 - queue.unsettled) / 4.0;
    }

    /// The calls for plain reads of so many names, and for so many by the script.
    fn calls(&self, asks: &[Ask<V>]) -> (Pipeline, usize, usize) {
        let names = |by_script: bool| {
            let asks = asks.iter().filter(move |ask| ask.by_script == by_script);
            asks.flat_map(|ask| ask.names().iter().map(|name| (name.as_slice(), ask.lease)))
        };
        let plain: Vec<&[u8]> = names(false).map(|(name, _)| name).collect();
        let script: Vec<(&[u8], bool)> = names(true).collect();
        let mut calls = redis::pipe();
        ask_plainly(&mut calls, &self.state, &plain);
        ask_script(&mut calls, &self.state, &script);
        (calls, plain.len(), script.len())
    }

    /// Says what was found, if that settles it; else it comes back, for the script. Counts the keys
    /// that are not settled by plain reads.
    fn settle(
        self: &Arc<Self>,
        mut ask: Ask<V>,
        found: &mut impl Iterator<Item = Option<Found>>,
        open: &mut usize,
    ) -> Option<Ask<V>> {
        let lease = ask.lease;
        let settles = |found: &Option<Found>| {
            let settled = |(when, value): &Found| when.settles(value.as_deref(), lease);
            found.as_ref().is_some_and(settled)
        };
        match ask.of {
            Of::One(one) => {
                let found = found.next().flatten();
                let unsettled = !settles(&found);
                *open += usize::from(unsettled);
                if unsettled && !ask.by_script {
                    ask.of = Of::One(one);
                    ask.by_script = true;
                    return Some(ask);
                }
                // Or the script does not say what it was to.
                if let Some(found) = found {
                    self.tell(one, found, lease);
                }
            }
            Of::Many(names, answer) => {
                let found: Vec<Option<Found>> = found.take(names.len()).collect();
                let unsettled = found.iter().filter(|found| !settles(found)).count();
                *open += unsettled;
                if unsettled > 0 && !ask.by_script {
                    ask.of = Of::Many(names, answer);
                    ask.by_script = true;
                    return Some(ask);
                }
                let found: Option<Vec<Found>> = found.into_iter().collect();
                // Or the caller is gone.
                let _ = found.map(|found| answer.send((names, found)));
            }
        }
        None
    }

    fn tell(self: &Arc<Self>, mut one: One<V>, found: Found, lease: bool) {
        let length = found.1.as_ref().map_or(0, Vec::len);
        let reader = Arc::clone(&self.reader);
        let tell = move || {
            let read = reader.found(&one.name, found, &one.before, lease);
            one.tell(read);
        };
        if length > LONG {
            self.tasks.spawn_on(async move { tell() }, &self.runtime);
        } else {
            tell();
        }
    }
}

/// Round trips one after the other, as long as there are reads that wait.
struct Trips<V> {
    inner: Arc<Inner<V>>,
    over: bool,
}

impl<V: DeserializeOwned + Send + Sync + 'static> Trips<V> {
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
    fn next(&mut self) -> Option<Batch<V>> {
        let mut queue = self.inner.queue();
        if queue.asks.is_empty() {
            queue.trips -= 1;
            self.over = true;
            return None;
        }
        let most = queue.asks.len().min(MOST_AT_ONCE);
        let rest = queue.asks.split_off(most);
        Some(Batch {
            asks: std::mem::replace(&mut queue.asks, rest),
            by_script: queue.unsettled > 0.5,
        })
    }
}

/// What is sent at once.
struct Batch<V> {
    asks: Vec<Ask<V>>,
    /// All of it by the script.
    by_script: bool,
}

impl<V> Drop for Trips<V> {
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

#[cfg(test)]
mod tests;
