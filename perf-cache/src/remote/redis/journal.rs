//! Invalidations on their way to Redis, and those that wait for it to come back.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// When so many keys and tags wait, all of them become one invalidation of everything.
pub(super) const MOST: usize = 10_000;

/// So many waiters that have gone are kept.
const MOST_GONE: usize = 64;

pub(super) type Token = [u8; 16];

/// An invalidation of one thing.
#[derive(Debug)]
pub(super) enum Order {
    Key {
        /// Its name in Redis.
        name: Vec<u8>,
        how: How,
    },
    Tag(Arc<str>),
    All,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Gone,
    /// Gone, and other processes keep what they have for loaders that fail.
    Expired,
    /// Ready for a value to be put there by this lease.
    Replaced(Token),
}

/// The sequence that it got; nothing if it is deferred.
pub(super) type Told = oneshot::Receiver<u64>;

/// What is invalidated here, and not known to be in Redis yet.
///
/// It is the queue to Redis at the same time: an invalidation that nobody waits for any more is
/// told all the same, and one that failed stays until it worked.
#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    /// Whether something is in it, or it is closed: as long as not, reads need no lock. Changed under the
    /// lock, so whoever comes after an invalidation has returned sees that.
    counts: AtomicBool,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Not sent yet.
    waiting: Targets,
    /// Sent, or being sent: it may be done there, before what comes now.
    sent: Targets,
    closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) keys: HashMap<Vec<u8>, How>,
    /// Shared with reads that began; changed as a copy while there are some.
    pub(super) tags: Arc<HashSet<Arc<str>>>,
    pub(super) all: bool,
    waiters: Waiters,
}

/// Who is to be told the sequence. While Redis is down nobody waits for long, and invalidations go on:
/// those who have gone are forgotten now and then, which costs no more than to add them.
#[derive(Debug, Default)]
struct Waiters {
    all: Vec<oneshot::Sender<u64>>,
    /// How many of them were still there when it was last looked.
    there: usize,
}

/// The journal as it was when a read began.
#[derive(Debug, Default)]
pub(super) struct Before {
    waiting: Option<Arc<HashSet<Arc<str>>>>,
    sent: Option<Arc<HashSet<Arc<str>>>>,
}

/// The cache is shut down.
#[derive(Debug)]
pub(super) struct Closed;

impl Journal {
    /// Notes an invalidation to be sent; from now on reads go by it.
    pub(super) fn add(&self, order: Order) -> Result<Told, Closed> {
        let (waiter, told) = oneshot::channel();
        {
            let mut state = self.state();
            if state.closed {
                return Err(Closed);
            }
            state.waiting.add(order);
            state.waiting.waiters.push(waiter);
            self.counts.store(true, Ordering::SeqCst);
        }
        self.added.notify_one();
        Ok(told)
    }

