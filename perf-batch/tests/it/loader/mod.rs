mod cancel;
mod failures;
mod gather;
mod keep;
mod model;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod n_plus_one;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use perf_batch::{Loader, LoaderBuilder};
use tokio::sync::Semaphore;

/// A value: the n-th of its key, as the store had it at a version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Item {
    pub(crate) key: u32,
    pub(crate) n: u32,
    pub(crate) version: u32,
}

/// What a database would be. Key k has k % 4 items.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    queries: Mutex<Vec<Vec<u32>>>,
    version: Mutex<u32>,
    /// One permit for each query that may end.
    gate: Semaphore,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?})", self.queries())
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::with_gate(Semaphore::MAX_PERMITS)
    }

    /// Its queries wait until [`Store::open`] lets them end.
    pub(crate) fn closed() -> Self {
        Self::with_gate(0)
    }

    fn with_gate(permits: usize) -> Self {
        Self(Arc::new(Inner {
            queries: Mutex::default(),
            version: Mutex::default(),
            gate: Semaphore::new(permits),
        }))
    }

    pub(crate) fn open(&self, queries: usize) {
        self.0.gate.add_permits(queries);
    }

    /// The keys of each query so far.
    pub(crate) fn queries(&self) -> Vec<Vec<u32>> {
        self.0.queries.lock().unwrap().clone()
    }

    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// From now on queries find other items.
    pub(crate) fn write(&self) {
        *self.0.version.lock().unwrap() += 1;
    }

    pub(crate) async fn query(self, keys: Vec<u32>) -> Result<Vec<Item>, std::io::Error> {
        let version = *self.0.version.lock().unwrap();
        self.0.queries.lock().unwrap().push(keys.clone());
        self.0.gate.acquire().await.unwrap().forget();
        let items = keys
            .into_iter()
            .rev()
            .flat_map(|key| (0..key % 4).map(move |n| Item { key, n, version }));
        Ok(items.collect())
    }

    pub(crate) fn builder(&self) -> LoaderBuilder<u32, Item> {
        Loader::builder(self.clone(), Self::query)
    }

    pub(crate) fn loader(&self) -> Loader<u32, Item> {
        self.builder().key(|item: &Item| item.key).build()
    }
}

/// The number of items of each group, after a check that they are the key's.
pub(crate) fn sizes(keys: &[u32], groups: &[Vec<Arc<Item>>]) -> Vec<usize> {
    assert_eq!(keys.len(), groups.len());
    for (key, group) in keys.iter().zip(groups) {
        for (n, item) in group.iter().enumerate() {
            assert_eq!((item.key, item.n as usize), (*key, n));
        }
    }
    groups.iter().map(Vec::len).collect()
}

/// Polls the future so many times, other tasks in between; whether it was done by then.
pub(crate) async fn poll_times<F: Future + Unpin>(times: usize, future: &mut F) -> bool {
    for _ in 0..times {
        let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await;
        if poll.is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}
