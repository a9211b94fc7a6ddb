//! The works that the benches measure, one module a crate, used by criterion and by `ratios` alike.
//!
//! A [`Group`] is one piece of work on one backend; its entries do the same work in different
//! ways: `ours`, one entry a peer named after the peer's crate, `naive` for what people write by
//! hand, and `floor` for the least that the machine allows.

pub mod batch;
pub mod cache;
mod group;
pub mod metrics;
pub mod pool;
mod program;
pub mod queue;
mod ratio;
pub mod shim;

pub use group::{Entry, Group, criterion_main};
pub use program::{Works, ratios_main};
pub use ratio::{Ratio, interval, measure, median};
