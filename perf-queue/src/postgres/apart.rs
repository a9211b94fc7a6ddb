use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::remote::{Ended, Granted, How, Want};

/// Fewer ends are not worth a commit of their own.
const AT_LEAST: usize = 100;

/// Whether ends may be told to one process of the server while another leases jobs: where what ended holds
/// nothing back, the second needs not wait for the first.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// A job with a key was leased here, so one may be among those that ended, and hold back others of its key.
    keyed: AtomicBool,
    /// What was leased last has no slots. With limits, exchanges wait for each other.
    free: AtomicBool,
}

impl Apart {
    /// Of these ends beside this claim. What goes back into the queue must be there when the claim says
    /// when to ask again.
    pub(super) fn may(&self, ended: &[Ended], want: Want) -> bool {
        want.jobs > 0
            && ended.len() >= AT_LEAST
            && self.free.load(Relaxed)
            && !self.keyed.load(Relaxed)
            && ended.iter().all(|ended| ended.how == How::Done)
    }

    /// These jobs were leased.
    pub(super) fn note(&self, granted: &[Granted]) {
        if granted.iter().any(|job| !job.key.is_empty()) {
            self.keyed.store(true, Relaxed);
        }
        let free = !granted.is_empty() && granted.iter().all(|job| !job.limited);
        self.free.store(free, Relaxed);
    }

    /// The next ends go with the next claim.
    pub(super) fn join(&self) {
        self.free.store(false, Relaxed);
    }
}
