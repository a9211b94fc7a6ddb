//! What a cache has of the connections to one server, and these connections, which caches share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, Pipeline, RedisError};
use redis::{RedisResult, ServerErrorKind, Value};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::dial::dial;
use super::lookup;
use super::reply::Replies;
use super::request::Request;
use super::script::{self, READ};
use super::wires::{AWAKE_EVERY, Taken, Wires};

/// What a handshake of TCP, TLS and the login may take; a server in the same data centre needs a
/// few milliseconds.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// A use of connections to one server, until something goes wrong on one of them.
#[derive(Clone)]
pub(super) struct Link {
    line: Arc<Line>,
    /// Cancelled when it is not to be used any more: whoever waits for an answer on it gives up.
    pub(super) broken: CancellationToken,
    why: Arc<OnceLock<Why>>,
    /// The sequence of the last invalidation that the server is known to have applied.
    told: Arc<AtomicU64>,
}

/// What moves the bytes of a connection. By itself it ends no earlier than all that was asked is sent, which is
/// never where the server reads no more.
type Driver = AbortOnDropHandle<()>;

/// Connections that several caches may use.
struct Line {
    connection: MultiplexedConnection,
    /// Ends with the line, also when what was asked by who gave up is not sent or answered.
    _driver: Option<Driver>,
    wires: Wires,
    /// Cancelled when it is of no use to anybody; so is each use of it then.
    broken: CancellationToken,
    why: OnceLock<Why>,
    /// It may be of no use, so nobody else is to begin with it.
    is_doubted: AtomicBool,
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
#[derive(Debug, Clone)]
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
    /// Connects and brings the scripts. There are no wires yet, of so many.
    pub(super) async fn open(
        client: &Client,
        wires: usize,
        within: Duration,
    ) -> Result<Self, Failure> {
        let opening = async {
            let (connection, driver, to) = connect(client).await?;
            let line = Line {
                connection,
                _driver: driver,
                wires: Wires::new(to, wires),
                broken: CancellationToken::new(),
                why: OnceLock::new(),
                is_doubted: AtomicBool::new(false),
            };
            let link = Self::of(Arc::new(line));
            link.query(&scripts()).await?;
            Ok::<_, RedisError>(link)
        };
        let opened = timeout(CONNECT_WITHIN.max(within), opening).await;
        opened
            .map_err(|_| Failure::TimedOut)?
            .map_err(Failure::Lost)
    }

    fn of(line: Arc<Line>) -> Self {
        Self {
            broken: line.broken.child_token(),
            why: Arc::default(),
            told: Arc::default(),
            line,
        }
    }

    /// Another use of the same connections. `None`: they may be of none.
    pub(super) fn another(&self) -> Option<Self> {
        let line = &self.line;
        let fit = !line.broken.is_cancelled() && !line.is_doubted.load(Ordering::Relaxed);
        fit.then(|| Self::of(Arc::clone(line)))
    }

    /// Sees whether the scripts run on the cache of this state.
    pub(super) async fn check(&self, state: &str, within: Duration) -> Result<(), Failure> {
        let mut check = redis::pipe();
        // Without keys, it does nothing but what every call does; a replica refuses it.
        check.add_command(READ.call(state.as_bytes(), std::iter::empty()));
        self.exchange(&check, within).await.map(drop)
    }

    /// Keeps the connections as they should be: those for reads are replaced when they are missing, and
    /// none is idle for so long that somebody closes it. Does not return.
    pub(super) async fn maintain(&self, state: &str, within: Duration) {
        tokio::join!(self.line.wires.mend(within), self.stay_awake(state, within));
    }

    async fn stay_awake(&self, state: &str, within: Duration) {
        loop {
            sleep(AWAKE_EVERY).await;
            // What becomes of it shows on the link.
            let _ = self.check(state, within).await;
        }
    }

