#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alerts;
mod budget;
mod clock;
mod dashboard;
pub mod history;
mod monitor;
mod recorder;
mod shard;
pub mod snapshot;
pub mod timing;

pub use alerts::AlertOptions;
pub use budget::{Budget, Limit, LimitReport, RouteReport, Thresholds, Verdict};
pub use monitor::{AlreadyInstalled, BuildError, Monitor, MonitorBuilder};
#[cfg(feature = "axum")]
pub use monitor::{
    CheckKind::{self, Liveness, Readiness},
    CheckOptions,
};
pub use recorder::MonitorRecorder;
pub use snapshot::Snapshot;
pub use timing::{RequestHead, TimingLayer};
