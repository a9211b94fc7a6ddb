//! Caches on a shared tier that is a fake, so that its faults come when a test wants them.

mod fake;
mod history;
mod shared;
