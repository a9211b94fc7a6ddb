//! The jobs that this process has on lease: those that wait for their slot or a worker, those that
//! run, and what is to be told of those that ended. No clock, no tasks, no locks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, How, Lease};
use crate::JobId;
use crate::backend::Taken;

/// How late a slot may be used: later, it would crowd those after it. Above any timer's usual lateness,
/// and small beside the seconds that limits are given in.
const LATE: Duration = Duration::from_millis(50);

/// A job on lease that has not started.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) taken: Taken<T>,
    pub(super) lease: Lease,
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
    running: HashMap<JobId, Lease>,
    ended: Vec<Ended>,
    pub(super) workers: usize,
}

impl<T> Buffer<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            came: 0,
            running: HashMap::new(),
            ended: Vec::new(),
            workers: 0,
        }
    }

    /// A job was granted.
    pub(super) fn add(&mut self, job: Waiting<T>) {
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
            let job = first.remove();
            if now >= job.until || job.limited && now > job.slot + LATE {
                self.ended.push(Ended {
                    lease: job.lease,
                    how: How::Released,
                });
                continue;
            }
            self.running.insert(job.lease.id, job.lease);
            return Some(job);
        }
    }

    /// When a job can next start.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((slot, _), _)| *slot)
    }

    /// A job that ran came to an end.
    pub(super) fn end(&mut self, lease: Lease, how: How) {
        self.running.remove(&lease.id);
        self.ended.push(Ended { lease, how });
    }

    /// A job that never started is none that this process can run.
    pub(super) fn refuse(&mut self, lease: Lease, error: String) {
        let how = How::Dead { error };
        self.ended.push(Ended { lease, how });
    }

    /// Gives back all that have not started.
    pub(super) fn release(&mut self) {
        for (_, job) in std::mem::take(&mut self.waiting) {
            self.ended.push(Ended {
                lease: job.lease,
                how: How::Released,
            });
        }
    }

    /// The leases of what waits, and had come by then, hold for longer.
    pub(super) fn prolong(&mut self, came: u64, until: Instant) {
        for ((_, number), job) in &mut self.waiting {
            if *number <= came {
                job.until = until;
            }
        }
    }

    /// A lease is somebody else's by now: the job must not start here.
    pub(super) fn lose(&mut self, id: JobId) {
        self.waiting.retain(|_, job| job.lease.id != id);
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
        let all = waiting.chain(self.running.values().copied()).collect();
        (all, self.came)
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Nothing is on lease, and nothing to be told.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.ended.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Errors, Hold};

    const LEASE: Duration = Duration::from_secs(30);

    fn job(number: u64, now: Instant) -> Waiting<u64> {
        let lease = Lease {
            id: JobId::new(0, number),
            token: number,
        };
        let hold = Hold::Lease {
            token: number,
            since: now,
        };
        Waiting {
            taken: Taken {
                job: number,
                id: lease.id,
                trace: None,
                errors: Errors::default(),
                hold,
            },
            lease,
            attempt: 1,
            slot: now,
            until: now + LEASE,
            limited: false,
            enqueued_before: Duration::ZERO,
            due_before: Duration::ZERO,
            received: now,
        }
    }

    fn started(buffer: &mut Buffer<u64>, now: Instant) -> Option<u64> {
        buffer.start(now).map(|job| job.taken.job)
    }

    #[test]
    fn a_job_whose_lease_may_be_over_does_not_start_and_is_given_back() {
        let now = Instant::now();
        let mut buffer = Buffer::new();
        buffer.add(job(1, now));
        buffer.add(job(2, now));
        assert_eq!(started(&mut buffer, now), Some(1));
        // The process stood still.
        assert_eq!(started(&mut buffer, now + LEASE), None);
        let ended = buffer.take_ended(9);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].lease.token, &ended[0].how), (2, &How::Released));
        assert_eq!(buffer.running(), 1, "what runs is its handler's");
    }

    #[test]
    fn a_lease_that_was_prolonged_is_one_to_start_by() {
        let now = Instant::now();
        let mut buffer = Buffer::new();
        buffer.add(job(1, now));
        let (leases, came) = buffer.leases();
        assert_eq!(leases.len(), 1);
        // One that came while the server was asked is not among them.
        buffer.add(job(2, now));
        buffer.prolong(came, now + 2 * LEASE);
        assert_eq!(started(&mut buffer, now + LEASE), Some(1));
        assert_eq!(started(&mut buffer, now + LEASE), None);
    }
}
