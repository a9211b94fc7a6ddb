use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code of the user's that is not a handler; `None` if it panics. A worker in the middle of
/// its bookkeeping must not end there: its job would count as running for ever.
pub(crate) fn contained<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
