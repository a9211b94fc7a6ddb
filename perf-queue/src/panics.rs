//! Panics of the application's code that is not a handler: nothing of the queue's ends with them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code of the user's that is not a handler; `None` if it panics. A worker in the middle of
/// its bookkeeping must not end there: its job would count as running for ever.
#[inline]
pub(crate) fn contained<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Logs by the application's subscriber, which must take nothing along if it panics.
macro_rules! log {
    ($level:ident, $($what:tt)*) => {
        $crate::panics::contained(|| ::tracing::$level!($($what)*))
    };
}

pub(crate) use log;
