//! The layer that times requests, and the service, future and body that it wraps around yours.
//!
//! A request is counted when the service is called, and ends in exactly one of these ways, whatever
//! becomes of it:
//!
//! | end | counted in |
//! |---|---|
//! | the body was handed over to its last byte | `http_server_response_duration_seconds` |
//! | the future was dropped before it had headers: the client hung up, or a timeout outside fired | `http_server_requests_aborted_total{phase="headers", reason="dropped"}` |
//! | the service panicked before it had headers | `..{phase="headers", reason="panic"}` |
//! | the service returned `Err` | `..{phase="headers", reason="error"}` |
//! | the body was dropped before its end | `..{phase="body", reason="dropped"}` |
//! | the body panicked | `..{phase="body", reason="panic"}` |
//! | the body returned an error | `..{phase="body", reason="error"}` |
//!
//! Until then it is in `http_server_active_requests`. One guard does this: the future owns it, and
//! hands it to the body; what is not told to the guard is recorded when it is dropped.

mod body;
mod cells;
mod exclude;
mod future;
mod grpc;
mod guard;
mod label;
mod layer;
mod names;
mod patience;
#[cfg(feature = "axum")]
mod pins;
mod routes;
mod running;
mod series;
mod service;
mod slow;
mod source;
mod table;
mod upgraded;
mod watchdog;

pub use body::TimedBody;
pub use exclude::InvalidPattern;
pub use future::ResponseFuture;
pub use label::RequestHead;
pub use layer::TimingLayer;
pub use service::Timing;
pub use upgraded::UpgradedConnection;
pub use watchdog::RunningRequest;

pub(crate) use label::METHODS;
pub(crate) use names::*;
pub(crate) use patience::Patience;
