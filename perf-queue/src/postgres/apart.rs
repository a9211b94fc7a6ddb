use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::remote::{Ended, Granted, How, Want};

/// Fewer ends are not worth a commit of their own.
const AT_LEAST: usize = 100;

/// How long the server may take for ends, and for the connection that they are told on, since the jobs that were
/// leased meanwhile wait for that: many times what it takes where all is well.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// For how long ends go with the claims after that has failed, so that workers wait for it for a small
/// part of the time.
const TOGETHER: Duration = Duration::from_secs(10);

/// Whether ends may be told to one process of the server while another leases jobs: where what ended holds
/// nothing back, the second needs not wait for the first.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// A job with a key was leased here, so one may be among those that ended, and hold back others of its key.
    keyed: AtomicBool,
    /// What was leased last has no slots. With limits, exchanges wait for each other.
    free: AtomicBool,
    /// The second connection failed a moment ago.
    together_until: Mutex<Option<Instant>>,
}

impl Apart {
    /// Of these ends beside this claim. What goes back into the queue must be there when the claim says
    /// when to ask again.
    pub(super) fn may(&self, ended: &[Ended], want: Want) -> bool {
        want.jobs > 0
            && ended.len() >= AT_LEAST
            && self.free.load(Relaxed)
            && !self.keyed.load(Relaxed)
            && self.lock().is_none_or(|until| until <= Instant::now())
            && ended.iter().all(|ended| ended.how == How::Done)
    }

    /// These jobs were leased. Whether the next ends may be told apart, too, as far as these tell.
    pub(super) fn note(&self, granted: &[Granted]) -> bool {
        if granted.iter().any(|job| !job.key.is_empty()) {
            self.keyed.store(true, Relaxed);
        }
        let limited = granted.iter().any(|job| job.limited);
        self.free.store(!granted.is_empty() && !limited, Relaxed);
        !limited && !self.keyed.load(Relaxed)
    }

    /// What was told apart failed: the next ends go with claims.
    pub(super) fn join(&self) {
        *self.lock() = Some(Instant::now() + TOGETHER);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        let guard = self.together_until.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }
}
