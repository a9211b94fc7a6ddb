//! The works of perf-batch.

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::Group;

/// The groups of perf-batch.
pub fn groups(_rt: &Arc<Runtime>) -> Vec<Group> {
    Vec::new()
}
