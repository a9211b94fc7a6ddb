#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod cache;
mod deferred;
mod error;
mod load;
mod meters;
mod sharded;
mod stats;
mod store;
mod table;

pub use builder::Builder;
pub use cache::Cache;
pub use error::{BuildError, LoadError};
pub use stats::Stats;
