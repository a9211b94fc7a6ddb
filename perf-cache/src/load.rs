//! Loads, each in a task of its own: first from the shared tier, else by the loader.

use std::error::Error;
use std::future::Future;
use std::hash::Hash;
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
use crate::remote::{Read, Remote};
use crate::table::Table;
use crate::value::{LoadContext, Value};

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, LoadError>> + Send>>;

/// A loader of one key. Boxed: one type of load, however many loaders there are; beside a load, a
/// box is nothing.
pub(crate) type Loader<K, V> = Box<dyn FnOnce(K, LoadContext<V>) -> Boxed<Value<V>> + Send>;

/// A loader of many keys at once.
pub(crate) type BulkLoader<K, V> = Box<dyn FnOnce(Vec<K>) -> Boxed<Vec<(K, Value<V>)>> + Send>;

/// What loads need besides their key.
pub(crate) struct Env<K, V> {
    pub(crate) meters: Arc<Meters>,
    pub(crate) remote: Option<Arc<dyn Remote<K, V>>>,
    /// A place for each load that may run.
    pub(crate) places: Arc<Semaphore>,
    /// How long a loader may take.
    pub(crate) load_timeout: Duration,
    pub(crate) stop: CancellationToken,
}

impl<K, V> Clone for Env<K, V> {
    fn clone(&self) -> Self {
        Self {
            meters: Arc::clone(&self.meters),
            remote: self.remote.clone(),
            places: Arc::clone(&self.places),
            load_timeout: self.load_timeout,
            stop: self.stop.clone(),
        }
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
    let stop = env.stop.clone();
    let loaded = tokio::select! {
        biased;
        () = stop.cancelled() => Some(Err(LoadError::Closed)),
        loaded = one(&mut landing, cause, loader, &env) => loaded,
    };
    let Some(loaded) = loaded else { return };
    if let Some((fill, remote)) = end(&mut landing, loaded, &env).zip(env.remote.clone()) {
        tokio::select! {
            biased;
            () = stop.cancelled() => (),
            () = remote.fill(vec![fill]) => (),
        }
    }
    if let Some(table) = landing.table().filter(|table| table.is_sweep_due()) {
        sweep(table).await;
    }
}

/// `None`: it has ended, by a value of the shared tier or because nobody waits.
async fn one<K, V>(
    landing: &mut Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    env: &Env<K, V>,
) -> Option<Result<Loaded<V>, LoadError>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let mut lease = None;
    let mut previous = landing.table()?.previous(landing.key());
    if let Some(remote) = &env.remote {
        let read = remote.read(std::slice::from_ref(landing.key()), true).await;
        match read.into_iter().next() {
            Some(Read::Value(shared)) => {
                lease = Some(shared.lease);
                match raise(landing, shared, matches!(cause, Cause::Behind(_)), env) {
                    None => return None,
                    Some(there) => previous = Some(there),
                }
            }
            Some(Read::Missing(found)) => {
                env.meters.remote_miss();
                lease = found;
            }
            Some(Read::Unavailable) | None => env.meters.remote_error(),
        }
    }
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
    Some(loaded.map(|value| Loaded {
        value,
        load_time,
        lease,
    }))
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
    let Some(remote) = env.remote.clone() else {
        return;
    };
    let read = tokio::select! {
        biased;
        () = env.stop.cancelled() => None,
        read = remote.read(std::slice::from_ref(landing.key()), false) => Some(read),
    };
    match read.map(|read| read.into_iter().next()) {
        Some(Some(Read::Value(shared))) => {
            raise(&mut landing, shared, false, &env);
            return;
        }
        Some(Some(Read::Missing(_))) => env.meters.remote_miss(),
        Some(Some(Read::Unavailable) | None) => env.meters.remote_error(),
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
