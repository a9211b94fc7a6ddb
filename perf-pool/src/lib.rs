#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod acquire;
mod adjust;
mod advice;
mod build_error;
mod builder;
mod config;
mod connect;
mod connect_error;
mod connection;
mod desk;
mod diagnosis;
mod driver;
mod error;
mod executor;
mod health;
mod holders;
mod hooks;
mod lifetimes;
mod maintenance;
mod metrics;
mod pace;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod profile;
mod settings;
mod slots;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod statements;
mod status;
mod supply;
mod thresholds;
mod transaction;
mod warm;
mod warm_up;

pub use advice::{Advice, Evidence, Verdict};
pub use build_error::BuildError;
pub use builder::PoolBuilder;
pub use config::{ConfigError, PoolConfig};
pub use connect_error::ConnectError;
pub use connection::PoolConnection;
pub use driver::Driver;
pub use error::{AcquireError, Phase, StillInUse};
pub use health::Health;
pub use holders::Holder;
pub use pool::Pool;
#[cfg(feature = "postgres")]
pub use postgres::{BudgetCheck, BudgetLimit, OverBudget, Pooler, PoolerError, PoolerStatements};
pub use profile::Profile;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqlitePools, SqlitePoolsBuilder};
pub use status::Status;
pub use transaction::Transaction;
