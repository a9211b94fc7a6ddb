//! What the conductor and its two children tell each other, one JSON value a line.

use serde::{Deserialize, Serialize};

use crate::api::Message;

/// From the conductor to the service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ServiceCommand {
    /// The rush begins: count from here.
    Begin,
    /// The rush is over: report the figures.
    End,
}

/// From the service to the conductor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ServiceEvent {
    /// Serving at this address, `http://host:port`.
    Ready(String),
    /// Counting.
    Begun,
    /// What was counted.
    Figures(ServiceFigures),
}

/// What the service measured of itself between `Begin` and `End`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceFigures {
    /// Transactions that SQLite's commit hook saw.
    pub(crate) commits: u64,
    /// Statements in sqlx's statement log.
    pub(crate) queries: u64,
    /// Processor time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Wall time, in seconds.
    pub(crate) seconds: f64,
    /// Largest resident memory seen, in bytes.
    pub(crate) peak_memory_bytes: u64,
    /// Most connections in use at once, sampled every 5 ms.
    pub(crate) peak_connections: u32,
    /// Connections that the pools may open.
    pub(crate) max_connections: u32,
    /// Reads that a cache answered, and all reads of a cache; nothing without a cache.
    pub(crate) cache: Option<CacheReads>,
}

/// How often a cache was asked, and how often it knew.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct CacheReads {
    pub(crate) hits: u64,
    pub(crate) reads: u64,
}

/// From the conductor to the crowd.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum CrowdCommand {
    /// Complete the quiet quiz at this service a few times, with nobody else there.
    Quiet(String),
    /// All users complete at the same time.
    Rush,
    /// Report every message that has arrived since the rush began.
    Arrivals,
}

/// From the crowd to the conductor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum CrowdEvent {
    /// The messenger listens at this address, `http://host:port`.
    Ready(String),
    /// Seconds that each completion took alone.
    Quiet(Vec<f64>),
    /// How far the rush is.
    Progress(Progress),
    /// The rush is over.
    Done(Box<CrowdFigures>),
    /// Every message that the messenger accepted, in order of arrival.
    Arrivals(Vec<Arrival>),
}

/// How far the rush is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) seconds: f64,
    pub(crate) saved: usize,
    pub(crate) messages: usize,
    pub(crate) refused: u64,
    pub(crate) leaderboards: u64,
}

/// What the users and the messenger saw; all times in seconds since the rush began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CrowdFigures {
    /// One entry a user.
    pub(crate) users: Vec<UserFigures>,
    /// Calls that the messenger refused with 429.
    pub(crate) refused: u64,
    /// Every answered request for the leaderboard.
    pub(crate) leaderboards: Vec<Request>,
    /// Requests for the leaderboard that failed.
    pub(crate) leaderboard_failures: u64,
    /// Completions that failed and were sent again.
    pub(crate) completion_failures: u64,
}

/// What became of one user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UserFigures {
    pub(crate) user_id: i64,
    /// When the completion was sent.
    pub(crate) sent: f64,
    /// When the service had confirmed it; nothing if it never did.
    pub(crate) saved: Option<f64>,
    /// When the user's last message arrived; nothing if it never did.
    pub(crate) last_message: Option<f64>,
}

/// A message at the messenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) at: f64,
    pub(crate) message: Message,
}

/// A request and what it took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) at: f64,
    pub(crate) seconds: f64,
}
