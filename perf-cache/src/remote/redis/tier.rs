use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, ErrorKind, RedisError};
use tokio::time::{Instant, timeout_at};

use super::error::ConnectError;
use super::frame::Codec;
use super::link::{CONNECT_WITHIN, Failure, Link, has_code};
use super::links::Links;
use super::reads::TRIPS;

/// A tier in Redis that processes share: Redis 7 or newer, or Valkey.
///
/// Any process with the same prefix and cache name has the same values there. A server that evicts
/// keys does no harm, nor does one that forgets them: what is lost is loaded again. While it cannot
/// be used the cache goes on without it; see [`timeout`](Self::timeout).
///
/// All keys of a cache carry one hash tag, so a cluster keeps them on one node; give the URL of that
/// node.
///
/// It has three connections, two of them for reads alone, and each cache with a [`RedisBus`] one more.
/// Those for reads may be missing, as where the server takes no more clients: reads go over the first one
/// then, which takes longer, and the others are made as soon as that works. To a server by TLS, for which
/// your application switches on a feature of the crate `redis`, there is but the first. A clone is the same
/// connections, which several caches may use; when they are lost, one of these makes others for all. A cache
/// for which the server was too slow, as others of other [`timeout`](Self::timeout)s may not think, makes its
/// own.
#[derive(Clone)]
pub struct RedisTier {
    pub(super) links: Arc<Links>,
    pub(super) ttl: Duration,
    pub(super) compress_above: Option<usize>,
    pub(super) codec: Codec,
    pub(super) prefix: String,
    pub(super) timeout: Duration,
}

impl RedisTier {
    /// Connects to the server at `url`: `redis://[user:password@]host[:port][/database]`, or
    /// `redis+unix:///path`. When a connection is lost later, others are made in the background.
    ///
    /// What the user must be allowed to do stands in the [crate's docs](crate#redis). One who lacks some of it
    /// is named in a warning when that is missed, and the cache goes on without the tier.
    ///
    /// # Errors
    ///
    /// When there is no connection within a second, or the server cannot be used. An application
    /// that is to start without Redis goes on without the tier then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is left.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        let client = Client::open(url.as_ref()).map_err(|source| ConnectError::Url {
            source: Arc::new(source),
        })?;
        // Has no user, password or database.
        let address = client.get_connection_info().addr().to_string();
        let began = Instant::now();
        let link = Link::open(&client, TRIPS, CONNECT_WITHIN)
            .await
            .map_err(|failure| connect_error(address, failure))?;
        // Those that are missing then are opened when a cache uses it.
        let _ = timeout_at(began + CONNECT_WITHIN, link.wires().open()).await;
        Ok(Self {
            links: Arc::new(Links::new(client, TRIPS, link)),
            ttl: Duration::from_secs(15 * 60),
            compress_above: None,
            codec: Codec::default(),
            prefix: "perf-cache".to_owned(),
            timeout: Duration::from_millis(100),
        })
    }

    /// How long Redis keeps a value, unless the value's own time to live is shorter. Also the
    /// longest that a stale value can be served from there after a failover that lost an
    /// invalidation. With zero, nothing is put there. Defaults to 15 minutes.
    #[must_use]
    pub const fn time_to_live(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Compresses values that have more than `bytes`, by zstd at its usual level. Defaults to never.
    #[must_use]
    pub const fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = Some(bytes);
        self
    }

    /// How values are written. Defaults to [`Codec::Postcard`].
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// What the names of all keys in Redis start with, after a brace: caches of the same name and
    /// prefix are the same cache. Defaults to `perf-cache`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long to wait for an answer. When one does not come in time, or the connection is lost,
    /// the cache does without the tier at once, for all keys, until a connection that is made in the
    /// background works. So a server that is down costs this time once. Defaults to 100 ms; with zero
    /// `build` says [`BuildError::NoTime`](crate::BuildError::NoTime).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What is set to zero and must not be.
    pub(crate) fn without_time(&self) -> Option<&'static str> {
        self.timeout.is_zero().then_some("RedisTier::timeout")
    }
}

fn connect_error(address: String, failure: Failure) -> ConnectError {
    let error = match failure {
        Failure::TimedOut | Failure::Broken => {
            return ConnectError::TimedOut {
                address,
                after: CONNECT_WITHIN,
            };
        }
        Failure::Lost(error) | Failure::Refused(error) => error,
    };
    let source = Arc::new(error);
    if is_refused(&source) {
        ConnectError::Refused { address, source }
    } else if matches!(source.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
        ConnectError::Unfit { address, source }
    } else {
        ConnectError::Unreachable { address, source }
    }
}

fn is_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || has_code(error, &["NOAUTH", "WRONGPASS", "NOPERM"])
}

/// Without the URL, which may hold a password.
impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("time_to_live", &self.ttl)
            .field("compress_above", &self.compress_above)
            .field("codec", &self.codec)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Tells processes that share a tier of each other's invalidations, within milliseconds.
///
/// A message that is lost, with a connection or whatever else, is noticed: a process that cannot be
/// sure to have heard everything until a moment ago goes back to Redis for all keys that it has in
/// memory longer than that. So what it serves is never older than the last invalidation by more than
/// the heartbeat and the timeout together, or the time to live in memory, whichever is shorter.
#[derive(Debug, Clone)]
pub struct RedisBus {
    pub(super) heartbeat: Duration,
    pub(super) timeout: Duration,
}

impl RedisBus {
    /// A bus with the defaults.
    pub const fn new() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
        }
    }

    /// How often it is checked that nothing was missed: two round trips. Defaults to 1 s; with zero
    /// `build` says [`BuildError::NoTime`](crate::BuildError::NoTime).
    #[must_use]
    pub const fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// How long a check may take before something counts as missed. Defaults to 500 ms; with zero
    /// `build` says [`BuildError::NoTime`](crate::BuildError::NoTime).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest that an invalidation whose message is lost can go unnoticed.
    pub(crate) const fn bound(&self) -> Duration {
        self.heartbeat.saturating_add(self.timeout)
    }

    /// What is set to zero and must not be.
    pub(crate) fn without_time(&self) -> Option<&'static str> {
        if self.heartbeat.is_zero() {
            Some("RedisBus::heartbeat")
        } else {
            self.timeout.is_zero().then_some("RedisBus::timeout")
        }
    }
}

impl Default for RedisBus {
    fn default() -> Self {
        Self::new()
    }
}
