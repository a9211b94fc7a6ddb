use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tracing::Instrument;

use super::builder::Config;
use super::table::{Batch, Group, Outcome};
use super::{Inner, LoadError};

/// How often in a row all ready tasks may have their turn without bringing a further key before a
/// batch goes. Once is enough on one thread; on several, others may be at work on what brings
/// keys. Each costs about a microsecond.
const QUIET_TURNS: usize = 3;

/// How often at most, so that a batch goes although keys never stop coming. A worker thread lets
/// about 61 tasks run in a turn, so a thousand that are ready take 17.
const TURNS: usize = 32;

/// The life of a batch in a task of its own; it ends the batch exactly once, however the task
/// ends.
pub(super) struct Run<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    inner: Arc<Inner<K, V>>,
    batch: Arc<Batch<K, V>>,
    /// From when the query starts.
    sent: Vec<K>,
    ended: bool,
}

impl<K, V> Run<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Not to be called under the lock of the table: where there is no runtime, the batch ends.
    pub(super) fn start(inner: &Arc<Inner<K, V>>, batch: Arc<Batch<K, V>>) {
        let run = Self {
            inner: Arc::clone(inner),
            batch,
            sent: Vec::new(),
            ended: false,
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(run.run().in_current_span());
        }
    }

    async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        let batch = Arc::clone(&self.batch);
        let _permit = loop {
            let turn = async {
                self.gather().await;
                inner.permits.acquire().await
            };
            match unless(batch.outcome.closed(), turn).await {
                Some(Ok(permit)) => {
                    if let Some(keys) = inner.table().send(&batch) {
                        self.sent = keys;
                        break permit;
                    }
                }
                // Never closed.
                Some(Err(_)) => return,
                None => {}
            }
            if inner.table().abandon(&batch) {
                self.ended = true;
                return;
            }
        };
        let outcome = self.query().await;
        self.end(outcome);
    }

    /// Waits for further keys: until some turns of all ready tasks bring none, or for the delay;
    /// and no longer once the batch is full.
    async fn gather(&self) {
        let delay = self.inner.config.delay;
        if !delay.is_zero() {
            if self.inner.table().gathered(&self.batch).is_none() {
                return;
            }
            unless(self.batch.full.notified(), tokio::time::sleep(delay)).await;
            return;
        }
        let (mut before, mut quiet) = (0, 0);
        for _ in 0..TURNS {
            match self.inner.table().gathered(&self.batch) {
                Some(keys) if keys > before => (before, quiet) = (keys, 0),
                Some(_) if quiet + 1 < QUIET_TURNS => quiet += 1,
                _ => return,
            }
            yield_now().await;
        }
    }

    /// Runs the query in one more task, which contains its panics.
    async fn query(&self) -> Outcome<K, V> {
        let (keys, config) = (self.sent.clone(), Arc::clone(&self.inner.config));
        let asked = keys.len();
        let span = tracing::debug_span!("load_batch", loader = %config.name, keys = asked);
        let query = async move {
            let started = Instant::now();
            let loaded = load(&config, keys).await;
            let elapsed = started.elapsed();
            match &loaded {
                Ok(_) => tracing::debug!(?elapsed, "loaded"),
                Err(error) => tracing::debug!(?elapsed, %error, "failed"),
            }
            loaded
        };
        match tokio::spawn(query.instrument(span)).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => Err(LoadError::panicked(asked, &*payload)),
                Err(_) => Err(LoadError::Closed),
            },
        }
    }

    fn end(&mut self, outcome: Outcome<K, V>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        {
            let mut table = self.inner.table();
            let mut keys = std::mem::take(&mut self.sent);
            keys.extend(table.close(&self.batch));
            table.settle(&self.batch, keys, &outcome);
        }
        // Last: who is told and asks again finds the answer kept.
        self.batch.outcome.send_replace(Some(outcome));
    }
}

impl<K, V> Drop for Run<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The task was dropped before it ended, with its runtime, or never ran.
    fn drop(&mut self) {
        self.end(Err(LoadError::Closed));
    }
}

async fn load<K, V>(config: &Config<K, V>, keys: Vec<K>) -> Outcome<K, V>
where
    K: Hash + Eq + Clone,
{
    let asked = keys.len();
    let mut groups: HashMap<K, Vec<Arc<V>>> = HashMap::with_capacity(asked);
    groups.extend(keys.iter().map(|key| (key.clone(), Vec::new())));
    let values = (config.query)(keys)
        .await
        .map_err(|source| LoadError::failed(asked, source))?;
    for value in values {
        if let Some(group) = groups.get_mut(&(config.key)(&value)) {
            group.push(Arc::new(value));
        }
    }
    let groups = groups.into_iter().map(|(key, values)| {
        let group: Group<V> = values.into();
        (key, group)
    });
    Ok(Arc::new(groups.collect()))
}

/// What `work` gives, unless `stop` is done first.
async fn unless<T>(stop: impl Future, work: impl Future<Output = T>) -> Option<T> {
    let mut stop = pin!(stop);
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        stop.as_mut().poll(cx).map(|_| None)
    })
    .await
}
