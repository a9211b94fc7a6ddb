//! Loads, each in a task of its own: first from the shared tier, else by the loader.

use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::LoadError;
use crate::flight::{Landing, Outcome};
use crate::guard::{caught, timed};
use crate::land::{Loaded, end, raise};
use crate::meters::Meters;
use crate::remote::{Lease, Read, Remote, Shared};
use crate::table::Table;
use crate::value::{LoadContext, Previous, Value};

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, LoadError>> + Send>>;

/// A loader of one key. Boxed: one type of load, however many loaders there are; beside a load, a
/// box is nothing.
pub(crate) type Loader<K, V> = Box<dyn FnOnce(K, LoadContext<V>) -> Boxed<Value<V>> + Send>;

/// A loader of many keys at once.
pub(crate) type BulkLoader<K, V> = Box<dyn FnOnce(Vec<K>) -> Boxed<Vec<(K, Value<V>)>> + Send>;

/// What loads need besides their key. A clone is the same.
pub(crate) struct Env<K, V>(Arc<Needs<K, V>>);

pub(crate) struct Needs<K, V> {
    pub(crate) meters: Arc<Meters>,
    pub(crate) remote: Option<Arc<dyn Remote<K, V>>>,
    /// A place for each load that may run.
    pub(crate) places: Arc<Semaphore>,
    /// How long a loader may take.
    pub(crate) load_timeout: Duration,
    pub(crate) stop: CancellationToken,
}

impl<K, V> From<Needs<K, V>> for Env<K, V> {
    fn from(needs: Needs<K, V>) -> Self {
        Self(Arc::new(needs))
    }
}

impl<K, V> Deref for Env<K, V> {
    type Target = Needs<K, V>;

    fn deref(&self) -> &Needs<K, V> {
        &self.0
    }
}

impl<K, V> Clone for Env<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Why a load was started.
#[derive(Debug)]
pub(crate) enum Cause {
    /// Somebody waits for the value.
    Missing,
    /// The entry is still served; here is the place for the load.
    Behind(OwnedSemaphorePermit),
}

/// Loads one key.
pub(crate) async fn load<K, V>(
    mut landing: Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    env: Env<K, V>,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    // That ends with the cache.
    let found = find(&landing, &env).await;
    let (lease, there) = match found {
        Found::Value(shared) => {
            let (lease, refresh) = (shared.lease, matches!(cause, Cause::Behind(_)));
            match raise(&mut landing, shared, refresh, &env) {
                None => {
                    if let Some(table) = landing.table().filter(|table| table.is_sweep_due()) {
                        Box::pin(sweep(table)).await;
                    }
                    return;
                }
                there => (Some(lease), there),
            }
        }
        Found::Nothing(lease) => (lease, None),
    };
    // In a box: what the shared tier has is the load of many keys, whose tasks are small then.
    Box::pin(load_beyond(landing, cause, loader, lease, there, env)).await;
}

/// What the shared tier has.
enum Found<V> {
    Value(Shared<V>),
    Nothing(Option<Lease>),
}

async fn find<K, V>(landing: &Landing<K, V>, env: &Env<K, V>) -> Found<V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let Some(remote) = &env.remote else {
        return Found::Nothing(None);
    };
    match remote.read_one(landing.key(), true).await {
        Read::Value(shared) => Found::Value(shared),
        Read::Missing(lease) => {
            env.meters.remote_miss();
            Found::Nothing(lease)
        }
        Read::Unavailable => {
            if !env.stop.is_cancelled() {
                env.meters.remote_error();
            }
            Found::Nothing(None)
        }
    }
}

/// Loads one key by its loader. `there`: a value of the shared tier that is about to expire as well.
async fn load_beyond<K, V>(
    mut landing: Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    lease: Option<Lease>,
    there: Option<Previous<V>>,
    env: Env<K, V>,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let loaded = tokio::select! {
        biased;
        () = env.stop.cancelled() => Some(Err(LoadError::Closed)),
        loaded = one(&mut landing, cause, loader, there, &env) => loaded,
    };
    let Some(loaded) = loaded else { return };
    let loaded = loaded.map(|(value, load_time)| Loaded {
        value,
        load_time,
        lease,
    });
    if let Some((fill, remote)) = end(&mut landing, loaded, &env).zip(env.remote.as_ref()) {
        tokio::select! {
            biased;
            () = env.stop.cancelled() => (),
            () = remote.fill(vec![fill]) => (),
        }
    }
    if let Some(table) = landing.table().filter(|table| table.is_sweep_due()) {
        sweep(table).await;
    }
}

/// `None`: nobody waits.
async fn one<K, V>(
    landing: &mut Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    there: Option<Previous<V>>,
    env: &Env<K, V>,
) -> Option<Result<(Value<V>, Duration), LoadError>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let previous = match there {
        None => landing.table()?.previous(landing.key()),
        there => there,
    };
    let place = match cause {
        Cause::Behind(place) => place,
        Cause::Missing => match place(std::slice::from_mut(landing), env).await {
            Some(Ok(place)) => place,
            Some(Err(error)) => return Some(Err(error)),
            None => return None,
        },
    };
    env.meters.load_started();
    let began = tokio::time::Instant::now();
    let key = landing.key().clone();
    let context = LoadContext::new(previous);
    let loading = caught(move || loader(key, context));
    let loaded = timed(loading, env.load_timeout).await;
    drop(place);
    let load_time = began.elapsed();
    Some(loaded.map(|value| (value, load_time)))
}

/// A place among the loads; `None` if nobody waits for them any more.
pub(crate) async fn place<K, V>(
    landings: &mut [Landing<K, V>],
    env: &Env<K, V>,
) -> Option<Result<OwnedSemaphorePermit, LoadError>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let mut turn = pin!(Arc::clone(&env.places).acquire_owned());
    loop {
        let unheard = async {
            for landing in &*landings {
                landing.unheard().await;
            }
        };
        tokio::select! {
            biased;
            place = &mut turn => return Some(place.map_err(|_| LoadError::Closed)),
            () = unheard => (),
        }
        // Those of many who are not abandoned have been joined again since.
        let mut abandoned = true;
        for landing in &mut *landings {
            abandoned &= landing.abandon();
        }
        if abandoned {
            return None;
        }
    }
}

/// Looks for a key in the shared tier alone.
pub(crate) async fn look<K, V>(mut landing: Landing<K, V>, env: Env<K, V>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let Some(remote) = &env.remote else {
        return;
    };
    let read = tokio::select! {
        biased;
        () = env.stop.cancelled() => None,
        read = remote.read_one(landing.key(), false) => Some(read),
    };
    match read {
        Some(Read::Value(shared)) => {
            raise(&mut landing, shared, false, &env);
            return;
        }
        Some(Read::Missing(_)) => env.meters.remote_miss(),
        Some(Read::Unavailable) => env.meters.remote_error(),
        None => (),
    }
    landing.end(Outcome::Absent, |table, ticket, _| {
        table.is_some_and(|table| table.unlist(ticket))
    });
}

/// Reclaims the memory of entries that are of no use, where that disturbs nobody.
pub(crate) async fn sweep<K, V>(table: Arc<Table<K, V>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    // What a panic in the code of a key would leave is swept the next time.
    let _ = tokio::task::spawn_blocking(move || table.sweep()).await;
}

/// A loader's error as one that is shared.
pub(crate) fn shared<T, E>(loaded: Result<T, E>) -> Result<T, LoadError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    loaded.map_err(LoadError::failed)
}
