use std::collections::VecDeque;

use sqlx::SqliteConnection;
use tokio::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::load;
use super::rows::RowId;

/// Jobs in a batch.
const BATCH: i64 = 1_024;

/// How often to look, by the time since the last job was added to a transaction of the
/// application's. Beyond, jobs come from other processes only.
const PACE: [(Duration, Duration); 2] = [
    (Duration::from_secs(1), Duration::from_millis(2)),
    (Duration::from_secs(60), Duration::from_millis(20)),
];
const IDLE: Duration = Duration::from_millis(250);
/// While there are more jobs than wait to be taken.
const FULL: Duration = Duration::from_millis(2);

/// Finds jobs that others have committed: SQLite numbers rows in the order of commit, as there is one
/// transaction at a time that writes.
#[derive(Debug)]
pub(super) struct Watch {
    /// The highest number that is accounted for.
    seen: i64,
    /// To be delivered, in order.
    ranges: VecDeque<[i64; 2]>,
    looked: Instant,
    expected: Option<Instant>,
}

impl Watch {
    pub(super) fn new(seen: i64) -> Self {
        Self {
            seen,
            ranges: VecDeque::new(),
            looked: Instant::now(),
            expected: None,
        }
    }

    /// A transaction may commit jobs soon.
    pub(super) fn expect(&mut self) {
        self.expected = Some(Instant::now());
    }

    pub(super) fn deliver(&mut self, [first, last]: [RowId; 2]) {
        self.ranges.push_back([first.0, last.0]);
    }

    /// Rows of our own were just committed. What is between them and the last ones is somebody else's.
    pub(super) fn own(&mut self, first: i64, last: i64) {
        if first > self.seen + 1 {
            self.ranges.push_back([self.seen + 1, first - 1]);
        }
        self.seen = self.seen.max(last);
    }

    /// The next look is a while after that.
    pub(super) fn looked(&mut self, at: Instant) {
        self.looked = at;
    }

    /// When to look next.
    pub(super) fn next(&self) -> Instant {
        // There may be room by then.
        if self.has_more() {
            return self.looked + FULL;
        }
        let pace = self.expected.and_then(|at| {
            let since = at.elapsed();
            PACE.iter().find(|(until, _)| since < *until)
        });
        self.looked + pace.map_or(IDLE, |(_, every)| *every)
    }

    /// Looks whether somebody has committed jobs.
    pub(super) async fn look(&mut self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        let highest: i64 = sqlx::query_scalar(include_str!("sql/highest.sql"))
            .fetch_one(conn)
            .await?;
        self.own(highest + 1, highest);
        Ok(())
    }

    /// Hands over what was found, as far as there is room.
    pub(super) async fn hand_over(
        &mut self,
        conn: &mut SqliteConnection,
        queue: i64,
        arrivals: &Arrivals,
    ) -> sqlx::Result<()> {
        while let Some([first, last]) = self.ranges.front_mut() {
            if !arrivals.has_room() {
                return Ok(());
            }
            let jobs = load::range(conn, queue, [*first, *last], BATCH).await?;
            match jobs.last() {
                Some(job) if (jobs.len() as i64) == BATCH => *first = job.row.0 + 1,
                _ => {
                    self.ranges.pop_front();
                }
            }
            if !jobs.is_empty() {
                arrivals.push(jobs);
            }
        }
        Ok(())
    }

    pub(super) fn has_more(&self) -> bool {
        !self.ranges.is_empty()
    }
}
