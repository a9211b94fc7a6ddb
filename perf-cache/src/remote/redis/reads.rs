//! Reads at the same time share round trips.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use redis::{FromRedisValue, Pipeline, Value};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::Token;
use super::keeper::LEASE;
use super::script::{MOST_KEYS, READ};
use super::server::Server;

/// Reads that wait to be sent; when there are as many, the next is refused: its caller loads.
const MOST_WAITING: usize = 10_000;
/// Reads that are sent at once, unless one alone has more keys.
const MOST_AT_ONCE: usize = 1_000;
/// Round trips at the same time: those that come meanwhile gather for the next.
const TRIPS: usize = 4;

/// What one call found.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    /// The sequence of invalidations, and of the last that was of everything.
    pub(super) sequence: u64,
    pub(super) all: u64,
    /// The time of the server, in milliseconds.
    pub(super) now: u64,
}

/// A lease of 16 bytes; if there is a value behind it, 8 of when it expires and its frame.
pub(super) type Found = (When, Option<Vec<u8>>);

/// Names of values to be read together.
struct Ask {
    names: Vec<Vec<u8>>,
    lease: bool,
    answer: oneshot::Sender<(Vec<Vec<u8>>, Vec<Found>)>,
}

/// Hands reads to the task that sends them.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    asks: mpsc::Sender<Ask>,
}

impl Reads {
    pub(super) fn start(
        server: &Arc<Server>,
        state: String,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (asks, waiting) = mpsc::channel(MOST_WAITING);
        let sender = Sender {
            server: Arc::clone(server),
            state: state.into(),
            tasks: tasks.clone(),
            trips: Arc::new(Semaphore::new(TRIPS)),
        };
        tasks.spawn(async move { stop.run_until_cancelled(sender.run(waiting)).await });
        Self { asks }
    }

    /// The names come back with what was found. `None`: it did not work.
    pub(super) async fn read(
        &self,
        names: Vec<Vec<u8>>,
        lease: bool,
    ) -> Option<(Vec<Vec<u8>>, Vec<Found>)> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            names,
            lease,
            answer,
        };
        self.asks.try_send(ask).ok()?;
        answered.await.ok()
    }
}

struct Sender {
    server: Arc<Server>,
    state: Arc<str>,
    tasks: TaskTracker,
    trips: Arc<Semaphore>,
}

impl Sender {
    async fn run(self, mut waiting: mpsc::Receiver<Ask>) {
        let mut asks = Vec::new();
        while waiting.recv_many(&mut asks, MOST_AT_ONCE).await > 0 {
            // Callers that are ready to run as well come along.
            tokio::task::yield_now().await;
            let trip = Arc::clone(&self.trips).acquire_owned().await;
            while asks.len() < MOST_AT_ONCE {
                let Ok(ask) = waiting.try_recv() else { break };
                asks.push(ask);
            }
            let asks = std::mem::take(&mut asks);
            let server = Arc::clone(&self.server);
            let state = Arc::clone(&self.state);
            self.tasks.spawn(async move {
                round_trip(&server, &state, asks).await;
                drop(trip);
            });
        }
    }
}

/// Those whose answers are dropped know that it did not work.
async fn round_trip(server: &Server, state: &str, mut asks: Vec<Ask>) {
    asks.retain(|ask| !ask.answer.is_closed());
    if asks.is_empty() {
        return;
    }
    let Ok(answers) = server.exchange(&calls(state, &asks)).await else {
        return;
    };
    let mut found = answers.into_iter().flat_map(read);
    for ask in asks {
        let answer: Vec<Found> = found.by_ref().take(ask.names.len()).collect();
        if answer.len() == ask.names.len() {
            // Or the caller is gone.
            let _ = ask.answer.send((ask.names, answer));
        }
    }
}

fn calls(state: &str, asks: &[Ask]) -> Pipeline {
    let names = asks.iter().flat_map(|ask| {
        let names = ask.names.iter();
        names.map(move |name| (name.as_slice(), ask.lease))
    });
    let names: Vec<(&[u8], bool)> = names.collect();
    let mut calls = redis::pipe();
    for names in names.chunks(MOST_KEYS) {
        let mut call = READ.call(state.as_bytes(), names.iter().map(|(name, _)| *name));
        let flags: Vec<u8> = names
            .iter()
            .map(|(_, lease)| b'0' + u8::from(*lease))
            .collect();
        // The scripts add the number of the key.
        call.arg(LEASE.as_millis() as u64).arg(&token()[..12]);
        call.arg(flags);
        calls.add_command(call);
    }
    calls
}

/// No two are the same, in whatever processes: SipHash under a key of the system's randomness.
pub(super) fn token() -> Token {
    let random = RandomState::new();
    let [left, right] = [0_u8, 1].map(|half| random.hash_one(half));
    (u128::from(left) << 64 | u128::from(right)).to_be_bytes()
}

/// What one call answered; nothing if that is not what it was to answer.
fn read(answer: Value) -> Vec<Found> {
    type Answer = (String, String, String, Vec<Option<Vec<u8>>>);
    let Ok((sequence, all, now, found)) = Answer::from_redis_value(answer) else {
        return Vec::new();
    };
    let (Ok(sequence), Ok(all), Ok(now)) = (sequence.parse(), all.parse(), now.parse()) else {
        return Vec::new();
    };
    let when = When { sequence, all, now };
    found.into_iter().map(|value| (when, value)).collect()
}
