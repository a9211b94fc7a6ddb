//! What must hold of all that the processes wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::log::{Event, What};
use super::nemesis::Wrong;
use super::{LEASE, PER_KEY, PER_SECOND, Task};
use crate::support::{busiest_window, secs};

/// A process stood still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped {
    pub(super) process: u32,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) wrong: Wrong,
    /// All, if `None`.
    pub(super) process: Option<u32>,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// A handler that ran.
#[derive(Debug, Clone)]
struct Run {
    process: u32,
    task: Task,
    id: String,
    attempt: u32,
    from: Duration,
    /// Whether it was done, and when. `None` where its process ended before.
    end: Option<(Duration, bool)>,
}

/// How much later than its slot a start may be seen: slots are used up to 50 ms late, and a process
/// that has its turn may lose the processor before it has read the clock.
const LATE: Duration = Duration::from_millis(150);

#[derive(Debug, Default)]
pub(super) struct History {
    tried: BTreeSet<Task>,
    /// When the producer knew.
    added: BTreeMap<Task, Duration>,
    /// By the time of their start.
    runs: Vec<Run>,
    faults: Vec<Fault>,
    stops: Vec<Stopped>,
}

impl History {
    pub(super) fn new(faults: Vec<Fault>, stops: Vec<Stopped>) -> Self {
        Self {
            faults,
            stops,
            ..Self::default()
        }
    }

    /// What a process wrote.
    pub(super) fn read(&mut self, process: u32, events: Vec<Event>) {
        let mut open: BTreeMap<Task, Run> = BTreeMap::new();
        for Event { at, task, what } in events {
            match what {
                What::Enqueue => assert!(self.tried.insert(task)),
                What::Added => assert_eq!(self.added.insert(task, at), None),
                What::Start { id, attempt } => {
                    let run = Run {
                        process,
                        task,
                        id,
                        attempt,
                        from: at,
                        end: None,
                    };
                    // Stopped for long, it may run a job that it has already.
                    self.runs.extend(open.insert(task, run));
                }
                What::End | What::Retry => {
                    let mut run = open.remove(&task).expect("it has started");
                    run.end = Some((at, what == What::End));
                    self.runs.push(run);
                }
            }
        }
        self.runs.extend(open.into_values());
        self.runs.sort_by_key(|run| run.from);
    }

    pub(super) fn check(&self, leased: bool) {
        let mut by_task: BTreeMap<Task, Vec<&Run>> = BTreeMap::new();
        for run in &self.runs {
            by_task.entry(run.task).or_default().push(run);
        }
        self.nothing_is_lost_or_made_up(&by_task);
        self.twice_only_by_faults(&by_task);
        let late = self.out_of_order(&by_task, leased);
        assert!(late.is_empty(), "out of order: {late:#?}");
        if leased {
            for (task, runs) in &by_task {
                self.no_lease_ran_twice(task, runs);
            }
        }
        self.limits(leased);
    }

    /// Each lease is another attempt; but a job that was done before its producer had the answer to the
    /// enqueue, which was lost on the way, is enqueued again.
    fn no_lease_ran_twice(&self, task: &Task, runs: &[&Run]) {
        let mut attempts: BTreeMap<u32, &Run> = BTreeMap::new();
        for run in runs {
            if attempts.insert(run.attempt, run).is_none() {
                continue;
            }
            let known = self.added.get(task);
            // In whichever attempt.
            let mut done = runs.iter().filter_map(|run| run.end).filter(|it| it.1);
            let again =
                done.any(|(done, _)| done <= run.from && known.is_none_or(|known| done <= *known));
            assert!(again, "a lease ran twice: {runs:#?}, known {known:?}");
        }
    }

