use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use redis::aio::PubSub;
use redis::{Client, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::error::failed;

/// A connection on which nothing comes is silent whether it is broken or not: only asking tells.
const PING_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Listens to the other processes of the queue, on a connection of its own, for as long as it lives.
#[derive(Debug)]
pub(super) struct Wake {
    notify: Arc<Notify>,
    listener: JoinHandle<()>,
}

impl Wake {
    pub(super) fn listen(client: Client, channel: String) -> Self {
        let notify = Arc::new(Notify::new());
        let listener = tokio::spawn(listen(client, channel, Arc::clone(&notify)));
        Self { notify, listener }
    }

    /// Waits for the next message, or for one since the last call. Cancel safe: `Notify` hands what a
    /// dropped waiter got to the next.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(client: Client, channel: String, notify: Arc<Notify>) {
    let [shortest, longest] = RECONNECT_AFTER;
    let (mut pause, mut warned) = (shortest, false);
    loop {
        match timeout(ANSWER_WITHIN, subscribe(&client, &channel)).await {
            Ok(Ok(messages)) => {
                (pause, warned) = (shortest, false);
                // What came while there was no subscription is lost.
                notify.notify_one();
                hear(messages, &notify).await;
            }
            Ok(Err(error)) if !warned && !failed(error.clone()).is_retryable() => {
                warned = true;
                tracing::warn!(
                    %error,
                    channel,
                    "Redis does not let the queue listen: jobs of other processes are found once a \
                     second; allow the user SUBSCRIBE and PUBLISH on this channel"
                );
            }
            Ok(Err(_)) | Err(_) => {}
        }
        // Processes that lost the same server do not come back in step.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(longest);
    }
}

async fn subscribe(client: &Client, channel: &str) -> redis::RedisResult<PubSub> {
    let mut connection = client.get_async_pubsub().await?;
    connection.subscribe(channel).await?;
    Ok(connection)
}

/// Returns when the connection is lost.
async fn hear(connection: PubSub, notify: &Notify) {
    let (mut sink, mut messages) = connection.split();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut messages).poll_next(cx));
        match timeout(PING_EVERY, next).await {
            Ok(Some(_)) => notify.notify_one(),
            Ok(None) => return,
            Err(_) => match timeout(ANSWER_WITHIN, sink.ping::<Value>()).await {
                Ok(Ok(_)) => {}
                _ => return,
            },
        }
    }
}
