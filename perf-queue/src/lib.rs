#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backend;
mod backoff;
mod builder;
mod crew;
mod dead;
mod error;
mod job;
mod job_error;
mod machine;
mod memory;
mod metrics;
#[cfg(test)]
mod model;
mod panics;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod rate;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod remote;
mod room;
mod signals;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod transaction;
mod workers;

pub use backend::QueueBackend;
pub use backoff::Backoff;
pub use builder::QueueBuilder;
pub use dead::{DeadLetter, DeadLetters, Undecodable};
pub use error::{
    BackendError, BuildError, EnqueueBatchError, EnqueueError, ReplayError, TryEnqueueError,
};
pub use job::{EnqueueOptions, JobContext, JobId};
pub use job_error::{JobError, Scope};
pub use memory::Memory;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use queue::Queue;
pub use rate::{Rate, RatePerKey};
#[cfg(feature = "redis")]
pub use redis::Redis;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
pub use stats::Stats;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use transaction::{Connection, EnqueueInError, InTransaction};
pub use workers::{Drain, Failed, Handler, Run, Running, Workers, WorkersBuilder};
