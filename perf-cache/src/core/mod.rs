//! What keeps stale values out, apart from what entries are and where they are kept.
//!
//! Self-contained, and on the primitives of `sync` alone, so that the test `model` can run these
//! very files under a scheduler that tries their interleavings.

pub(crate) mod flights;
#[cfg(test)]
mod tests;
pub(crate) mod versions;

mod sync {
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}
