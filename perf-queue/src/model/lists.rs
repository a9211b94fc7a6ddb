//! The queue as lists in memory.

use std::collections::BTreeMap;

use proptest::sample::Index;

use super::{CAPACITY, How, New, Run};

/// Where a job that comes back first stands among others that do.
#[allow(dead_code, reason = "each backend has its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// Before the rest of its key, by the lease that it had.
    Lease,
    /// Before the rest of its key, by its priority and its place.
    Place,
    /// Before those of its priority, the last one first; before all where jobs of its key run one at a
    /// time.
    Last,
}

/// In what backends are free to differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Differs {
    pub(crate) front: Front,
    /// A job whose key is penalized stays first of it, rather than step aside like a retry.
    pub(crate) penalty_stays: bool,
    /// Jobs that are said to have died together did so in the order of their ids, rather than in that in
    /// which it was said.
    pub(crate) die_by_id: bool,
    /// A dead letter comes back with the priority that it had.
    pub(crate) replays_priority: bool,
    /// A crash takes along all that runs, and the attempts of some may not be counted. The order of
    /// those that were put back is not kept.
    pub(crate) one_owner: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) number: u64,
    key: u8,
    priority: i8,
    attempt: u32,
    /// The attempt that was under way when the process ended may have been counted.
    counted: bool,
    /// Its order was lost.
    loose: bool,
    order: u64,
}

/// Smaller goes first.
type Place = (i16, i128, u64);

#[derive(Debug, Default)]
struct Key {
    line: BTreeMap<Place, Job>,
    held_until: u64,
    running: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    differs: Differs,
    keys: BTreeMap<u8, Key>,
    /// With the tokens of their leases.
    pub(super) running: Vec<(Job, u64)>,
    /// By the time at which they are due, and the order in which they came.
    scheduled: BTreeMap<(u64, u64), Job>,
    pub(super) dead: Vec<Job>,
    pub(super) concurrency: Option<u32>,
    pub(super) paused: bool,
    now: u64,
    numbers: u64,
    order: u64,
}

impl Model {
    pub(super) fn new(differs: Differs, concurrency: Option<u32>) -> Self {
        Self {
            differs,
            keys: BTreeMap::new(),
            running: Vec::new(),
            scheduled: BTreeMap::new(),
            dead: Vec::new(),
            concurrency,
            paused: false,
            now: 0,
            numbers: 0,
            order: 0,
        }
    }

    pub(super) fn number(&mut self, new: New) -> New {
        self.numbers += 1;
        let number = self.numbers;
        New { number, ..new }
    }

    pub(super) fn waiting(&self) -> usize {
        let lines: usize = self.keys.values().map(|key| key.line.len()).sum();
        lines + self.scheduled.len()
    }

    pub(super) fn room(&self) -> usize {
        CAPACITY - self.waiting() - self.running.len()
    }

    pub(super) fn pick_running(&self, index: Index) -> Option<u64> {
        let n = self.running.len();
        (n > 0).then(|| self.running[index.index(n)].0.number)
    }

    pub(super) fn pick_dead(&self, index: Index) -> Option<u64> {
        let n = self.dead.len();
        (n > 0).then(|| self.dead[index.index(n)].number)
    }

    pub(super) fn add(&mut self, new: New) {
        let job = Job {
            number: new.number,
            key: new.key,
            priority: new.priority,
            attempt: 1,
            counted: false,
            loose: false,
            order: 0,
        };
        self.later(job, new.delay);
    }

    fn later(&mut self, job: Job, after: u64) {
        if after == 0 {
            return self.append(job);
        }
        self.order += 1;
        self.scheduled.insert((self.now + after, self.order), job);
    }

    fn append(&mut self, mut job: Job) {
        self.order += 1;
        job.order = self.order;
        let place = (-i16::from(job.priority), 0, self.order);
        let key = self.keys.entry(job.key).or_default();
        key.line.insert(place, job);
    }

    fn put_first(&mut self, job: Job, token: u64) {
        self.order += 1;
        let urgency = -i16::from(job.priority);
        let place = match self.differs.front {
            Front::Lease => (i16::MIN, i128::from(token), 0),
            Front::Place => (urgency - 1_000, 0, job.order),
            Front::Last if self.one_by_one() => (-i16::MAX, -i128::from(self.order), 0),
            Front::Last => (urgency, -i128::from(self.order), 0),
        };
        let key = self.keys.entry(job.key).or_default();
        key.line.insert(place, job);
    }

    fn one_by_one(&self) -> bool {
        self.concurrency == Some(1)
    }

    fn hold(&mut self, key: u8, seconds: u64) {
        if seconds > 0 {
            let until = self.now + seconds;
            let key = self.keys.entry(key).or_default();
            key.held_until = key.held_until.max(until);
        }
    }

