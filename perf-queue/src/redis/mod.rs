//! Jobs in Redis. Each verb is one script, so one trip and atomic; see `lua/state.lua` for how the
//! jobs are kept.

mod connection;
mod error;
mod exchange;
mod fit;
mod keys;
mod open;
mod packs;
mod remote;
mod rules;
mod script;
#[cfg(test)]
mod tests;
mod wake;
mod wire;

use std::fmt;
use std::time::Duration;

use crate::BuildError;
#[cfg(test)]
pub(crate) use remote::RedisRemote;

const BACKEND: &str = "Redis";

/// The Redis backend, for any number of processes: Redis 7 or newer, or Valkey.
///
/// The queue is as durable as the server. One that may evict keys, or that forgets them when it
/// restarts, is refused unless [`allow_data_loss`](Self::allow_data_loss) accepts it. With snapshots
/// alone (`save`), a server that crashes loses what came after the last; `appendonly yes` with
/// `appendfsync everysec` loses a second, with `always` nothing. A failover to a replica may lose
/// what was not replicated yet. With jobs, such a server forgets which of them it had granted, so that the
/// windows of limits which were open then may hold more; a process that finds the limits themselves
/// gone sets them again, as it was built and has set them since, before it takes a job.
///
/// All keys of a queue carry one hash tag, so a cluster keeps them on one node; give the URL of that
/// node.
#[derive(Clone)]
pub struct Redis {
    url: String,
    prefix: String,
    capacity: usize,
    dead_letters: usize,
    response_timeout: Duration,
    data_loss_allowed: bool,
}

impl Redis {
    /// The server at `url`: `redis://[user:password@]host[:port][/database]`, or
    /// `redis+unix:///path`. The connection is made when the queue is built, and again whenever it is
    /// lost.
    pub fn connect(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "perf-queue".to_owned(),
            capacity: 100_000,
            dead_letters: 1_000,
            response_timeout: Duration::from_secs(5),
            data_loss_allowed: false,
        }
    }

    /// Holds up to `jobs` jobs, over all processes, those that run among them. When it is full,
    /// [`enqueue`](crate::Queue::enqueue) waits and [`try_enqueue`](crate::Queue::try_enqueue) gives
    /// the job back. Each process goes by its own setting. Defaults to 100,000.
    #[must_use]
    pub const fn capacity(mut self, jobs: usize) -> Self {
        self.capacity = jobs;
        self
    }

    /// Keeps up to `letters` dead letters, beside the queue's own bound. When there are more, the
    /// oldest is dropped, logged and counted; 0 keeps none. Defaults to 1,000.
    #[must_use]
    pub const fn dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }

    /// What the names of all keys in Redis start with, after a brace: queues of the same name and
    /// prefix are the same queue. Defaults to `perf-queue`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long to wait for an answer, or for a connection, before it counts as lost. What became of the
    /// request is unknown then: a batch may be in the queue all the same, and trying again does not
    /// add it twice; jobs that were handed out run again when their lease ends. Defaults to 5 s.
    #[must_use]
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Takes a server that may evict jobs when its memory is full, or forgets them when it restarts,
    /// with a warning in the log. Defaults to an error,
    /// [`BackendError::Unfit`](crate::BackendError::Unfit).
    #[must_use]
    pub const fn allow_data_loss(mut self) -> Self {
        self.data_loss_allowed = true;
        self
    }
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        // The number of jobs has to be exact as a number of Lua.
        let max = u32::MAX as usize;
        if self.capacity == 0 || self.capacity > max {
            return Err(BuildError::Bound {
                option: "Redis::capacity",
                value: self.capacity,
                max,
            });
        }
        Ok(())
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("prefix", &self.prefix)
            .field("capacity", &self.capacity)
            .field("dead_letters", &self.dead_letters)
            .field("response_timeout", &self.response_timeout)
            .field("data_loss_allowed", &self.data_loss_allowed)
            .finish_non_exhaustive()
    }
}
