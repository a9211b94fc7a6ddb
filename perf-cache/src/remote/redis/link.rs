use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, Pipeline, RedisError, RedisResult};
use redis::{ServerErrorKind, Value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::reply::Replies;
use super::request::Request;
use super::script::{self, READ};
use super::wire::{self, Wires};

/// What a handshake of TCP, TLS and the login may take; a server in the same data centre needs a
/// few milliseconds.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Connections, until something goes wrong on one of them.
#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// Cancelled when it is not to be used any more: whoever waits for an answer on it gives up.
    pub(super) broken: CancellationToken,
    why: Arc<OnceLock<Why>>,
    /// For reads.
    wires: Arc<Mutex<Wires>>,
}

/// Why a link is of no use any more.
#[derive(Debug, Clone)]
pub(super) enum Why {
    /// The user may not do what the server says.
    Forbidden(String),
    Other(String),
}

impl Why {
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        match failure {
            Failure::Lost(error) if is_forbidden(error) => Some(Self::Forbidden(error.to_string())),
            Failure::Lost(error) | Failure::Refused(error) => Some(Self::Other(error.to_string())),
            Failure::TimedOut => Some(Self::Other("no answer in time".to_owned())),
            Failure::Broken => None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The link is of no use any more.
    Lost(RedisError),
    /// The server does not want to do this now, and answers.
    Refused(RedisError),
    TimedOut,
    /// The link had been given up meanwhile.
    Broken,
}

impl Link {
    /// Connects, for reads by so many wires, brings the scripts, and sees whether they run on the cache of
    /// this state, each in its time.
    pub(super) async fn open(
        client: &Client,
        wires: usize,
        within: Duration,
        state: Option<&str>,
    ) -> Result<Self, Failure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connecting = wire::open(client, wires, &config);
        let (connection, wires) = timeout(CONNECT_WITHIN.max(within), connecting)
            .await
            .map_err(|_| Failure::TimedOut)?
            .map_err(Failure::Lost)?;
        let link = Self {
            connection,
            broken: CancellationToken::new(),
            why: Arc::default(),
            wires: Arc::new(Mutex::new(wires)),
        };
        let mut brought = scripts();
        if let Some(state) = state {
            // Without keys, it does nothing but what every call does; a replica refuses it.
            brought.add_command(READ.call(state.as_bytes(), std::iter::empty()));
        }
        match timeout(within, link.query(&brought)).await {
            Ok(answer) => answer.map(|_| link).map_err(Failure::Lost),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    /// Sends all commands at once and waits for their answers, one for each.
    pub(super) async fn exchange(
        &self,
        commands: &Pipeline,
        within: Duration,
    ) -> Result<Vec<Value>, Failure> {
        self.watched(within, self.bringing(commands)).await
    }

    /// The same by who reads often, without a task between, where that is possible.
    pub(super) async fn read(
        &self,
        request: &Request,
        replies: &mut Replies,
        within: Duration,
    ) -> Result<(), Failure> {
        self.watched(within, self.reading(request, replies)).await
    }

    async fn watched<T>(
        &self,
        within: Duration,
        exchange: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Failure> {
        let answer = tokio::select! {
            biased;
            () = self.broken.cancelled() => return Err(Failure::Broken),
            answer = timeout(within, exchange) => answer,
        };
        let failure = match answer {
            Ok(Ok(answers)) => return Ok(answers),
            // The server has no room for values, and all else goes on.
            Ok(Err(error)) if has_code(&error, &["OOM"]) => return Err(Failure::Refused(error)),
            Ok(Err(error)) => Failure::Lost(error),
            Err(_) => Failure::TimedOut,
        };
        // Before it is broken, so that whoever hears of that finds it. The first one counts.
        if let Some(why) = Why::of(&failure) {
            let _ = self.why.set(why);
        }
        self.broken.cancel();
        Err(failure)
    }

    /// What went wrong on it first, if anything did.
    pub(super) fn why(&self) -> Option<&Why> {
        self.why.get()
    }

    /// Brings the scripts if the server has forgotten them.
    async fn bringing(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self.query(commands).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&scripts()).await?;
                self.query(commands).await
            }
            answer => answer,
        }
    }

    /// As `bringing`.
    async fn reading(&self, request: &Request, replies: &mut Replies) -> RedisResult<()> {
        let wire = self.wires().take();
        let Some(mut wire) = wire else {
            *replies = self.bringing(&request.pipeline()?).await?.into();
            return Ok(());
        };
        wire.exchange(request, replies).await?;
        let mut checked = replies.check();
        if let Err(error) = &checked
            && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        {
            self.query(&scripts()).await?;
            wire.exchange(request, replies).await?;
            checked = replies.check();
        }
        self.wires().give_back(wire);
        checked
    }

    pub(super) fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn query(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        commands.query_async(&mut self.connection.clone()).await
    }
}

/// Whether the user may not do that; of a command in a script the server says so in words alone.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    let says = |error: &redis::ServerError| {
        let details = error.details().unwrap_or_default();
        error.code() == "NOPERM" || details.contains("The user executing the script")
    };
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| says(error)))
}

fn scripts() -> Pipeline {
    let mut load = redis::pipe();
    for script in script::all() {
        load.add_command(script.load()).ignore();
    }
    load
}

/// Whether the first command that failed did with one of these codes; `RedisError::code` does not
/// tell for pipelines.
pub(super) fn has_code(error: &RedisError, codes: &[&str]) -> bool {
    let errors = error.clone().into_server_errors();
    let first = errors.as_ref().and_then(|errors| errors.first());
    first.is_some_and(|(_, error)| codes.contains(&error.code()))
}
