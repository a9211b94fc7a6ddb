use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::dead::Letters;
use super::error::{ended, refused};
use super::foreign;
use super::inbox::{Append, Inbox, Op};
use super::rows::{Added, End, RowId, Stored, millis, wall_clock};
use super::state::{Setting, Starts, State};
use super::writer::Writer;
use crate::panics::log;
use crate::remote::{Letter, NewJob};
use crate::{BackendError, EnqueueInError, JobId};

/// Jobs that may wait for the writer to be added; more wait outside, in the order in which they came.
const WAITING: usize = 16_384;

/// SQLite holds no more than a gigabyte in a row, and would refuse those that came along, too.
const MAX_PAYLOAD: usize = 512 << 20;

/// What a queue's file knows, and one task that writes it. Dropped, the task still writes what it was
/// given, as long as the runtime is there.
#[derive(Debug)]
pub(crate) struct Journal {
    inbox: Arc<Inbox>,
    room: Arc<Semaphore>,
    arrivals: Arc<Arrivals>,
    letters: Arc<Letters>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// What the file kept of the queue when it was opened.
    pub(super) state: State,
    /// Of the queue, in its file.
    queue: i64,
    path: PathBuf,
}

/// A call that waits for the writer's answer.
struct Asked<'a, T: Handed> {
    inbox: &'a Inbox,
    reply: oneshot::Receiver<Result<T, BackendError>>,
}

/// An answer that must not be lost when nobody waits for it any more.
pub(super) trait Handed {
    /// The first and the last row of the jobs that nobody would know of.
    fn rows(&self) -> Option<[RowId; 2]> {
        None
    }
}

impl Handed for Vec<Added> {
    fn rows(&self) -> Option<[RowId; 2]> {
        let mut rows = self.iter().filter_map(|added| added.row);
        let first = rows.next()?;
        Some([first, rows.next_back().unwrap_or(first)])
    }
}

impl Handed for Option<Stored> {
    fn rows(&self) -> Option<[RowId; 2]> {
        self.as_ref().map(|job| [job.row; 2])
    }
}

impl Handed for () {}

impl Handed for bool {}

impl Handed for u64 {}

impl Handed for Vec<Letter> {}

impl<T: Handed> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        self.reply.close();
        // Empty if the answer was taken.
        if let Ok(Ok(answer)) = self.reply.try_recv()
            && let Some(rows) = answer.rows()
        {
            // Closed, the next to open the file finds them.
            let _ = self.inbox.push(Op::Deliver(rows));
        }
    }
}

impl Journal {
    pub(super) fn new(writer: Writer, queue: i64, path: PathBuf, state: State) -> Self {
        let inbox = Arc::new(Inbox::default());
        Self {
            room: Arc::new(Semaphore::new(WAITING)),
            arrivals: writer.arrivals(),
            letters: writer.letters(),
            writer: Mutex::new(Some(tokio::spawn(writer.run(Arc::clone(&inbox))))),
            inbox,
            state,
            queue,
            path,
        }
    }

