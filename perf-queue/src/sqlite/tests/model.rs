//! Random verbs against a model, with the file opened again in between.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sqlx::SqliteConnection;

use super::*;

/// How long a job is put off. By place, since one that was to join at a time and then keeps the same
/// time as its place would have fallen due before it could run.
const fn wait(place: Place) -> Duration {
    match place {
        Place::Kept | Place::HoldsAll => Duration::from_secs(7_200),
        Place::Rejoins => Duration::from_secs(3_600),
    }
}
const LETTERS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Option<u8>>),
    EnqueueIn {
        unique: Option<u8>,
        commits: bool,
    },
    /// Which of the jobs there are, counted from the first.
    End(usize, Ending),
    Start(usize),
    Flush,
    Replay(usize),
    Purge,
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Done,
    Retry(Place),
    Snooze(Place),
    Dead,
    Released,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![Just(Place::Kept), Just(Place::Rejoins)]
}

fn unique() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![4 => Just(None), 1 => (0..4u8).prop_map(Some)]
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![
        4 => Just(Ending::Done),
        2 => place().prop_map(Ending::Retry),
        2 => place().prop_map(Ending::Snooze),
        1 => Just(Ending::Dead),
        1 => Just(Ending::Released),
    ];
    prop_oneof![
        6 => prop::collection::vec(unique(), 1..6).prop_map(Step::Append),
        2 => (unique(), any::<bool>())
            .prop_map(|(unique, commits)| Step::EnqueueIn { unique, commits }),
        10 => (any::<usize>(), ending).prop_map(|(job, ending)| Step::End(job, ending)),
        4 => any::<usize>().prop_map(Step::Start),
        1 => Just(Step::Flush),
        1 => any::<usize>().prop_map(Step::Replay),
        1 => Just(Step::Purge),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    id: JobId,
    attempt: u32,
    errors: Vec<String>,
    /// Put off by an hour.
    off: Option<Place>,
}

#[derive(Default)]
struct Model {
    jobs: BTreeMap<RowId, Job>,
    names: BTreeMap<u8, JobId>,
    letters: Vec<Job>,
}

impl Model {
    fn nth(&self, at: usize) -> Option<RowId> {
        let at = at.checked_rem(self.jobs.len())?;
        self.jobs.keys().nth(at).copied()
    }

    fn add(&mut self, row: RowId, id: JobId) {
        let job = Job {
            id,
            attempt: 1,
            errors: Vec::new(),
            off: None,
        };
        assert!(
            self.jobs
                .last_key_value()
                .is_none_or(|(last, _)| *last < row)
        );
        self.jobs.insert(row, job);
    }

    fn end(&mut self, row: RowId, ending: Ending) -> End {
        let job = self.jobs.get_mut(&row).unwrap();
        let error = format!("error of attempt {}", job.attempt);
        match ending {
            Ending::Done => {
                self.jobs.remove(&row);
                End::Done
            }
            Ending::Retry(place) => {
                job.attempt += 1;
                job.errors.push(error.clone());
                job.put_off(place);
                End::Retry {
                    attempt: job.attempt,
                    after: wait(place),
                    place,
                    error,
                }
            }
            Ending::Snooze(place) => {
                job.put_off(place);
                End::Snooze {
                    after: wait(place),
                    place,
                }
            }
            Ending::Dead => {
                job.errors.push(error.clone());
                job.last_errors();
                self.letters.extend(self.jobs.remove(&row));
                let surplus = self.letters.len().saturating_sub(LETTERS);
                self.letters.drain(..surplus);
                End::Dead { error }
            }
            Ending::Released => End::Released,
        }
    }

    /// What a file with these jobs holds. The order of those that were put off is not compared: it is
    /// that of a time in milliseconds.
    fn check(&self, found: &[Stored]) {
        let mut rows: Vec<_> = found.iter().map(|job| job.row).collect();
        let at_once = found.iter().filter(|job| job.due.is_zero());
        assert!(at_once.map(|job| job.row).is_sorted());
        let first = |job: &Stored| (!job.blocks, !job.due.is_zero());
        assert!(found.is_sorted_by_key(first), "{found:?}");
        rows.sort_unstable();
        assert!(rows.iter().eq(self.jobs.keys()), "{rows:?} {:?}", self.jobs);
        for stored in found {
            let job = &self.jobs[&stored.row];
            assert_eq!((stored.id, stored.attempt), (job.id, job.attempt));
            assert_eq!(stored.errors, job.errors);
            assert_eq!(stored.due.is_zero(), job.off.is_none());
            assert_eq!(stored.blocks, job.off == Some(Place::Kept));
        }
    }
}