    fn nothing_is_lost_or_made_up(&self, by_task: &BTreeMap<Task, Vec<&Run>>) {
        let done = |run: &&Run| matches!(run.end, Some((_, true)));
        let is_done = |task: &Task| by_task.get(task).is_some_and(|it| it.iter().any(done));
        let lost: Vec<_> = self.added.keys().filter(|task| !is_done(task)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        let unexpected: Vec<_> = by_task
            .keys()
            .filter(|it| !self.tried.contains(it))
            .collect();
        assert!(unexpected.is_empty(), "unexpected: {unexpected:?}");
        let begun = by_task.keys().filter(|task| !is_done(task));
        assert_eq!(begun.count(), 0, "started, and never done");
        let ids: BTreeSet<&str> = self.runs.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(ids.len(), by_task.len(), "one id for each job");
        let recovered = by_task
            .keys()
            .filter(|it| !self.added.contains_key(it))
            .count();
        let kinds: BTreeSet<Wrong> = self.faults.iter().map(|fault| fault.wrong).collect();
        let count = |kind| self.faults.iter().filter(|it| it.wrong == kind).count();
        let kinds: Vec<_> = kinds.iter().map(|kind| (kind, count(*kind))).collect();
        println!("{} faults: {kinds:?}", self.faults.len());
        println!(
            "{} enqueued, {} of them acknowledged; lost 0, unexpected 0, recovered {recovered}",
            self.tried.len(),
            self.added.len(),
        );
    }

    /// Jobs run again that were running, or had just ended, when something went wrong.
    fn twice_only_by_faults(&self, by_task: &BTreeMap<Task, Vec<&Run>>) {
        let asked: usize = self
            .runs
            .iter()
            .filter(|it| matches!(it.end, Some((_, false))))
            .count();
        let twice = self.runs.len() - asked - by_task.len();
        let touched = self.runs.iter().filter(|run| {
            self.faults.iter().any(|fault| {
                fault.process.is_none_or(|process| process == run.process)
                    && run.from <= fault.to
                    && run.end.is_none_or(|(end, _)| end + LEASE >= fault.from)
            })
        });
        let cut = self.runs.iter().filter(|run| run.end.is_none()).count();
        let touched = touched.count();
        println!(
            "{} runs, {asked} of them asked for another; {twice} duplicates, {cut} of them of handlers \
             that were killed; {touched} runs within a lease of a fault",
            self.runs.len()
        );
        assert!(twice <= touched, "{twice} duplicates");
    }

    /// The starts that were not in the order of their key: of jobs that had acknowledged ones of the
    /// same producer before them that had not started, and those while another job of the key had not
    /// come to its end.
    fn out_of_order<'a>(
        &self,
        by_task: &BTreeMap<Task, Vec<&'a Run>>,
        leased: bool,
    ) -> Vec<(&'static str, Vec<&'a Run>)> {
        let mut wrong = Vec::new();
        // What each producer's jobs of a key began with last.
        let mut begun: BTreeMap<(u32, u32), &Run> = BTreeMap::new();
        // The last run of each key.
        let mut last: BTreeMap<u32, &Run> = BTreeMap::new();
        let mut runs: Vec<&Run> = by_task.values().flatten().copied().collect();
        runs.sort_by_key(|run| run.from);
        for run in runs {
            let Task { producer, key, n } = run.task;
            let first = by_task[&run.task][0].from == run.from;
            if first && self.added.contains_key(&run.task) {
                match begun.insert((producer, key), run) {
                    Some(before) if before.task.n > n => {
                        wrong.push(("overtaken", vec![before, run]))
                    }
                    _ => {}
                }
            }
            match last.insert(key, run) {
                Some(before) if before.task != run.task => match before.end {
                    Some((end, true)) if end <= run.from => {}
                    None if !leased && self.was_not_in_the_file(before, &by_task[&run.task]) => {}
                    _ => {
                        // With all that became of the two.
                        let both = [&before.task, &run.task].map(|task| &by_task[task]);
                        wrong.push((
                            "side by side",
                            both.into_iter().flatten().copied().collect(),
                        ));
                    }
                },
                _ => {}
            }
        }
        wrong
    }

    /// In a file the next job of a key starts when the handler of the one before has ended, and not only
    /// when the file has that: killed in between, the process that comes after runs both, in their order.
    /// And a job whose enqueue failed may be there for it, though it was not for the one before.
    fn was_not_in_the_file(&self, killed: &Run, runs: &[&Run]) -> bool {
        let ended = runs.iter().any(|run| {
            let done = run
                .end
                .is_some_and(|(end, done)| done && end <= killed.from);
            run.process == killed.process && done
        });
        let unknown = runs
            .first()
            .is_some_and(|run| !self.added.contains_key(&run.task));
        let later = runs.iter().any(|run| run.process > killed.process);
        later && (ended || unknown)
    }

    /// Every window holds at most the quota, but for starts that are seen late.
    fn limits(&self, shared: bool) {
        let mut all: BTreeMap<Option<u32>, Vec<Duration>> = BTreeMap::new();
        let mut keys: BTreeMap<(Option<u32>, u32), Vec<Duration>> = BTreeMap::new();
        for run in &self.runs {
            let stood_still = |it: &Stopped| {
                it.process == run.process && it.from <= run.from && run.from <= it.to + LATE
            };
            if !self.stops.iter().any(stood_still) {
                // In a file, limits begin anew with each process.
                let life = (!shared).then_some(run.process);
                all.entry(life).or_default().push(run.from);
                keys.entry((life, run.task.key)).or_default().push(run.from);
            }
        }
        let most = |times: Vec<Vec<Duration>>, quota: u32| {
            let whole = times.iter().map(|it| busiest_window(it, secs(1))).max();
            let within = times
                .iter()
                .map(|it| busiest_window(it, secs(1) - LATE))
                .max();
            assert!(within <= Some(quota as usize), "{within:?} of {quota}");
            whole.unwrap_or(0)
        };
        let of_all = most(all.into_values().collect(), PER_SECOND);
        let of_key = most(keys.into_values().collect(), PER_KEY);
        println!(
            "starts seen in the fullest second: {of_all} of {PER_SECOND}, {of_key} of {PER_KEY} of a \
             key; none above in {:?}",
            secs(1) - LATE
        );
    }
}
