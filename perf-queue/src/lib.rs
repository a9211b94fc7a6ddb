#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backend;
mod backoff;
mod builder;
mod dead;
mod error;
mod job;
mod job_error;
mod machine;
mod memory;
mod metrics;
mod panics;
mod queue;
mod rate;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod remote;
mod signals;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stats;
mod workers;

pub use backoff::Backoff;
pub use builder::QueueBuilder;
pub use dead::{DeadLetter, DeadLetters};
pub use error::{
    BackendError, BuildError, EnqueueBatchError, EnqueueError, ReplayError, TryEnqueueError,
};
pub use job::{EnqueueOptions, JobContext, JobId};
pub use job_error::{JobError, Scope};
pub use memory::Memory;
pub use queue::Queue;
pub use rate::Rate;
#[cfg(feature = "sqlite")]
pub use sqlite::{EnqueueInError, Sqlite};
pub use stats::Stats;
pub use workers::{Drain, Workers, WorkersBuilder};