    /// Waits until something has been added since it was last waited for.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// Which of the keys must not be read now, and what the answers are to be compared with.
    pub(super) fn before<'a>(
        &self,
        names: impl Iterator<Item = &'a Vec<u8>>,
    ) -> (Vec<bool>, Before) {
        let state = self.state();
        let blocked = names.map(|name| state.has_key(name)).collect();
        (blocked, state.before())
    }

    /// The same of one key; `None` if it must not be read now, or never again.
    pub(super) fn before_one(&self, name: &[u8]) -> Option<Before> {
        if !self.counts.load(Ordering::SeqCst) {
            return Some(Before::default());
        }
        let state = self.state();
        (!state.closed && !state.has_key(name)).then(|| state.before())
    }

    /// Whether a value must not be served: an invalidation of it is on its way, or was when it was
    /// asked for.
    pub(super) fn blocks(&self, name: &[u8], tags: &[Arc<str>], before: &Before) -> bool {
        let has = |set: &HashSet<Arc<str>>| {
            !set.is_empty() && tags.iter().any(|tag| set.contains(&**tag))
        };
        let before = [&before.waiting, &before.sent];
        if before.into_iter().flatten().any(|set| has(set)) {
            return true;
        }
        if !self.counts.load(Ordering::SeqCst) {
            return false;
        }
        let state = self.state();
        state.has_key(name) || has(&state.waiting.tags) || has(&state.sent.tags)
    }

    /// What is to be sent now.
    pub(super) fn send<T>(&self, with: impl FnOnce(&Targets) -> T) -> Option<T> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return None;
        }
        state.sent = std::mem::take(&mut state.waiting);
        Some(with(&state.sent))
    }

    /// What was sent is done; returns how many.
    pub(super) fn done(&self, sequence: u64) -> usize {
        let done = {
            let mut state = self.state();
            let done = std::mem::take(&mut state.sent);
            let counts = state.closed || !state.waiting.is_empty();
            self.counts.store(counts, Ordering::SeqCst);
            done
        };
        for waiter in done.waiters.all {
            // Or nobody waits any more.
            let _ = waiter.send(sequence);
        }
        done.keys.len() + done.tags.len() + usize::from(done.all)
    }

    /// What was sent may not be done, and nothing can be sent for now: all that wait are told so.
    pub(super) fn defer(&self) {
        let mut state = self.state();
        let mut sent = std::mem::take(&mut state.sent);
        let waiting = std::mem::take(&mut state.waiting);
        sent.append(waiting);
        sent.waiters = Waiters::default();
        state.waiting = sent;
    }

    /// Takes no more; returns how many are left.
    pub(super) fn close(&self) -> usize {
        let mut state = self.state();
        state.closed = true;
        self.counts.store(true, Ordering::SeqCst);
        state.waiting.len() + state.sent.len()
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.state().waiting.waiters.all.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing of a user's runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiters {
    fn push(&mut self, waiter: oneshot::Sender<u64>) {
        if self.all.len() >= MOST_GONE.max(2 * self.there) {
            self.all.retain(|waiter| !waiter.is_closed());
            self.there = self.all.len();
        }
        self.all.push(waiter);
    }
}

impl State {
    fn before(&self) -> Before {
        let tags = |targets: &Targets| {
            let tags = &targets.tags;
            (!tags.is_empty()).then(|| Arc::clone(tags))
        };
        Before {
            waiting: tags(&self.waiting),
            sent: tags(&self.sent),
        }
    }

    fn has_key(&self, name: &[u8]) -> bool {
        [&self.waiting, &self.sent]
            .iter()
            .any(|targets| targets.all || targets.keys.contains_key(name))
    }
}

impl Targets {
    fn add(&mut self, order: Order) {
        match order {
            Order::Key { name, how } => {
                let entry = self.keys.entry(name).or_insert(how);
                // Other processes that were to remove it are not to keep it.
                if (*entry, how) != (How::Gone, How::Expired) {
                    *entry = match (*entry, how) {
                        (How::Replaced(_), How::Expired) => How::Gone,
                        _ => how,
                    };
                }
            }
            Order::Tag(tag) => {
                self.void_leases();
                Arc::make_mut(&mut self.tags).insert(tag);
            }
            Order::All => {
                self.void_leases();
                self.all = true;
            }
        }
        if self.keys.len() + self.tags.len() > MOST {
            self.keys.clear();
            self.tags = Arc::default();
            self.all = true;
        }
    }

    /// All that is sent at once gets the same sequence, by which a value that was inserted before
    /// an invalidation would not be older than it. So it is not put there.
    fn void_leases(&mut self) {
        for how in self.keys.values_mut() {
            if let How::Replaced(_) = how {
                *how = How::Gone;
            }
        }
    }

    fn append(&mut self, later: Self) {
        for tag in later.tags.iter() {
            self.add(Order::Tag(Arc::clone(tag)));
        }
        if later.all {
            self.add(Order::All);
        }
        for (name, how) in later.keys {
            self.add(Order::Key { name, how });
        }
        // Whoever inserts gave up on it.
        self.void_leases();
        self.waiters.all.extend(later.waiters.all);
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + usize::from(self.all)
    }
}
