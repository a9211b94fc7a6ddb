use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The longest pause between attempts to listen again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Listens for notifications on a connection of its own, for as long as this value is there.
#[derive(Debug)]
pub(super) struct Listener {
    heard: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn spawn(pool: &PgPool, channel: Arc<str>) -> Self {
        let heard = Arc::new(Notify::new());
        // Not out of the caller's pool, which may be small: a listener would keep it for ever.
        let options = PgPool::clone(pool).connect_options().as_ref().clone();
        let own = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options);
        let task = tokio::spawn(listen(own, channel, Arc::clone(&heard)));
        Self { heard, task }
    }

    /// Returns at once where something was heard since the last time.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(pool: PgPool, channel: Arc<str>, heard: Arc<Notify>) {
    let mut pause = Duration::from_millis(50);
    loop {
        match attentive(&pool, &channel).await {
            Ok(mut listener) => {
                pause = Duration::from_millis(50);
                // What was said while nobody listened is lost, so that is news too.
                heard.notify_one();
                while let Ok(Some(_)) = listener.try_recv().await {
                    while listener.next_buffered().is_some() {}
                    heard.notify_one();
                }
                tracing::debug!(%channel, "the connection that listens is lost");
            }
            Err(error) => tracing::debug!(%channel, %error, "cannot listen"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn attentive(pool: &PgPool, channel: &str) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}
