mod answers;

use std::sync::Arc;

use sqlx::{Connection, SqliteConnection};
use tokio::time::{Duration, Instant, sleep_until};

use super::Added;
use super::arrivals::Arrivals;
use super::changes::{Buried, Changes};
use super::dead::Letters;
use super::error::{backend, is_busy, keeps_connection};
use super::file::OwnedFile;
use super::group::{Group, commit};
use super::inbox::{Append, Due, Inbox, Op};
use super::state::{self, Starts};
use super::watch::Watch;
use crate::BackendError;
use crate::job_error::chain;
use crate::panics::log;

/// How long ended jobs wait for others, to be written with them; nobody waits for them.
const LINGER: Duration = Duration::from_millis(5);

/// How long to wait after a failed commit, the first and every later time.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// How long after a failed look for jobs of others to look again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a journal that is shut down tries to write what it has.
const LAST_TRIES: Duration = Duration::from_secs(10);

/// The task that writes a queue's file: the only one of the queue that does, so that everything that
/// has come while it commits is in the next commit.
#[derive(Debug)]
pub(super) struct Writer {
    conn: Option<SqliteConnection>,
    queue: i64,
    dead_letters: usize,
    changes: Changes,
    watch: Watch,
    arrivals: Arc<Arrivals>,
    letters: Arc<Letters>,
    failing: Option<Failing>,
    starts: Option<Starts>,
    /// Dropped last: others may open the queue then.
    file: OwnedFile,
}

/// The last commit failed.
#[derive(Debug)]
struct Failing {
    since: Instant,
    wait: Duration,
    until: Instant,
}

struct Failed {
    error: BackendError,
    /// Another attempt at once would only wait again.
    busy: bool,
}

type Answers = Vec<(Append, Result<Vec<Added>, BackendError>)>;

impl Writer {
    pub(super) fn new(
        file: OwnedFile,
        conn: SqliteConnection,
        queue: i64,
        dead_letters: usize,
        watch: Watch,
        letters: u64,
    ) -> Self {
        Self {
            conn: Some(conn),
            queue,
            dead_letters,
            changes: Changes::default(),
            watch,
            arrivals: Arc::default(),
            letters: Arc::new(Letters::new(letters)),
            failing: None,
            starts: None,
            file,
        }
    }

    pub(super) fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    pub(super) fn letters(&self) -> Arc<Letters> {
        Arc::clone(&self.letters)
    }

    pub(super) async fn run(mut self, inbox: Arc<Inbox>) {
        let mut ops = Vec::new();
        loop {
            let last = self.wait(&inbox).await;
            inbox.take(&mut ops);
            self.handle(&mut ops).await;
            if last {
                break;
            }
        }
        self.end().await;
    }

    /// Waits until there is something to do. True if it is for the last time.
    async fn wait(&self, inbox: &Inbox) -> bool {
        loop {
            let mut at = self.watch.next();
            match inbox.due() {
                Due::Last => return true,
                Due::Now => return false,
                Due::Since(since) => at = at.min(since + LINGER),
                Due::Nothing => {}
            }
            if let Some(mark) = self.changes.next_mark() {
                at = at.min(mark);
            }
            if let Some(failing) = &self.failing
                && !self.changes.is_empty()
            {
                at = at.min(failing.until);
            }
            tokio::select! {
                biased;
                () = sleep_until(at) => return false,
                () = inbox.woken.notified() => {}
            }
        }
    }

    async fn handle(&mut self, ops: &mut Vec<Op>) {
        let mut appends = Vec::new();
        let mut asks = Vec::new();
        for op in ops.drain(..) {
            match op {
                // Nobody waits for it any more, and nothing has happened yet.
                Op::Append(append) if append.reply.is_closed() => {}
                Op::Append(append) => appends.push(append),
                Op::Started(row, at) => self.changes.started(row, at),
                Op::Mark(row, reply) => {
                    self.changes.mark_at_once(row, Instant::now());
                    asks.push(Op::Flush(reply));
                }
                Op::Ended(row, end, at) => self.changes.ended(row, end, at),
                Op::Deliver(rows) => self.watch.deliver(rows),
                Op::Expect => self.watch.expect(),
                Op::Starts(starts) => self.starts = Some(starts),
                Op::Flush(_)
                | Op::ListDead(..)
                | Op::IsDead(..)
                | Op::Replay(..)
                | Op::Purge(..)
                | Op::Set(..) => asks.push(op),
            }
        }
        let now = Instant::now();
        self.changes.mark(now);
        let waited_for = !appends.is_empty() || !asks.is_empty();
        let retry = self.failing.as_ref().is_none_or(|it| it.until <= now);
        let mut written = Ok(());
        let mut answers = Vec::new();
        if !appends.is_empty() || (!self.changes.is_empty() && (waited_for || retry)) {
            (answers, written) = self.commit(appends).await;
        }
        // Before the answers: who adds a job after the commit of another one sees that one first.
        self.look().await;
        for (append, answer) in answers {
            // Handed over, it must be delivered in another way if nobody takes it.
            if let Err(Ok(added)) = append.reply.send(answer) {
                self.deliver(&added);
            }
        }
        for ask in asks {
            self.answer(ask, written.clone()).await;
        }
    }

