//! Round trips.

use std::pin::pin;
use std::sync::Arc;

use redis::Pipeline;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Ask, Inner, MOST_AT_ONCE};
use crate::remote::redis::lookup::{Answers, ask_plainly, ask_script};

/// Round trips one after the other, as long as there are reads that wait.
pub(super) struct Trips<V> {
    pub(super) inner: Arc<Inner<V>>,
    pub(super) over: bool,
}

impl<V: DeserializeOwned + Send + Sync + 'static> Trips<V> {
    pub(super) async fn run(mut self) {
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
    pub(super) fn next(&mut self) -> Option<Batch<V>> {
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
pub(super) struct Batch<V> {
    pub(super) asks: Vec<Ask<V>>,
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

impl<V: DeserializeOwned + Send + Sync + 'static> Inner<V> {
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
        let plain = Answers::plain(&mut answers, plain);
        let script = Answers::by_script(&mut answers, script);
        let (again, open) = self.settle_all(asks, plain, script);
        let mut queue = self.queue();
        if !again.is_empty() {
            // They have waited longest.
            queue.asks.splice(..0, again);
        }
        queue.unsettled += (open - queue.unsettled) / 4.0;
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
}