    /// It is not to be used any more, here, and by nobody who comes later unless it is for lack of a
    /// permission.
    pub(super) fn give_up(&self) {
        if !matches!(self.why(), Some(Why::Forbidden(_))) {
            self.line.is_doubted.store(true, Ordering::Relaxed);
        }
        self.broken.cancel();
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
        let is_lost = matches!(&failure, Failure::Lost(error) if !is_answer(error));
        // Before it is broken, so that whoever hears of that finds it. The first one counts.
        if let Some(why) = Why::of(&failure) {
            let of = if is_lost { &self.line.why } else { &*self.why };
            let _ = of.set(why);
        }
        if is_lost {
            self.line.broken.cancel();
        } else {
            // Others may wait longer, or for another cache.
            self.give_up();
        }
        Err(failure)
    }

    /// What went wrong on it first, if anything did.
    pub(super) fn why(&self) -> Option<&Why> {
        self.why.get().or_else(|| self.line.why.get())
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

    /// The server has applied an invalidation, which got this sequence, of this process or another: no answer
    /// to what is read from now on has a lower one.
    pub(super) fn told(&self, sequence: u64) {
        self.told.fetch_max(sequence, Ordering::SeqCst);
    }

    /// As `bringing`, by a wire if there is one, unless that is behind what the server was told.
    ///
    /// This finds a wire that leads to another server as long as fewer invalidations were counted there.
    async fn reading(&self, request: &Request, replies: &mut Replies) -> RedisResult<()> {
        let told = self.told.load(Ordering::SeqCst);
        let mut behind = false;
        while let Some(mut wire) = self.line.wires.take() {
            match self.by_wire(&mut wire, request, replies).await {
                Ok(()) if lookup::sequence(replies).is_some_and(|sequence| sequence < told) => {
                    // Another server at the same address, or the state was lost: the other connection
                    // tells, and until it has, each read by a wire finds this.
                    behind = true;
                    break;
                }
                Ok(()) => {
                    wire.give_back();
                    return replies.check();
                }
                // It alone, unless another connection shows the same. To read again does no harm.
                Err(error) if error.is_io_error() => {
                    tracing::debug!(%error, "a connection for reads of the shared tier is lost");
                }
                Err(error) => return Err(error),
            }
        }
        *replies = self.bringing(&request.pipeline()?).await?.into();
        if behind {
            self.wire_was_behind(told, lookup::sequence(replies));
        }
        Ok(())
    }

    /// `sequence`: what the connection beside the wires answered after that.
    fn wire_was_behind(&self, told: u64, sequence: Option<u64>) {
        let sequence = sequence.unwrap_or_default();
        if sequence < told {
            tracing::debug!(told, sequence, "the shared tier has lost its state");
            // Unless it was told of another one meanwhile.
            let _ = self
                .told
                .compare_exchange(told, sequence, Ordering::SeqCst, Ordering::SeqCst);
        } else if self.line.wires.abolish() {
            tracing::warn!(
                "connections for reads of the shared tier lead to another server than the one that is told of \
                 invalidations: reads go without them until it is connected to again"
            );
        }
    }

    /// What the server answers, be it errors.
    async fn by_wire(
        &self,
        wire: &mut Taken<'_>,
        request: &Request,
        replies: &mut Replies,
    ) -> RedisResult<()> {
        wire.exchange(request, replies).await?;
        if replies.lacks_script() {
            self.query(&scripts()).await?;
            wire.exchange(request, replies).await?;
        }
        Ok(())
    }

    pub(super) fn wires(&self) -> &Wires {
        &self.line.wires
    }

    async fn query(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        commands
            .query_async(&mut self.line.connection.clone())
            .await
    }
}

/// A connection of the client's, what drives it, and where it leads; without these where the client alone knows how to
/// talk to the server.
async fn connect(
    client: &Client,
) -> RedisResult<(
    MultiplexedConnection,
    Option<Driver>,
    Option<ConnectionInfo>,
)> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let Some((socket, to)) = dial(client.get_connection_info()).await? else {
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        return Ok((connecting.await?, None, None));
    };
    let settings = to.redis_settings();
    let (connection, driver) =
        MultiplexedConnection::new_with_config(settings, socket, config).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(driver));
    Ok((connection, Some(driver), Some(to)))
}

/// Whether the server said so, on a connection that can be used.
fn is_answer(error: &RedisError) -> bool {
    error.clone().into_server_errors().is_some()
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
