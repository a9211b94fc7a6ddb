//! A shared tier in memory: what `Remote` promises and not a bit more, and faults at will.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::CacheError;
use crate::remote::{
    BoxFuture, Fill, Invalidation, Lease, Local, Read, Remote, Shared, Target, Then,
};

mod tier;

/// The values, their leases and the order of invalidations.
pub(super) struct Server<K, V> {
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    slots: HashMap<K, Slot<V>>,
    sequence: u64,
    all: u64,
    tags: HashMap<Arc<str>, u64>,
    nodes: Vec<Weak<Node<K, V>>>,
}

struct Slot<V> {
    token: [u8; 16],
    stored: Option<Stored<V>>,
}

struct Stored<V> {
    value: Arc<V>,
    tags: Vec<Arc<str>>,
    etag: Option<Arc<str>>,
    until: Instant,
    load_time: Duration,
    stamp: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum Said<K> {
    Key(K),
    Expire(K),
    Tag(Arc<str>),
    All,
}

impl<K: Clone> Said<K> {
    fn of(target: Target<'_, K>) -> Self {
        match target {
            Target::Key(key) => Self::Key(key.clone()),
            Target::Expire(key) => Self::Expire(key.clone()),
            Target::Tag(tag) => Self::Tag(tag.into()),
            Target::All => Self::All,
        }
    }

    fn target(&self) -> Target<'_, K> {
        match self {
            Self::Key(key) => Target::Key(key),
            Self::Expire(key) => Target::Expire(key),
            Self::Tag(tag) => Target::Tag(tag),
            Self::All => Target::All,
        }
    }
}

/// How long values stay that have no time to live of their own.
pub(super) const TTL: Duration = Duration::from_secs(900);

impl<K: Hash + Eq + Clone, V> Server<K, V> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                slots: HashMap::new(),
                sequence: 0,
                all: 0,
                tags: HashMap::new(),
                nodes: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap()
    }

    /// A process that uses it. `bound`: with a bus, whose bound this is.
    pub(super) fn node(self: &Arc<Self>, bound: Option<Duration>) -> Arc<Node<K, V>> {
        let node = Arc::new(Node {
            server: Arc::clone(self),
            bound,
            down: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            latency: Mutex::new(Box::new(|| Duration::ZERO)),
            reads: Mutex::default(),
            fills: AtomicU64::new(0),
            mine: Mutex::new(Mine {
                pending: Vec::new(),
                next: 0,
                inbox: VecDeque::new(),
                seen: BTreeSet::new(),
                checked: 0,
                local: None,
            }),
        });
        self.state().nodes.push(Arc::downgrade(&node));
        node
    }

    /// Forgets a value and its lease, as a server does that evicts.
    pub(super) fn evict(&self, key: &K) {
        self.state().slots.remove(key);
    }

    pub(super) fn has(&self, key: &K) -> bool {
        let state = self.state();
        let slot = state.slots.get(key);
        slot.is_some_and(|slot| state.usable(slot).is_some())
    }
}

impl<K: Hash + Eq + Clone, V> State<K, V> {
    fn usable<'a>(&self, slot: &'a Slot<V>) -> Option<&'a Stored<V>> {
        let stored = slot.stored.as_ref()?;
        let tag = |tag: &Arc<str>| self.tags.get(tag).is_none_or(|at| *at <= stored.stamp);
        let usable = Instant::now() < stored.until
            && self.all <= stored.stamp
            && stored.tags.iter().all(tag);
        usable.then_some(stored)
    }

    fn read(&mut self, key: &K, lease: bool) -> Read<V> {
        let stamp = self.sequence;
        if let Some(slot) = self.slots.get(key) {
            let lease = Lease {
                token: slot.token,
                stamp,
            };
            if let Some(stored) = self.usable(slot) {
                return Read::Value(Shared {
                    value: Arc::clone(&stored.value),
                    tags: stored.tags.clone(),
                    etag: stored.etag.clone(),
                    ttl: stored.until - Instant::now(),
                    load_time: stored.load_time,
                    lease,
                });
            }
        }
        let lease = lease.then(|| {
            let new = || Slot {
                token: token(),
                stored: None,
            };
            let slot = self.slots.entry(key.clone()).or_insert_with(new);
            slot.stored = None;
            let token = slot.token;
            Lease { token, stamp }
        });
        Read::Missing(lease)
    }

    fn fill(&mut self, fill: Fill<K, V>) {
        let lease = fill.lease.expect("a fill without a lease");
        if let Some(slot) = self.slots.get_mut(&fill.key)
            && slot.token == lease.token
        {
            slot.stored = Some(stored(fill, lease.stamp));
        }
    }

    /// Returns the sequence that it gets.
    fn apply(&mut self, said: &Said<K>, from: &Node<K, V>) -> u64 {
        self.sequence += 1;
        let at = self.sequence;
        match said {
            Said::Key(key) | Said::Expire(key) => drop(self.slots.remove(key)),
            Said::Tag(tag) => drop(self.tags.insert(Arc::clone(tag), at)),
            Said::All => self.all = at,
        }
        for node in self.nodes.iter().filter_map(Weak::upgrade) {
            let mut mine = node.mine();
            if std::ptr::eq(&*node, from) {
                mine.seen.insert(at);
            } else if !node.deaf.load(SeqCst) && !node.down.load(SeqCst) {
                mine.inbox.push_back((at, said.clone()));
            }
        }
        at
    }
}

