//! Loads, each in a task of its own: first from the shared tier, else by the loader.

use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument, Span};

use crate::LoadError;
use crate::flight::{Landing, Outcome};
use crate::guard::{caught, timed};
use crate::land::{Loaded, Raised, end, raise};
use crate::meters::Meters;
use crate::remote::{Lease, Read, Remote};
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

/// Where the tasks of loads run, and are waited for when the cache is shut down.
pub(crate) struct Tasks {
    pub(crate) runtime: Handle,
    pub(crate) span: Span,
    /// Whoever waits for the tasks waits for what may start one, too.
    pub(crate) token: TaskTrackerToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.token.task_tracker();
        tasks.spawn_on(task.instrument(self.span.clone()), &self.runtime);
    }
}

/// Loads one key: from the shared tier, as soon as that answers and without a task, else by the loader,
/// in a task of its own.
pub(crate) fn load<K, V>(
    key: &K,
    landing: Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    tasks: Tasks,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let Some(remote) = landing.env().remote.clone() else {
        return tasks.spawn(load_beyond(landing, cause, loader, None, None));
    };
    let then = move |read| go_on(read, landing, cause, loader, &tasks);
    remote.read_then(key, true, Box::new(then));
}

/// What is done when the shared tier has answered.
fn go_on<K, V>(
    read: Read<V>,
    mut landing: Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    tasks: &Tasks,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let (lease, there) = match read {
        Read::Value(shared) => {
            let (lease, refresh) = (shared.lease, matches!(cause, Cause::Behind(_)));
            match raise(&mut landing, shared, refresh) {
                Raised::Kept(table) => {
                    if let Some(table) = table.filter(|table| table.is_sweep_due()) {
                        tasks.spawn(sweep(table));
                    }
                    return;
                }
                Raised::Refused(there) => (Some(lease), Some(there)),
            }
        }
        Read::Missing(lease) => {
            landing.env().meters.remote_miss();
            (lease, None)
        }
        Read::Unavailable => {
            let env = landing.env();
            if !env.stop.is_cancelled() {
                env.meters.remote_error();
            }
            (None, None)
        }
    };
    tasks.spawn(load_beyond(landing, cause, loader, lease, there));
}

/// Loads one key by its loader. `there`: a value of the shared tier that is about to expire as well.
async fn load_beyond<K, V>(
    mut landing: Landing<K, V>,
    cause: Cause,
    loader: Loader<K, V>,
    lease: Option<Lease>,
    there: Option<Previous<V>>,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let env = landing.env().clone();
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
pub(crate) fn look<K, V>(key: &K, mut landing: Landing<K, V>, tasks: Tasks)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let Some(remote) = landing.env().remote.clone() else {
        return;
    };
    let then = move |read| {
        let env = landing.env();
        match read {
            Read::Value(shared) => {
                raise(&mut landing, shared, false);
                return;
            }
            Read::Missing(_) => env.meters.remote_miss(),
            Read::Unavailable if env.stop.is_cancelled() => (),
            Read::Unavailable => env.meters.remote_error(),
        }
        landing.end(Outcome::Absent, |table, ticket, _| {
            table.is_some_and(|table| table.unlist(ticket))
        });
        // Whoever shuts the cache down waits for it.
        drop(tasks);
    };
    remote.read_then(key, false, Box::new(then));
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
