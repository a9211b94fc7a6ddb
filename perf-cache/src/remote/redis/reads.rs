//! Reads at the same time share round trips.

mod settle;
mod trips;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::{Before, Token};
use super::lookup::When;
use super::reader::Reader;
use super::reply::Replies;
use super::request::Request;
use crate::remote::{Read, Then};
use trips::Trips;

/// Reads that wait to be sent; when there are as many, the next is refused: its caller loads.
const MOST_WAITING: usize = 10_000;
/// Reads that are sent at once, unless one alone has more keys.
const MOST_AT_ONCE: usize = 1_000;
/// Round trips at the same time: those that come meanwhile gather for the next.
pub(super) const TRIPS: usize = 2;

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
    Many(Vec<Vec<u8>>, oneshot::Sender<(Vec<Vec<u8>>, Vec<Copied>)>),
}

/// What was found, for who takes it along.
type Copied = (When, Option<Vec<u8>>);

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

/// What a round trip needs room for. Kept, as allocations of this size cost more than what is done in them.
struct Room<V> {
    asks: Vec<Ask<V>>,
    request: Request,
    replies: Replies,
}

impl<V> Default for Room<V> {
    fn default() -> Self {
        Self {
            asks: Vec::new(),
            request: Request::default(),
            replies: Replies::default(),
        }
    }
}

struct Queue<V> {
    asks: Vec<Ask<V>>,
    /// Those of trips that are over, for the next.
    rooms: Vec<Room<V>>,
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
            rooms: Vec::new(),
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
    ) -> Option<(Vec<Vec<u8>>, Vec<Copied>)> {
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
}

/// No two are the same, in whatever processes: SipHash under a key of the system's randomness.
pub(super) fn token() -> Token {
    let random = RandomState::new();
    let [left, right] = [0_u8, 1].map(|half| random.hash_one(half));
    (u128::from(left) << 64 | u128::from(right)).to_be_bytes()
}

#[cfg(test)]
mod tests;