    /// Adds all jobs, in their order, or none; they are on the disk when it returns. Waits while many
    /// others wait for the writer.
    ///
    /// The answer has one entry a job. A job whose unique name was taken by another one, of this batch
    /// or before, is not added until the time that came with the *other* job is over.
    ///
    /// # Errors
    ///
    /// None of the jobs was added. Only after an error of input or output may they nevertheless be
    /// there when the file is next opened: what the system had of them was not taken back.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has added all of the jobs or none, and it cannot be said which. Where it has,
    /// they come out of [`arrived`](Self::arrived).
    pub(crate) async fn append(&self, jobs: Vec<NewJob>) -> Result<Vec<Added>, BackendError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        if jobs.iter().any(|job| job.payload.len() > MAX_PAYLOAD) {
            return Err(refused("a job is larger than 512 MiB"));
        }
        let now = wall_clock();
        // At most `WAITING`, which fits.
        let wanted = jobs.len().min(WAITING) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(wanted);
        let _room = room.await.map_err(|_| self.at(ended()))?;
        self.ask(|reply| {
            Op::Append(Append {
                jobs,
                now,
                reply,
                _room,
            })
        })
        .await
    }

    /// A job has started. Costs nothing for jobs that end within ten milliseconds: only others are
    /// marked in the file, so that they come back as the next attempt if the process dies. A job that
    /// kills the process sooner comes back as the same attempt, but as a [suspect](Stored::suspect).
    pub(crate) fn started(&self, row: RowId) {
        self.tell(Op::Started(row, Instant::now()));
    }

    /// The same for a job that may have killed the process before ([`Stored::suspect`]): when this
    /// returns, the file has it marked as started, however soon the process dies.
    ///
    /// # Errors
    ///
    /// If that could not be written now; it is tried again.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have marked the job, until its end is told.
    pub(crate) async fn started_for_sure(&self, row: RowId) -> Result<(), BackendError> {
        self.ask(|reply| Op::Mark(row, reply)).await
    }

    /// A job has ended. This is in the file with one of the next commits, at the latest some
    /// milliseconds later, and a process that dies before runs the job again. While the file cannot be
    /// written, it is kept and tried again.
    ///
    /// To be called once a run; ends of the same job are applied in the order of the calls.
    pub(crate) fn end(&self, row: RowId, end: End) {
        self.tell(Op::Ended(row, end, wall_clock()));
    }

    /// Waits until all that was told before is on the disk.
    ///
    /// # Errors
    ///
    /// If it could not be written now; it is tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn flush(&self) -> Result<(), BackendError> {
        self.ask(Op::Flush).await
    }

    /// Waits until there are jobs that were committed by somebody else
    /// ([`enqueue_in`](Self::enqueue_in), another process), or whose `append` or `replay` was dropped;
    /// [`arrived`](Self::arrived) has them. False when the journal has ended, and there are none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub(crate) async fn arrival(&self) -> bool {
        self.arrivals.wait().await
    }

    /// Takes the next of those jobs, in the order of commit.
    ///
    /// What was committed before an append or a replay is here before that one returns, unless
    /// thousands of jobs are. So whoever takes all there is before it adds its own jobs, and does both
    /// under one lock, keeps the order of commit.
    pub(crate) fn arrived(&self) -> Option<Vec<Stored>> {
        self.arrivals.take()
    }

    /// Adds a job within the transaction that is open on `conn`: it is there if and when that
    /// transaction commits, and comes out of [`arrived`](Self::arrived) soon after.
    ///
    /// Begin the transaction with `begin_with("BEGIN IMMEDIATE")` if it reads before it writes: the
    /// queue writes to the file all the time, and SQLite lets no transaction write that has read what
    /// is not the last. While it is open after a write, the queue's own commits wait for it, up to five
    /// seconds; so do not await an enqueue without the transaction until it has ended.
    ///
    /// # Errors
    ///
    /// If the connection's file is not this queue's, or no transaction was begun by sqlx.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have added the job to the transaction: roll that back.
    pub(crate) async fn enqueue_in(
        &self,
        conn: &mut SqliteConnection,
        job: NewJob,
    ) -> Result<JobId, EnqueueInError> {
        let id = foreign::enqueue_in(conn, &self.path, self.queue, job).await?;
        self.tell(Op::Expect);
        Ok(id)
    }

    /// How many dead letters there are, and how many were dropped for lack of room since the start.
    /// Letters of jobs whose end is not in the file yet are not counted.
    pub(crate) fn letters(&self) -> [u64; 2] {
        [self.letters.kept(), self.letters.dropped()]
    }

    /// The oldest dead letters, at most so many.
    pub(crate) async fn dead(&self, at_most: usize) -> Result<Vec<Letter>, BackendError> {
        self.ask(|reply| Op::ListDead(at_most, reply)).await
    }

    /// Whether there is a dead letter of this id.
    pub(crate) async fn is_dead(&self, id: JobId) -> Result<bool, BackendError> {
        self.ask(|reply| Op::IsDead(id, reply)).await
    }

    /// Puts a dead letter back, as a new job of the same id with its first attempt before it. `None`
    /// if there is no such letter.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have replayed the letter, whose job then comes out of
    /// [`arrived`](Self::arrived).
    pub(crate) async fn replay(&self, id: JobId) -> Result<Option<Stored>, BackendError> {
        self.ask(|reply| Op::Replay(id, reply)).await
    }

    /// Drops the dead letters that died so long ago or longer, all by zero; returns how many there were.
    pub(crate) async fn purge(&self, older_than: Duration) -> Result<u64, BackendError> {
        let until = match older_than {
            Duration::ZERO => i64::MAX,
            age => wall_clock().saturating_sub(millis(age)),
        };
        self.ask(|reply| Op::Purge(until, reply)).await
    }

    /// Keeps a setting, for who opens the file later, too.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be kept.
    pub(super) async fn set(&self, setting: Setting) -> Result<(), BackendError> {
        self.ask(|reply| Op::Set(setting, reply)).await
    }

    /// As [`close`](Self::close), and waits for it. What is told after
    /// is in vain. Where the file cannot be written, it gives up after some ten seconds. Idempotent.
    ///
    /// A process that ends without it leaves its jobs as [suspects](Stored::suspect). Jobs that have
    /// started and whose end was not told come back as the next attempt, if they were marked.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the writer ends all the same; another call waits for it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "dropped, a queue closes its file without")
    )]
    pub(crate) async fn shutdown(&self) {
        self.inbox.close();
        self.room.close();
        let mut writer = self.writer.lock().await;
        if let Some(task) = writer.as_mut() {
            // It does not panic, and an aborted one has ended, too.
            let _ = task.await;
            *writer = None;
        }
    }

    /// As [`close`](Self::close), and writes what was started of late.
    pub(super) fn close_after(&self, starts: Starts) {
        let _ = self.inbox.push(Op::Starts(starts));
        self.close();
    }

    /// Writes all that was told, then closes the file and lets others open the queue; does not wait for
    /// that.
    pub(crate) fn close(&self) {
        self.inbox.close();
    }

    fn tell(&self, op: Op) {
        if let Err(op) = self.inbox.push(op) {
            log!(warn, ?op, "told to a queue that has let go of its file");
        }
    }

    async fn ask<T: Handed>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, BackendError>>) -> Op,
    ) -> Result<T, BackendError> {
        let (sender, reply) = oneshot::channel();
        let mut asked = Asked {
            inbox: &self.inbox,
            reply,
        };
        let pushed = self.inbox.push(op(sender));
        pushed.map_err(|_| self.at(ended()))?;
        let answer = (&mut asked.reply).await;
        answer
            .map_err(|_| ended())
            .flatten()
            .map_err(|error| self.at(error))
    }

    fn at(&self, error: BackendError) -> BackendError {
        error.at(&self.path.to_string_lossy())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
