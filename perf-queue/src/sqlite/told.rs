//! What the file has of the jobs that were started.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

use super::durable::Durable;
use super::state::{Setting, Starts};
use super::{End, Journal, RowId};
use crate::BackendError;
use crate::job_error::chain;
use crate::machine::Ask;
use crate::panics::log;

/// How long after the file could not be told jobs start without waiting for that, but those that are the
/// first ones.
const AGAIN: Duration = Duration::from_secs(5);

/// Starts are not written one by one: before the first, the file is told that there will be some, and
/// which there were when nobody has reason to expect more. In between, the store is open.
#[derive(Debug)]
pub(super) struct Told {
    /// Held by who tells it.
    telling: Mutex<()>,
    /// The file has all that were started.
    all: AtomicBool,
    /// Keys may have limits of their own.
    own: bool,
}

impl Told {
    /// Of who has opened the file, and started nothing.
    pub(super) fn new(own: bool) -> Self {
        Self {
            telling: Mutex::new(()),
            all: AtomicBool::new(true),
            own,
        }
    }
}

/// Tells the file that a job starts that may kill the process.
pub(super) async fn mark(journal: &Journal, row: RowId) {
    if let Err(error) = journal.started_for_sure(row).await {
        warn(Ask::Suspect(row.to_u64()), &error);
    }
}

fn warn(ask: Ask, error: &BackendError) {
    let error = chain(error);
    match ask {
        Ask::Starts => {
            log!(
                warn,
                error,
                "jobs start unknown to the file: after a kill they do not count in limits"
            );
        }
        Ask::Suspect(_) => {
            log!(
                warn,
                error,
                "a job that may have killed the process was not marked"
            );
        }
    }
}

/// Tells the file what it must know before jobs start, and then lets them, for as long as there is a
/// queue. What cannot be written keeps no job for longer than one try.
pub(super) async fn tell<T, K>(durable: Weak<Durable<T, K>>)
where
    K: Hash + Eq + Clone,
{
    let Some(parts) = durable.upgrade().map(|durable| {
        let (told, journal) = (Arc::clone(&durable.told), Arc::clone(&durable.journal));
        (told, journal, Arc::clone(&durable.signals))
    }) else {
        return;
    };
    let (told, journal, signals) = parts;
    // The last try has failed; until then there is no other, but for first starts.
    let mut again: Option<Instant> = None;
    // Jobs start of which the file does not know.
    let mut unknown = false;
    loop {
        match again {
            Some(at) if unknown => tokio::select! {
                () = signals.asked.notified() => {}
                () = sleep_until(at) => {}
            },
            _ => signals.asked.notified().await,
        }
        let _telling = told.telling.lock().await;
        let Some(queue) = durable.upgrade() else {
            return;
        };
        let (asked, open) = queue.store.asked();
        // Otherwise the file was told since that all is quiet, or is to be told anew.
        unknown &= open;
        let waits = again.is_some_and(|at| Instant::now() < at);
        let ask = match asked {
            Some(ask) => ask,
            None if unknown && !waits => Ask::Starts,
            None => continue,
        };
        if let Ask::Suspect(row) = ask {
            if waits {
                queue.suspects().granted(RowId::from_u64(row));
                queue.store.answer(ask);
                continue;
            }
            queue.suspects().marking(RowId::from_u64(row));
        }
        // Its end waits for no file.
        drop(queue);
        let done = match ask {
            Ask::Starts => {
                // Unless this comes to its end, it is unknown what the file has.
                told.all.store(false, SeqCst);
                let own = told.own;
                journal.set(Setting::Starting { own }).await
            }
            Ask::Suspect(row) => journal.started_for_sure(RowId::from_u64(row)).await,
        };
        match done {
            Ok(()) => {
                unknown &= ask != Ask::Starts;
                again = unknown.then(Instant::now);
            }
            Err(error) => {
                if !(unknown && ask == Ask::Starts) {
                    warn(ask, &error);
                }
                again = Some(Instant::now() + AGAIN);
                unknown |= ask == Ask::Starts;
            }
        }
        let Some(queue) = durable.upgrade() else {
            return;
        };
        queue.store.answer(ask);
    }
}

impl<T, K: Hash + Eq + Clone> Durable<T, K> {
    /// Tells the file what was started, so that the process may end now.
    pub(super) async fn leave_behind(&self) -> Result<(), BackendError> {
        let _telling = self.told.telling.lock().await;
        // First: a job that is to be granted after the look at those that were waits for this to be over.
        self.store.shut();
        if self.told.all.load(SeqCst) {
            return Ok(());
        }
        self.store.suspect(self.unmark());
        let (last, keys, idle) = self.store.leave_behind();
        let starts = Starts::new(last, keys);
        self.journal.set(Setting::Quiet { starts, idle }).await?;
        self.told.all.store(true, SeqCst);
        Ok(())
    }
}

impl<T, K: Hash> Durable<T, K> {
    /// Jobs that were marked to start, and have not, have not for the file either. Returns their numbers.
    fn unmark(&self) -> Vec<u64> {
        let rows = self.suspects().take_marked();
        for row in &rows {
            self.journal.end(*row, End::Released);
        }
        rows.into_iter().map(RowId::to_u64).collect()
    }
}

impl<T, K: Hash> Drop for Durable<T, K> {
    fn drop(&mut self) {
        self.signals.asked.notify_one();
        self.unmark();
        // The tasks beside it have the journal, too.
        if self.told.all.load(SeqCst) {
            return self.journal.close();
        }
        let (last, keys, _) = self.store.leave_behind();
        self.journal.close_after(Starts::new(last, keys));
    }
}
