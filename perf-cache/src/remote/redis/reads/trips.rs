//! Round trips.

use std::pin::pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Ask, Inner, MOST_AT_ONCE, Room};
use crate::remote::redis::lookup::{Answers, ask_plainly, ask_script};
use crate::remote::redis::request::Request;

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
        let mut room = queue.rooms.pop().unwrap_or_default();
        if queue.asks.len() <= MOST_AT_ONCE {
            std::mem::swap(&mut queue.asks, &mut room.asks);
        } else {
            room.asks.extend(queue.asks.drain(..MOST_AT_ONCE));
        }
        Some(Batch {
            room,
            by_script: queue.unsettled > 0.5,
        })
    }
}

/// What is sent at once.
pub(super) struct Batch<V> {
    pub(super) room: Room<V>,
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
        let Batch { room, by_script } = batch;
        let Room {
            mut asks,
            mut request,
            mut replies,
        } = room;
        asks.retain(|ask| !ask.is_given_up());
        // Those that ask again come first.
        let Some(since) = asks.first().map(|ask| ask.since) else {
            return;
        };
        for ask in &mut asks {
            ask.by_script |= by_script;
        }
        let (plain, script) = self.calls(&asks, &mut request);
        let server = &self.reader.server;
        let left = server.timeout.saturating_sub(since.elapsed());
        {
            let mut exchange = pin!(server.read(&request, &mut replies));
            match timeout(left, &mut exchange).await {
                Ok(Ok(())) => (),
                Ok(Err(_)) => return,
                Err(_) => {
                    // Some have waited for another trip before, and are not to wait longer. Whether the
                    // server is too slow is another matter.
                    drop(asks);
                    let _ = exchange.await;
                    return;
                }
            }
        }
        let mut answers = replies.values();
        let plain = Answers::plain(&mut answers, plain);
        let script = Answers::by_script(&mut answers, script);
        let (again, open) = self.settle_all(&mut asks, plain, script);
        let mut queue = self.queue();
        if !again.is_empty() {
            // They have waited longest.
            queue.asks.splice(..0, again);
        }
        queue.unsettled += (open - queue.unsettled) / 4.0;
        if !replies.is_large() && !request.is_large() {
            request.clear();
            queue.rooms.push(Room {
                asks,
                request,
                replies,
            });
        }
    }

    /// The calls for plain reads of so many names, and for so many by the script.
    fn calls(&self, asks: &[Ask<V>], request: &mut Request) -> (usize, usize) {
        let names = |by_script: bool| {
            let asks = asks.iter().filter(move |ask| ask.by_script == by_script);
            asks.flat_map(|ask| ask.names().iter().map(|name| (name.as_slice(), ask.lease)))
        };
        let plain = names(false).count();
        ask_plainly(
            request,
            &self.state,
            names(false).map(|(name, _)| name),
            plain,
        );
        let script: Vec<(&[u8], bool)> = names(true).collect();
        ask_script(request, &self.state, &script);
        (plain, script.len())
    }
}