    /// Takes some of the running jobs out, each at most once. In which order those of a key stand that
    /// join it at the same time is open: there is one at most.
    pub(super) fn choose(&mut self, ended: Vec<(Index, How)>) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        let mut joined = Vec::new();
        for (index, mut how) in ended {
            if self.running.is_empty() {
                break;
            }
            let at = index.index(self.running.len());
            let (job, token) = self.running.remove(at);
            if how.after() == Some(0) {
                if joined.contains(&job.key) {
                    how = How::Done;
                }
                joined.push(job.key);
            }
            chosen.push(Chosen { job, token, how });
        }
        chosen
    }

    pub(super) fn end(&mut self, ended: Vec<Chosen>) {
        let before = self.dead.len();
        for Chosen {
            mut job,
            token,
            how,
        } in ended
        {
            self.keys.entry(job.key).or_default().running -= 1;
            match how {
                How::Done => {}
                How::Dead => self.dead.push(job),
                How::Released => self.put_first(job, token),
                How::Penalty(after) if self.differs.penalty_stays => {
                    self.hold(job.key, after);
                    self.put_first(job, token);
                }
                How::Retry(after) | How::Snooze(after) | How::Penalty(after) => {
                    job.attempt += u32::from(matches!(how, How::Retry(_)));
                    if self.one_by_one() || matches!(how, How::Penalty(_)) {
                        self.hold(job.key, after);
                    }
                    if self.one_by_one() {
                        self.put_first(job, token);
                    } else {
                        self.later(job, after);
                    }
                }
            }
        }
        if self.differs.die_by_id {
            self.dead[before..].sort_by_key(|job| job.number);
        }
    }

    fn startable(&self) -> usize {
        let cap = self.concurrency.map_or(usize::MAX, |cap| cap as usize);
        let of = |key: &Key| {
            if key.held_until > self.now {
                return 0;
            }
            key.line.len().min(cap.saturating_sub(key.running))
        };
        self.keys.values().map(of).sum()
    }

    fn key_of(&self, number: u64) -> u8 {
        let line = |key: &Key| key.line.values().any(|job| job.number == number);
        let found = self.keys.iter().find(|(_, key)| line(key));
        *found
            .unwrap_or_else(|| panic!("job {number} does not wait"))
            .0
    }

    pub(super) fn grant(&mut self, granted: &[Run], want: usize) {
        let expected = if self.paused {
            0
        } else {
            self.startable().min(want)
        };
        assert_eq!(granted.len(), expected, "{granted:?} of {self:#?}");
        let cap = self.concurrency.map_or(usize::MAX, |cap| cap as usize);
        for run in granted {
            let id = self.key_of(run.number);
            let now = self.now;
            let key = self.keys.entry(id).or_default();
            let first = key.line.values().next().is_some_and(|job| job.loose);
            let mut job = if first {
                let place = key.line.iter().find(|(_, job)| job.number == run.number);
                let place = *place.unwrap().0;
                key.line.remove(&place).unwrap()
            } else {
                key.line.pop_first().unwrap().1
            };
            key.running += 1;
            assert!(key.held_until <= now && key.running <= cap);
            assert_eq!(job.number, run.number, "another one is first");
            if job.counted && run.attempt == job.attempt + 1 {
                job.attempt += 1;
            }
            assert_eq!(job.attempt, run.attempt, "{job:?}");
            job.counted = false;
            self.running.push((job, run.token));
        }
    }

    /// Who had these is gone.
    pub(super) fn lose(&mut self, granted: &[Run]) {
        let one_owner = self.differs.one_owner;
        let is_lost = |job: &Job| one_owner || granted.iter().any(|run| run.number == job.number);
        let (lost, kept) = std::mem::take(&mut self.running)
            .into_iter()
            .partition::<Vec<_>, _>(|(job, _)| is_lost(job));
        self.running = kept;
        for (mut job, token) in lost {
            self.keys.entry(job.key).or_default().running -= 1;
            if one_owner {
                job.counted = true;
            } else {
                job.attempt += 1;
            }
            self.put_first(job, token);
        }
        if one_owner {
            let lines = self.keys.values_mut().flat_map(|key| key.line.values_mut());
            lines
                .chain(self.scheduled.values_mut())
                .for_each(|job| job.loose = true);
        }
    }

    pub(super) fn advance(&mut self, seconds: u64) {
        self.now += seconds;
        while let Some(first) = self.scheduled.first_entry()
            && first.key().0 <= self.now
        {
            let job = first.remove();
            self.append(job);
        }
    }

    pub(super) fn replay(&mut self, number: u64) {
        let at = self.dead.iter().position(|job| job.number == number);
        let mut job = self.dead.remove(at.unwrap());
        (job.attempt, job.counted, job.loose) = (1, false, false);
        if !self.differs.replays_priority {
            job.priority = 0;
        }
        self.append(job);
    }
}

/// A job that is to end.
pub(super) struct Chosen {
    pub(super) job: Job,
    token: u64,
    pub(super) how: How,
}
