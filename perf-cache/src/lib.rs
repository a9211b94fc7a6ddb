#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod bulk;
mod cache;
mod clock;
mod core;
mod deferred;
mod engine;
mod entry;
mod error;
mod flight;
mod get;
mod guard;
mod land;
mod load;
mod many;
mod meters;
mod policy;
#[cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "a shared tier is behind a feature")
)]
mod remote;
mod sharded;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod watch;

pub use builder::Builder;
pub use cache::Cache;
pub use engine::Engine;
pub use error::{BuildError, CacheError, LoadError};
pub use policy::RefreshAhead;
pub use remote::Invalidation;
#[cfg(feature = "redis")]
pub use remote::redis::{Codec, ConnectError, RedisBus, RedisTier};
pub use stats::Stats;
pub use value::{LoadContext, Previous, Value};
