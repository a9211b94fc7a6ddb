//! The jobs that this process has on lease: those that wait for their slot or a worker, those that
//! run, and what is to be told of those that ended. No clock, no tasks, no locks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, How, Lease};
use crate::backend::Taken;
use crate::panics::contained;
use crate::{JobId, Scope};

/// How late a slot may be used: later, it would crowd those after it. Above any timer's usual lateness,
/// and small beside the seconds that limits are given in.
const LATE: Duration = Duration::from_millis(50);

/// How long a job waits for a worker after its slot, before another process may have it: as when the
/// handlers have become slow, and jobs were leased for fast ones.
const HELD: Duration = Duration::from_millis(500);

/// A job on lease that has not started.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) taken: Taken<T>,
    pub(super) lease: Lease,
    pub(super) key: Vec<u8>,
    pub(super) attempt: u32,
    pub(super) slot: Instant,
    /// When its lease may be over, unless it is prolonged: counted from before the server was asked, by
    /// a clock that goes on while the process stands still.
    pub(super) until: Instant,
    pub(super) limited: bool,
    pub(super) enqueued_before: Duration,
    pub(super) due_before: Duration,
    /// The two times above are to be counted from here.
    pub(super) received: Instant,
}

#[derive(Debug)]
pub(super) struct Buffer<T> {
    /// By slot, and by the order in which they came.
    waiting: BTreeMap<(Instant, u64), Waiting<T>>,
    came: u64,
    /// With their keys. By lease, as a job whose lease is over may be leased here once more while its
    /// handler still runs.
    running: HashMap<Lease, Vec<u8>>,
    ended: Vec<Ended>,
    recalls: u64,
    /// What must not start though the server may not know yet, with the number of the recall.
    recalled: Vec<(u64, What)>,
    pub(super) workers: usize,
}

/// Which jobs are recalled.
#[derive(Debug)]
enum What {
    All,
    OfKey(Vec<u8>),
}

impl What {
    fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::OfKey(it) => it == key,
        }
    }
}

