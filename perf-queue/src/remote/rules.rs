//! The rules of a queue that is being built.

use super::{Quota, Rules};
use crate::Rate;
use crate::backend::{Limits, Parts};

impl From<Rate> for Quota {
    fn from(rate: Rate) -> Self {
        let (quota, period, burst) = rate.parts();
        Self {
            quota,
            period,
            burst,
        }
    }
}

impl From<Limits> for Rules {
    fn from(limits: Limits) -> Self {
        Self {
            queue: limits.queue.map(Quota::from),
            key: limits.key.map(Quota::from),
            concurrency_per_key: limits.concurrency_per_key,
        }
    }
}

impl<T, K> Parts<T, K> {
    /// What is to be set when the queue is built: a builder that names no limit leaves those that are
    /// stored with the queue.
    pub(crate) fn rules(&self) -> Option<Rules> {
        let rules = Rules::from(self.limits);
        (rules != Rules::default()).then_some(rules)
    }
}
