//! What [`Room`](crate::room::Room) is made of. Its model has other primitives.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, PoisonError};

pub(crate) use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError};
pub(crate) use tokio::task::consume_budget;
