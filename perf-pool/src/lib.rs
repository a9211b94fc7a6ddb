#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod acquire;
mod build_error;
mod builder;
mod connect;
mod connect_error;
mod connection;
mod diagnosis;
mod error;
mod executor;
mod hooks;
mod metrics;
mod observer;
mod pool;
mod profile;
#[cfg(feature = "sqlite")]
mod sqlite;
mod status;
mod transaction;
mod warm_up;

pub use build_error::BuildError;
pub use builder::PoolBuilder;
pub use connect_error::ConnectError;
pub use connection::PoolConnection;
pub use error::{AcquireError, Phase};
pub use pool::Pool;
pub use profile::Profile;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqlitePools, SqlitePoolsBuilder};
pub use status::Status;
pub use transaction::Transaction;
