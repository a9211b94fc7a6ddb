//! The works of perf-queue.

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::Group;

/// The groups of perf-queue.
pub fn groups(_rt: &Arc<Runtime>) -> Vec<Group> {
    Vec::new()
}