impl<T> Buffer<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            came: 0,
            running: HashMap::new(),
            ended: Vec::new(),
            recalls: 0,
            recalled: Vec::new(),
            workers: 0,
        }
    }

    /// A job was granted, in an exchange that was asked for after so many recalls.
    pub(super) fn add(&mut self, job: Waiting<T>, asked: u64) {
        let mut later = self.recalled.iter().filter(|(number, _)| *number > asked);
        if later.any(|(_, what)| what.has(&job.key)) {
            self.ended.push(give_up(job));
            return;
        }
        self.came += 1;
        self.waiting.insert((job.slot, self.came), job);
    }

    /// The next job whose slot has come; it counts as running. Slots that were missed are given up, and
    /// so are leases that may be over, as after the process stood still: somebody else may run the job.
    pub(super) fn start(&mut self, now: Instant) -> Option<Waiting<T>> {
        loop {
            let first = self.waiting.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let mut job = first.remove();
            if now >= job.until || job.limited && now > job.slot + LATE {
                self.ended.push(give_up(job));
                continue;
            }
            self.running.insert(job.lease, std::mem::take(&mut job.key));
            return Some(job);
        }
    }

    /// When a job can next start.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((slot, _), _)| *slot)
    }

    /// A job that ran came to an end. What its penalty stops does not start here, either.
    pub(super) fn end(&mut self, lease: Lease, how: How) {
        let key = self.running.remove(&lease);
        let penalty = penalty(&how);
        self.ended.push(Ended { lease, how });
        match (penalty, key) {
            (Some(Scope::Queue), _) => self.recall(What::All),
            // In a queue without keys it stops every job.
            (Some(Scope::Key), Some(key)) if key.is_empty() => self.recall(What::All),
            (Some(Scope::Key), Some(key)) => self.recall(What::OfKey(key)),
            _ => {}
        }
    }

    /// Gives back what has not started, and what comes by an exchange that is under way.
    pub(super) fn recall_all(&mut self) {
        self.recall(What::All);
    }

    fn recall(&mut self, what: What) {
        let over = self.waiting.extract_if(.., |_, job| what.has(&job.key));
        for (_, job) in over {
            self.ended.push(give_up(job));
        }
        self.recalls += 1;
        self.recalled.push((self.recalls, what));
    }

    /// How many recalls there have been.
    pub(super) const fn recalls(&self) -> u64 {
        self.recalls
    }

    /// The server knows why of so many recalls.
    pub(super) fn told(&mut self, recalls: u64) {
        self.recalled.retain(|(number, _)| *number > recalls);
    }

    /// A job that never started is none that this process can run.
    pub(super) fn refuse(&mut self, lease: Lease, error: String) {
        let how = How::Dead { error };
        self.ended.push(Ended { lease, how });
    }

    /// Gives back all that have not started.
    pub(super) fn release(&mut self) {
        for (_, job) in std::mem::take(&mut self.waiting) {
            self.ended.push(give_up(job));
        }
    }

    /// When the job that has waited the longest for a worker has done so for too long.
    pub(super) fn stale_at(&self) -> Option<Instant> {
        self.next_at().map(|slot| slot + HELD)
    }

    /// Gives back those that have waited for a worker for too long; false if there were none.
    pub(super) fn release_stale(&mut self, now: Instant) -> bool {
        let before = self.ended.len();
        while self.stale_at().is_some_and(|at| at <= now) {
            let Some((_, job)) = self.waiting.pop_first() else {
                break;
            };
            self.ended.push(give_up(job));
        }
        self.ended.len() > before
    }

    /// The leases of what waits, and had come by then, hold for longer.
    pub(super) fn prolong(&mut self, came: u64, until: Instant) {
        for ((_, number), job) in &mut self.waiting {
            if *number <= came {
                job.until = until;
            }
        }
    }

    /// Of these leases, those of the jobs in `lost` are somebody else's by now: they must not start here.
    pub(super) fn lose(&mut self, leases: &[Lease], lost: &[JobId]) {
        let mut over = HashSet::new();
        for id in lost {
            // Where a job is leased here twice, the older lease goes first.
            let held = leases.iter().filter(|lease| lease.id == *id);
            let held = held.filter(|lease| !over.contains(*lease));
            if let Some(lease) = held.min_by_key(|lease| lease.token) {
                over.insert(*lease);
            }
        }
        let lost = self
            .waiting
            .extract_if(.., |_, job| over.contains(&job.lease));
        for (_, job) in lost {
            give_up(job);
        }
    }

    /// What is to be told, the oldest first, at most so many.
    pub(super) fn take_ended(&mut self, at_most: usize) -> Vec<Ended> {
        if self.ended.len() <= at_most {
            return std::mem::take(&mut self.ended);
        }
        let rest = self.ended.split_off(at_most);
        std::mem::replace(&mut self.ended, rest)
    }

    /// What could not be told.
    pub(super) fn put_back(&mut self, mut ended: Vec<Ended>) {
        ended.append(&mut self.ended);
        self.ended = ended;
    }

    /// How many jobs the workers could take.
    pub(super) fn free(&self) -> usize {
        let held = self.running.len() + self.waiting.len();
        self.workers.saturating_sub(held)
    }

    /// How many more than the workers take it should hold ahead of them, given the target.
    pub(super) fn short_of(&self, ahead: usize) -> usize {
        if self.workers == 0 {
            return 0;
        }
        (self.workers + ahead).saturating_sub(self.running.len() + self.waiting.len())
    }

    /// All that are held, and the number of the last job that came.
    pub(super) fn leases(&self) -> (Vec<Lease>, u64) {
        let waiting = self.waiting.values().map(|job| job.lease);
        let all = waiting.chain(self.running.keys().copied()).collect();
        (all, self.came)
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// How many are to be told of.
    pub(super) const fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Whether a penalty is among what is to be told.
    pub(super) fn has_penalty(&self) -> bool {
        self.ended.iter().any(|it| penalty(&it.how).is_some())
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Nothing is on lease, and nothing to be told.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.ended.is_empty()
    }
}

/// Lets go of a job that has not started. It is dropped under a lock, and by whoever has to go on.
fn give_up<T>(job: Waiting<T>) -> Ended {
    let lease = job.lease;
    contained(|| drop(job));
    Ended {
        lease,
        how: How::Released,
    }
}

const fn penalty(how: &How) -> Option<Scope> {
    match how {
        How::Snooze { penalty, .. } => *penalty,
        _ => None,
    }
}

#[cfg(test)]
mod tests;
