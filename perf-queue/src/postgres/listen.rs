use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The longest pause between attempts to listen again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A connection on which nothing comes is silent whether it is broken or not: only asking tells.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Listens for notifications on a connection of its own, for as long as this value is there.
#[derive(Debug)]
pub(super) struct Listener {
    heard: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

impl Listener {
    /// Hears nothing, where the server's connections change hands: it would let others hear what it should.
    pub(super) fn deaf() -> Self {
        Self {
            heard: Arc::default(),
            task: None,
        }
    }

    pub(super) fn spawn(pool: &PgPool, channel: Arc<str>) -> Self {
        Self::pinging(pool, channel, PING_EVERY)
    }

    pub(super) fn pinging(pool: &PgPool, channel: Arc<str>, every: Duration) -> Self {
        let heard = Arc::new(Notify::new());
        // Not out of the caller's pool, which may be small: a listener would keep it for ever.
        let options = pool.connect_options();
        let task = tokio::spawn(listen(options, channel, every, Arc::clone(&heard)));
        Self {
            heard,
            task: Some(task),
        }
    }

    /// Returns at once where something was heard since the last time.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(
    options: Arc<PgConnectOptions>,
    channel: Arc<str>,
    every: Duration,
    heard: Arc<Notify>,
) {
    let mut pause = Duration::from_millis(50);
    loop {
        match timeout(every, attentive(&options, &channel)).await {
            Ok(Ok(listener)) => {
                pause = Duration::from_millis(50);
                // What was said while nobody listened is lost, so that is news too.
                heard.notify_one();
                hear(listener, &channel, every, &heard).await;
                tracing::debug!(%channel, "the connection that listens is lost");
            }
            Ok(Err(error)) => tracing::debug!(%channel, %error, "cannot listen"),
            Err(_) => tracing::debug!(%channel, "cannot listen: no answer"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Returns when the connection is lost.
async fn hear(mut listener: PgListener, channel: &str, every: Duration, heard: &Notify) {
    loop {
        match timeout(every, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {
                while listener.next_buffered().is_some() {}
                heard.notify_one();
            }
            Ok(_) => return,
            // To listen once more changes nothing.
            Err(_) => match timeout(every, listener.listen(channel)).await {
                Ok(Ok(())) => {}
                _ => return,
            },
        }
    }
}

/// By a pool for itself: a lost connection keeps its place in one until the system takes it for lost, too.
async fn attentive(options: &PgConnectOptions, channel: &str) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}
