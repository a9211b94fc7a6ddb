mod fills;

use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::bus::Listener;
use super::frame::Format;
use super::journal::{Before, Closed, How, Journal, Order, Token};
use super::keeper::Keeper;
use super::keys::Keys;
use super::meters::RemoteMeters;
use super::reader::Reader;
use super::reads::{Reads, token};
use super::server::Server;
use super::tier::{RedisBus, RedisTier};
use crate::CacheError;
use crate::remote::{BoxFuture, Fill, Invalidation, Lease, Local, Read, Remote, Target, Then};

/// How long the other processes are waited for at most.
const LISTENED_FOR: Duration = Duration::from_secs(5);

/// The tier of one cache in Redis.
pub(crate) struct RedisRemote<K, V> {
    server: Arc<Server>,
    journal: Arc<Journal>,
    keys: Arc<Keys>,
    reads: Reads<V>,
    reader: Arc<Reader>,
    origin: Token,
    bus: Option<RedisBus>,
    heard: watch::Sender<bool>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Its tasks end with it.
    _stop_on_drop: DropGuard,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K, V: DeserializeOwned + Send + Sync + 'static> RedisRemote<K, V> {
    /// Starts its tasks; to be called in a runtime.
    pub(crate) fn open(
        tier: RedisTier,
        bus: Option<RedisBus>,
        cache: &str,
        schema_version: u32,
        meters: Arc<RemoteMeters>,
    ) -> Arc<Self> {
        let keys = Arc::new(Keys::new(&tier.prefix, cache));
        let server = Arc::new(Server::new(tier.links.client.clone(), tier.timeout, meters));
        let journal = Arc::new(Journal::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let origin = token();
        let first = tier.links.current();
        let keeper = Keeper {
            links: tier.links,
            server: Arc::clone(&server),
            journal: Arc::clone(&journal),
            state: keys.state(),
            bus: keys.bus(),
            origin,
            stop: stop.clone(),
        };
        server.set_link(first.clone());
        tasks.spawn(keeper.run(first));
        let reader = Arc::new(Reader {
            server: Arc::clone(&server),
            journal: Arc::clone(&journal),
            format: Format {
                codec: tier.codec,
                schema: schema_version,
                compress_above: tier.compress_above,
            },
            ttl: tier.ttl,
        });
        let reads = Reads::start(&reader, keys.state(), &tasks, stop.child_token());
        Arc::new(Self {
            server,
            journal,
            keys,
            reads,
            reader,
            origin,
            bus,
            heard: watch::Sender::new(false),
            tasks,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            of: PhantomData,
        })
    }
}

impl<K, V> RedisRemote<K, V> {
    #[cfg(test)]
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    #[cfg(test)]
    pub(super) fn reads(&self) -> &Reads<V> {
        &self.reads
    }

    fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
    }
}

