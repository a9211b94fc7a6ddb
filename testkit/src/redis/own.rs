use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use super::Redis;
use crate::postgres::blocking;
use crate::watchdog::Watched;

/// A Redis server of one test's own, from [`Redis::start`].
#[derive(Debug)]
pub struct OwnRedis {
    pub(super) redis: Redis,
}

impl OwnRedis {
    /// Stops the server as an administrator would: connections are closed, the append-only file is
    /// synced, and the port refuses connections when this returns. Does nothing where it is stopped.
    ///
    /// # Panics
    ///
    /// If the server's watchdog is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the stop goes on in the background.
    pub async fn stop(&self) {
        self.with_server("stop", |server| server.stop("TERM")).await;
    }

    /// Lets the server crash (`kill -9`); what it had answered is there after the next start. The port
    /// refuses connections when this returns.
    ///
    /// # Panics
    ///
    /// If the server's watchdog is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the crash goes on in the background.
    pub async fn crash(&self) {
        self.with_server("crash", |server| server.stop("KILL"))
            .await;
    }

    /// Stops the server where it runs and starts it again on the same port, so that
    /// [`Redis::url`] stays valid; returns when it takes connections.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the restart goes on in the background.
    pub async fn restart(&self) {
        self.with_server("restart", |server| {
            server.stop("TERM")?;
            server.relaunch()
        })
        .await;
    }

    /// The process id of the server, for tests that signal it themselves.
    pub fn pid(&self) -> u32 {
        self.server().map_or(0, |server| server.state().pid)
    }

    /// The directory with the server's files, its log (`log`).
    pub fn dir(&self) -> &Path {
        self.server().map_or(Path::new(""), Watched::dir)
    }

    fn server(&self) -> Option<&Watched> {
        self.redis.inner.server()
    }

    #[expect(clippy::panic, reason = "a test that lost its server has to fail")]
    async fn with_server(
        &self,
        what: &str,
        run: impl FnOnce(&Watched) -> Result<(), String> + Send + 'static,
    ) {
        let inner = Arc::clone(&self.redis.inner);
        let outcome = blocking(move || inner.server().map_or(Ok(()), run)).await;
        if let Err(why) = outcome {
            panic!("cannot {what} Redis: {why}");
        }
    }
}

impl Deref for OwnRedis {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}