impl Job {
    fn put_off(&mut self, place: Place) {
        self.last_errors();
        self.off = Some(place);
    }

    fn last_errors(&mut self) {
        let surplus = self.errors.len().saturating_sub(10);
        self.errors.drain(..surplus);
    }
}

struct World {
    dir: Dir,
    journal: Journal,
    conn: SqliteConnection,
    model: Model,
    running: Vec<RowId>,
}

fn new_job(unique: Option<u8>) -> NewJob {
    let mut job = job("payload");
    job.unique = unique.map(|name| (format!("name {name}"), Duration::from_secs(3_600)));
    job
}

async fn start(dir: &Dir) -> (Journal, Vec<Stored>) {
    let sqlite = Sqlite::open(dir.file()).dead_letters(LETTERS);
    sqlite.start("test").await.unwrap()
}

impl World {
    async fn new() -> Self {
        let dir = Dir::new();
        let (journal, _) = start(&dir).await;
        let url = format!("sqlite://{}", dir.file().display());
        Self {
            conn: SqliteConnection::connect(&url).await.unwrap(),
            dir,
            journal,
            model: Model::default(),
            running: Vec::new(),
        }
    }

    async fn step(&mut self, step: Step) {
        let (journal, model) = (&self.journal, &mut self.model);
        match step {
            Step::Append(uniques) => {
                let jobs: Vec<_> = uniques.iter().copied().map(new_job).collect();
                let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
                let added = journal.append(jobs).await.unwrap();
                for ((unique, id), added) in uniques.into_iter().zip(ids).zip(added) {
                    let holder = unique.map(|name| *model.names.entry(name).or_insert(id));
                    assert_eq!(added.id, holder.unwrap_or(id));
                    assert_eq!(added.row.is_some(), added.id == id);
                    if let Some(row) = added.row {
                        model.add(row, id);
                    }
                }
            }
            Step::EnqueueIn { unique, commits } => {
                let new = new_job(unique);
                let own = new.id;
                let mut tx = self.conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
                let id = journal.enqueue_in(&mut tx, new).await.unwrap();
                if !commits {
                    return tx.rollback().await.unwrap();
                }
                tx.commit().await.unwrap();
                let holder = unique.map(|name| *model.names.entry(name).or_insert(own));
                assert_eq!(id, holder.unwrap_or(own));
                if id == own {
                    let arrived = arrived(journal).await;
                    assert_eq!((arrived.len(), arrived[0].id), (1, id));
                    model.add(arrived[0].row, id);
                }
            }
            Step::End(at, ending) => {
                if let Some(row) = model.nth(at) {
                    self.running.retain(|running| *running != row);
                    journal.end(row, model.end(row, ending));
                }
            }
            Step::Start(at) => {
                if let Some(row) = model.nth(at)
                    && !self.running.contains(&row)
                {
                    self.running.push(row);
                    journal.started_for_sure(row).await.unwrap();
                }
            }
            Step::Flush => journal.flush().await.unwrap(),
            Step::Replay(at) => {
                let at = at.checked_rem(model.letters.len());
                let letter = at.map(|at| model.letters.remove(at));
                let id = letter.map_or(JobId::new(0, 0), |letter| letter.id);
                let replayed = journal.replay(id).await.unwrap();
                assert_eq!(replayed.is_some(), at.is_some());
                if let Some(job) = replayed {
                    model.add(job.row, id);
                }
            }
            Step::Purge => {
                let purged = journal.purge(std::time::Duration::ZERO).await.unwrap();
                assert_eq!(purged, model.letters.len() as u64);
                model.letters.clear();
            }
            Step::Reopen => self.reopen().await,
        }
    }

    async fn reopen(&mut self) {
        self.journal.shutdown().await;
        assert_eq!(self.journal.arrived(), None);
        for row in self.running.drain(..) {
            let job = self.model.jobs.get_mut(&row).unwrap();
            job.attempt += 1;
            job.errors
                .push("the process ended while the job ran".to_owned());
            job.last_errors();
        }
        let (journal, found) = start(&self.dir).await;
        self.model.check(&found);
        let letters = journal.dead(10).await.unwrap();
        let found = letters.iter().map(|it| (it.id, it.attempts, &it.errors));
        let kept = self.model.letters.iter();
        assert!(found.eq(kept.map(|it| (it.id, it.attempt, &it.errors))));
        assert_eq!(journal.letters()[0], letters.len() as u64);
        self.journal = journal;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_file_holds_what_the_model_holds(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await;
            }
            world.reopen().await;
        });
    }
}