impl<K, V> RedisRemote<K, V>
where
    K: Serialize + Send + Sync,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// The name of a key that is to be asked for, and what the answer is to be compared with; or what is
    /// known without asking.
    fn may_ask(&self, key: &K) -> Result<(Vec<u8>, Before), Read<V>> {
        if !self.server.may_be_up() {
            return Err(Read::Unavailable);
        }
        // A key that has no name in Redis is never there, and loads of it are not put there. Unwind safe:
        // what was written until then is only dropped.
        let name = catch_unwind(AssertUnwindSafe(|| self.keys.value(key)));
        let Ok(Ok(name)) = name else {
            return Err(Read::Missing(None));
        };
        let before = self.journal.before_one(&name);
        before.map(|before| (name, before)).ok_or(Read::Unavailable)
    }

    async fn read_all(&self, keys: &[K], lease: bool) -> Vec<Read<V>> {
        let mut reads: Vec<Read<V>> = keys.iter().map(|_| Read::Unavailable).collect();
        if self.is_closed() || !self.server.is_up() {
            return reads;
        }
        let names = keys.iter().map(|key| self.keys.value(key).ok());
        let (mut at, mut asked) = (
            Vec::with_capacity(keys.len()),
            Vec::with_capacity(keys.len()),
        );
        for (i, name) in names.enumerate() {
            match name {
                Some(name) => {
                    at.push(i);
                    asked.push(name);
                }
                None => reads[i] = Read::Missing(None),
            }
        }
        let (blocked, before) = self.journal.before(asked.iter());
        let mut blocked = blocked.into_iter();
        let mut allowed = || !blocked.next().unwrap_or(false);
        let (mut kept_at, mut kept) = (Vec::with_capacity(at.len()), Vec::with_capacity(at.len()));
        for (i, name) in at.into_iter().zip(asked) {
            if allowed() {
                kept_at.push(i);
                kept.push(name);
            }
        }
        if kept.is_empty() {
            return reads;
        }
        if let Some((names, found)) = self.reads.read(kept, lease).await {
            for ((i, name), found) in kept_at.into_iter().zip(&names).zip(found) {
                let found = (found.0, found.1.as_deref());
                reads[i] = self.reader.found(name, found, &before, lease);
            }
        }
        reads
    }

    /// The sequence that it got; `None` if it is deferred.
    async fn tell(&self, order: Order) -> Result<Option<u64>, CacheError> {
        let told = self
            .journal
            .add(order)
            .map_err(|Closed| CacheError::Closed)?;
        // After it was added: else the keeper might have told all that waited before.
        if !self.server.is_up() {
            return Ok(None);
        }
        let told = timeout(self.server.timeout, told).await;
        Ok(told.ok().and_then(Result::ok))
    }

    async fn insert_one(&self, mut insert: Fill<K, V>) -> Result<Invalidation, CacheError> {
        let token = token();
        let order = Order::Key {
            name: self.keys.value(&insert.key)?,
            how: How::Replaced(token),
        };
        let began = Instant::now();
        let Some(stamp) = self.tell(order).await? else {
            return Ok(Invalidation::Deferred);
        };
        // As after a load: so an insertion that comes late, whatever delayed it, does not bring
        // back what was invalidated after it.
        insert.lease = Some(Lease { token, stamp });
        // If not in time, it is a miss.
        let left = self.server.timeout.saturating_sub(began.elapsed());
        let _ = timeout(left, self.fill_all(vec![insert])).await;
        Ok(Invalidation::Applied)
    }
}

impl<K, V> Remote<K, V> for RedisRemote<K, V>
where
    K: Serialize + DeserializeOwned + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn read<'a>(&'a self, keys: &'a [K], lease: bool) -> BoxFuture<'a, Vec<Read<V>>> {
        Box::pin(self.read_all(keys, lease))
    }

    fn read_then(self: Arc<Self>, key: &K, lease: bool, then: Then<V>) {
        match self.may_ask(key) {
            Ok((name, before)) => self.reads.read_one(name, before, lease, then),
            Err(read) => then(read),
        }
    }

    fn fill(&self, fills: Vec<Fill<K, V>>) -> BoxFuture<'_, ()> {
        Box::pin(self.fill_all(fills))
    }

    fn insert(&self, insert: Fill<K, V>) -> BoxFuture<'_, Result<Invalidation, CacheError>> {
        Box::pin(self.insert_one(insert))
    }

    fn invalidate<'a>(
        &'a self,
        target: Target<'a, K>,
    ) -> BoxFuture<'a, Result<Invalidation, CacheError>> {
        Box::pin(async move {
            let key = |key, how| {
                let name = self.keys.value(key)?;
                Ok(Order::Key { name, how })
            };
            let order = match target {
                Target::Key(it) => key(it, How::Gone)?,
                Target::Expire(it) => key(it, How::Expired)?,
                Target::Tag(tag) => Order::Tag(tag.into()),
                Target::All => Order::All,
            };
            Ok(match self.tell(order).await? {
                Some(_) => Invalidation::Applied,
                None => Invalidation::Deferred,
            })
        })
    }

    fn listen(&self, local: Weak<dyn Local<K>>) {
        let Some(bus) = self.bus.clone() else { return };
        let listener = Listener {
            server: Arc::clone(&self.server),
            keys: Arc::clone(&self.keys),
            origin: self.origin,
            bus,
            local,
            heard: self.heard.clone(),
        };
        let stop = self.stop.clone();
        let listening = async move { stop.run_until_cancelled(listener.run()).await };
        self.tasks.spawn(listening);
    }

    fn listening(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(bus) = &self.bus {
                let mut heard = self.heard.subscribe();
                // Without it the cache does what it does when the bus is lost.
                let at_most = bus.bound().min(LISTENED_FOR);
                let _ = timeout(at_most, heard.wait_for(|heard| *heard)).await;
            }
        })
    }

    fn end_reads(&self) {
        self.reads.end();
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.journal.close();
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        })
    }
}

impl<K, V> std::fmt::Debug for RedisRemote<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisRemote")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