fn stored<K, V>(fill: Fill<K, V>, stamp: u64) -> Stored<V> {
    Stored {
        value: fill.value,
        tags: fill.tags,
        etag: fill.etag,
        until: Instant::now() + fill.ttl.map_or(TTL, |ttl| ttl.min(TTL)),
        load_time: fill.load_time,
        stamp,
    }
}

fn token() -> [u8; 16] {
    fastrand::u128(..).to_ne_bytes()
}

/// One process' way to the server.
pub(super) struct Node<K, V> {
    server: Arc<Server<K, V>>,
    bound: Option<Duration>,
    /// It cannot reach the server, nor hear of it.
    pub(super) down: AtomicBool,
    /// It does not get messages, without noticing.
    pub(super) deaf: AtomicBool,
    latency: Mutex<Box<dyn Fn() -> Duration + Send>>,
    /// The keys of each round trip.
    pub(super) reads: Mutex<Vec<Vec<K>>>,
    pub(super) fills: AtomicU64,
    mine: Mutex<Mine<K>>,
}

struct Mine<K> {
    /// Invalidations that are still to be told.
    pending: Vec<(u64, Said<K>)>,
    next: u64,
    inbox: VecDeque<(u64, Said<K>)>,
    seen: BTreeSet<u64>,
    /// Up to here nothing was missed, or it was dealt with.
    checked: u64,
    local: Option<Weak<dyn Local<K>>>,
}

impl<K: Hash + Eq + Clone, V> Node<K, V> {
    fn mine(&self) -> MutexGuard<'_, Mine<K>> {
        self.mine.lock().unwrap()
    }

    /// How long half a round trip takes from now on.
    pub(super) fn latency(&self, latency: impl Fn() -> Duration + Send + 'static) {
        *self.latency.lock().unwrap() = Box::new(latency);
    }

    async fn travel(&self) {
        let latency = self.latency.lock().unwrap()();
        if latency.is_zero() {
            tokio::task::yield_now().await;
        } else {
            sleep(latency).await;
        }
    }

    fn is_down(&self) -> bool {
        self.down.load(SeqCst)
    }

    fn local(&self) -> Option<Arc<dyn Local<K>>> {
        self.mine().local.as_ref()?.upgrade()
    }

    /// Takes what other processes said.
    pub(super) fn deliver(&self) {
        while let Some((at, said)) = self.next() {
            if let Some(local) = self.local() {
                local.invalidated(said.target());
            }
            self.mine().seen.insert(at);
        }
    }

    fn next(&self) -> Option<(u64, Said<K>)> {
        self.mine().inbox.pop_front()
    }

    /// Checks whether something was missed, and says so.
    pub(super) fn beat(&self) {
        let (Some(bound), false) = (self.bound, self.is_down()) else {
            return;
        };
        let Some(local) = self.local() else { return };
        self.deliver();
        let sequence = self.server.state().sequence;
        let mut mine = self.mine();
        let missed = (mine.checked + 1..=sequence).any(|at| !mine.seen.contains(&at));
        mine.checked = sequence;
        mine.seen.clear();
        drop(mine);
        if missed {
            local.gap();
        }
        local.trusted_until(Instant::now() + bound);
    }

    /// Tells what was deferred.
    pub(super) fn tell_deferred(&self) {
        if !self.is_down() {
            let pending = std::mem::take(&mut self.mine().pending);
            for (_, said) in pending {
                self.server.state().apply(&said, self);
            }
        }
    }

    /// Says whether it was told; `then` is done in the same moment.
    async fn tell(&self, said: Said<K>, then: impl FnOnce(&mut State<K, V>, u64)) -> bool {
        let id = {
            let mut mine = self.mine();
            mine.next += 1;
            let id = mine.next;
            mine.pending.push((id, said.clone()));
            id
        };
        if self.is_down() {
            return false;
        }
        self.travel().await;
        let told = {
            let pending = &mut self.mine().pending;
            let before = pending.len();
            if self.is_down() {
                return false;
            }
            pending.retain(|(pending, _)| *pending != id);
            pending.len() == before
        };
        // Else it was told with what was deferred.
        if !told {
            let mut state = self.server.state();
            let at = state.apply(&said, self);
            then(&mut state, at);
        }
        self.travel().await;
        true
    }
}