    /// Commits all changes and jobs, or the changes alone if that fails: ended jobs make room on a
    /// disk that is full.
    async fn commit(&mut self, appends: Vec<Append>) -> (Answers, Result<(), BackendError>) {
        let mut group = Group::new(appends);
        match self.transact(&mut group).await {
            Ok(()) => (group.answers(), Ok(())),
            Err(failed) => {
                let answers = group.refuse(&failed.error);
                let again = !answers.is_empty() && !failed.busy && !self.changes.is_empty();
                let alone = match again {
                    true => self.transact(&mut Group::new(Vec::new())).await,
                    false => Err(failed),
                };
                (answers, alone.map_err(|failed| failed.error))
            }
        }
    }

    async fn transact(&mut self, group: &mut Group) -> Result<(), Failed> {
        let done = self.try_transact(group).await;
        match &done {
            Ok(()) => {
                self.changes.written();
                if let Some(failing) = self.failing.take() {
                    let after = failing.since.elapsed();
                    log!(info, ?after, "the queue's file can be written again");
                }
                if let Some([first, last]) = group.rows() {
                    self.watch.own(first, last);
                }
            }
            Err(failed) => self.failed(&failed.error),
        }
        done
    }

    async fn try_transact(&mut self, group: &mut Group) -> Result<(), Failed> {
        let unfit = |error| Failed { error, busy: false };
        self.file.check().map_err(unfit)?;
        let changes = std::mem::take(&mut self.changes);
        let (queue, dead_letters) = (self.queue, self.dead_letters);
        let done = match self.conn().await {
            Ok(conn) => commit(conn, group, &changes, queue, dead_letters).await,
            Err(error) => Err(error),
        };
        self.changes = changes;
        match done {
            Ok(Buried { added, dropped }) => {
                self.letters.count(added, 0, dropped);
                if dropped > 0 {
                    log!(warn, dropped, "dead letters dropped: no room");
                }
            }
            Err(error) => {
                if !keeps_connection(&error) {
                    self.conn = None;
                }
                return Err(Failed {
                    busy: is_busy(&error),
                    error: backend(error),
                });
            }
        }
        // What went to a file that has no name any more is not durable.
        self.file.check().map_err(unfit)
    }

    fn failed(&mut self, error: &BackendError) {
        let now = Instant::now();
        let [first, most] = BACKOFF;
        let (since, wait) = match &self.failing {
            Some(before) => (before.since, (before.wait * 2).min(most)),
            None => (now, first),
        };
        let jobs = self.changes.len();
        let error = chain(error);
        log!(
            warn,
            error,
            jobs,
            ?wait,
            "the queue's file was not written; ended jobs are kept"
        );
        self.failing = Some(Failing {
            since,
            wait,
            until: now + wait,
        });
    }

    async fn conn(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.file.connect().await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// Looks for jobs of others if it is time to, and hands over what there is.
    async fn look(&mut self) {
        let now = Instant::now();
        let due = self.watch.next() <= now;
        if !due && !self.watch.has_more() {
            return;
        }
        if let Err(error) = self.try_look(due).await {
            log!(warn, %error, "no look at what others have added to the queue's file");
            if !keeps_connection(&error) {
                self.conn = None;
            }
            self.watch.looked(now + LOOK_AGAIN);
        } else if due {
            self.watch.looked(now);
        }
    }

    async fn try_look(&mut self, due: bool) -> sqlx::Result<()> {
        // Taken out, so that the connection and the watch can be borrowed at once.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.file.connect().await?,
        };
        let looked = match due {
            true => self.watch.look(&mut conn).await,
            false => Ok(()),
        };
        let done = match looked {
            Ok(()) => {
                let (queue, arrivals) = (self.queue, &self.arrivals);
                self.watch.hand_over(&mut conn, queue, arrivals).await
            }
            Err(error) => Err(error),
        };
        self.conn = Some(conn);
        done
    }

    fn deliver(&mut self, added: &[Added]) {
        let mut rows = added.iter().filter_map(|added| added.row);
        if let Some(first) = rows.next() {
            let last = rows.next_back().unwrap_or(first);
            self.watch.deliver([first, last]);
        }
    }

    /// Writes what is left, then closes the file.
    async fn end(mut self) {
        let until = Instant::now() + LAST_TRIES;
        while let Some(failing) = &self.failing
            && !self.changes.is_empty()
        {
            if failing.until > until {
                let jobs = self.changes.len();
                log!(
                    error,
                    jobs,
                    "ended jobs are not in the file, and will run again"
                );
                break;
            }
            sleep_until(failing.until).await;
            // Said by itself.
            let _ = self.commit(Vec::new()).await;
        }
        let Some(mut conn) = self.conn.take() else {
            return;
        };
        let clean = state::set_free(&mut conn, self.queue, self.starts.take(), true).await;
        if let Err(error) = clean.and(conn.close().await) {
            log!(warn, %error, "the queue's file was not closed well");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.arrivals.end();
    }
}
