use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError};
use redis::{RedisResult, ServerErrorKind};
use tokio::sync::Mutex;

use super::keys::Keys;
use super::script::Script;

/// A server on the same network answers in a few milliseconds, unless it is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A connection that is made anew after it was lost, by the next call.
///
/// redis-rs' own manager keeps a connection on which nothing answers any more, and retries to connect
/// by its own schedule; here a call that fails says so, and when to try again is its caller's matter.
pub(super) struct Connection {
    client: Client,
    address: String,
    config: AsyncConnectionConfig,
    response_timeout: Duration,
    current: Mutex<Current>,
    /// How many attempts to connect have failed.
    failures: AtomicU64,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// How many there have been.
    number: u64,
    /// Why the last attempt failed.
    failed: Option<RedisError>,
}

impl Connection {
    pub(super) fn new(client: Client, response_timeout: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN.min(response_timeout)))
            .set_response_timeout(Some(response_timeout));
        let info = client.get_connection_info();
        let address = format!("{}/{}", info.addr(), info.redis_settings().db());
        Self {
            client,
            address,
            config,
            response_timeout,
            current: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Host, port and database.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) const fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let (mut connection, number) = self.get().await?;
        let answer = command.query_async(&mut connection).await;
        if let Err(error) = &answer
            && is_lost(error)
        {
            self.drop_connection(number).await;
        }
        answer
    }

    /// Calls a script; `arguments` adds its arguments, about so many bytes.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &Keys,
        bytes: usize,
        arguments: impl Fn(&mut Cmd) + Send,
    ) -> RedisResult<T> {
        let mut call = script.by_hash(keys, bytes);
        arguments(&mut call);
        match self.query(&call).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut call = script.by_text(keys, bytes);
                arguments(&mut call);
                self.query(&call).await
            }
            answer => answer,
        }
    }

    async fn get(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        let failures = self.failures.load(Relaxed);
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((connection.clone(), current.number));
        }
        // Who has waited for an attempt that failed does not wait for one of its own: one by one, they
        // would wait for minutes for a server that is silent.
        if let Some(error) = &current.failed
            && self.failures.load(Relaxed) != failures
        {
            return Err(error.clone());
        }
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config)
            .await
            .inspect_err(|error| {
                current.failed = Some(error.clone());
                self.failures.fetch_add(1, Relaxed);
            })?;
        current.number += 1;
        current.connection = Some(connection.clone());
        Ok((connection, current.number))
    }

    async fn drop_connection(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.number == number {
            current.connection = None;
        }
    }
}

/// Whether the next call had better use another connection. A server that became a replica is another
/// one, after a failover, behind the same name.
fn is_lost(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::AuthenticationFailed
            | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}
