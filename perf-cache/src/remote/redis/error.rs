use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;

/// What the user of the tier and its bus must be allowed to do, as Redis' ACLs say it. The last line is
/// what the scripts do beside the plain reads.
pub(super) const NEEDED: &str = "+evalsha +script|load +hmget +persist +time +mget \
    +subscribe +ping \
    +hset +hget +hincrby +hlen +del +set +getrange +pexpire +unlink +publish";

/// Why a [`RedisTier`](crate::RedisTier) has no connection. None of the messages has the password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one of a Redis server's.
    #[error("not the URL of a Redis server: take redis://[user:password@]host[:port][/database]")]
    Url {
        /// What is wrong with it.
        source: Arc<RedisError>,
    },
    /// Nobody answers, or not as Redis does.
    #[error("no connection to Redis at {address}: check the address, and that the server runs")]
    Unreachable {
        /// The server's address.
        address: String,
        /// What happened.
        source: Arc<RedisError>,
    },
    /// Nobody answers in time.
    #[error("no answer of Redis at {address} within {after:?}: check the address and the network")]
    TimedOut {
        /// The server's address.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server does not take the user and password, or does not let the user do what the cache
    /// needs.
    #[error(
        "Redis at {address} refuses this user: check the user and password of the URL, and that its \
         ACL is no less than `{NEEDED}`, with `~{{prefix:*` for the keys and `&{{prefix:*` for the channels"
    )]
    Refused {
        /// The server's address.
        address: String,
        /// What the server says.
        source: Arc<RedisError>,
    },
    /// The server cannot do what the cache needs.
    #[error(
        "Redis at {address} cannot keep a cache: take a primary of version 7 or newer, or Valkey"
    )]
    Unfit {
        /// The server's address.
        address: String,
        /// What the server says.
        source: Arc<RedisError>,
    },
}
