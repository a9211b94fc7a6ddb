//! What the file has of the jobs that were started.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::sync::Mutex;

use super::durable::Durable;
use super::state::{Setting, Starts};
use super::{Journal, RowId};
use crate::BackendError;
use crate::job_error::chain;
use crate::panics::log;

/// Starts are not written one by one: before the first, the file is told that there will be some, and
/// which there were when nobody has reason to expect more.
#[derive(Debug)]
pub(super) struct Told {
    /// The file expects jobs to start.
    starting: AtomicBool,
    /// Whether it has all that were started. Held by who tells it.
    all: Mutex<bool>,
    /// Keys may have limits of their own.
    own: bool,
}

impl Told {
    /// Of who has opened the file, and started nothing.
    pub(super) fn new(own: bool) -> Self {
        Self {
            starting: AtomicBool::new(false),
            all: Mutex::new(true),
            own,
        }
    }

    /// To be asked after a job was granted: whether [`start`](Self::start) has to come before it.
    pub(super) fn is_starting(&self) -> bool {
        self.starting.load(SeqCst)
    }

    /// Tells the file that jobs start, and that this one may kill the process, if it is given.
    pub(super) async fn start(&self, journal: &Journal, suspect: Option<RowId>) {
        if let Err(error) = self.try_start(journal).await {
            let error = chain(&error);
            log!(
                warn,
                error,
                "a job starts unknown to the file: after a kill it does not count in limits"
            );
        }
        if let Some(row) = suspect
            && let Err(error) = journal.started_for_sure(row).await
        {
            let error = chain(&error);
            log!(
                warn,
                error,
                "a job that may have killed the process was not marked"
            );
        }
    }

    async fn try_start(&self, journal: &Journal) -> Result<(), BackendError> {
        let mut all = self.all.lock().await;
        if self.is_starting() {
            return Ok(());
        }
        // Unless this comes to its end, it is unknown what the file has.
        *all = false;
        let own = self.own;
        journal.set(Setting::Starting { own }).await?;
        self.starting.store(true, SeqCst);
        Ok(())
    }
}

impl<T, K: Hash> Durable<T, K> {
    /// Tells the file what was started, so that the process may end now.
    pub(super) async fn leave_behind(&self) -> Result<(), BackendError> {
        let mut all = self.told.all.lock().await;
        if *all {
            return Ok(());
        }
        // First: a job that is granted after the look at those that were waits for this to be over.
        self.told.starting.store(false, SeqCst);
        let (last, keys, idle) = self.store.leave_behind();
        let starts = Starts::new(last, keys);
        self.journal.set(Setting::Quiet { starts, idle }).await?;
        *all = true;
        Ok(())
    }
}

impl<T, K: Hash> Drop for Durable<T, K> {
    fn drop(&mut self) {
        // The task that takes in arrivals has the journal, too.
        if self.told.all.try_lock().is_ok_and(|all| *all) {
            return self.journal.close();
        }
        let (last, keys, _) = self.store.leave_behind();
        self.journal.close_after(Starts::new(last, keys));
    }
}
