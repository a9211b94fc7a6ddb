use sqlx::SqliteConnection;

use super::changes::{Buried, Changes};
use super::inbox::Append;
use super::insert::{Insert, insert};
use super::names::Names;
use super::rows::{Added, RowId};
use super::script::Script;
use super::transaction;
use crate::BackendError;

type Answer = Result<Vec<Added>, BackendError>;

/// The jobs that one transaction adds, for several callers.
#[derive(Debug)]
pub(super) struct Group {
    appends: Vec<Append>,
    /// What became of each job, by append.
    added: Vec<Vec<Added>>,
    /// The first and the last row.
    rows: Option<[i64; 2]>,
}

impl Group {
    pub(super) const fn new(appends: Vec<Append>) -> Self {
        Self {
            appends,
            added: Vec::new(),
            rows: None,
        }
    }

    pub(super) const fn rows(&self) -> Option<[i64; 2]> {
        self.rows
    }

    /// After the commit.
    pub(super) fn answers(self) -> Vec<(Append, Answer)> {
        let added = self.added.into_iter().map(Ok);
        self.appends.into_iter().zip(added).collect()
    }

    pub(super) fn refuse(self, error: &BackendError) -> Vec<(Append, Answer)> {
        let refused = |append| (append, Err(error.clone()));
        self.appends.into_iter().map(refused).collect()
    }

    /// Adds all jobs, except for those whose name is taken; the last of them when the script is run.
    /// Returns how many.
    async fn insert(
        &mut self,
        conn: &mut SqliteConnection,
        script: &mut Script,
        queue: i64,
    ) -> sqlx::Result<i64> {
        let jobs = || self.appends.iter().flat_map(|append| &append.jobs);
        let now = self.appends.iter().map(|append| append.now).max();
        let now = now.unwrap_or(0);
        let mut names = Names::default();
        if jobs().any(|job| job.unique.is_some()) {
            // What is read must be the last.
            script.run(conn).await?;
            names = Names::ask(conn, queue, now, jobs()).await?;
        }
        let mut inserts = Vec::with_capacity(jobs().count());
        for append in &mut self.appends {
            let now = append.now;
            let mut added = Vec::with_capacity(append.jobs.len());
            for job in append.jobs.drain(..) {
                let id = job.id;
                let insert = Insert { queue, now, job };
                match names.other(&insert) {
                    Some(id) => added.push(Added { id, row: None }),
                    None => {
                        inserts.push(insert);
                        // Counted from the first row, which is known later.
                        let row = Some(RowId(inserts.len() as i64));
                        added.push(Added { id, row });
                    }
                }
            }
            self.added.push(added);
        }
        // Before the jobs, as the last row is to be that of a job.
        names.write(conn, queue, now).await?;
        insert(conn, script, &mut inserts).await?;
        Ok(inserts.len() as i64)
    }

    /// So many jobs were added, the last of them as that row.
    fn numbered(&mut self, count: i64, last: i64) {
        if count == 0 {
            return;
        }
        let before = last - count;
        for added in self.added.iter_mut().flatten() {
            if let Some(row) = &mut added.row {
                row.0 += before;
            }
        }
        self.rows = Some([before + 1, last]);
    }
}

/// Writes changes and jobs in one transaction.
pub(super) async fn commit(
    conn: &mut SqliteConnection,
    group: &mut Group,
    changes: &Changes,
    queue: i64,
    dead_letters: usize,
) -> sqlx::Result<Buried> {
    match write(conn, group, changes, queue, dead_letters).await {
        Ok(buried) => Ok(buried),
        Err(error) => Err(transaction::roll_back(conn, error).await),
    }
}

async fn write(
    conn: &mut SqliteConnection,
    group: &mut Group,
    changes: &Changes,
    queue: i64,
    dead_letters: usize,
) -> sqlx::Result<Buried> {
    let mut script = Script::default();
    script.statement(transaction::BEGIN);
    let written = changes.write(conn, &mut script, queue, dead_letters);
    let buried = written.await?;
    let count = group.insert(conn, &mut script, queue).await?;
    script.statement(transaction::COMMIT);
    let done = script.run(conn).await?;
    group.numbered(count, done.last_insert_rowid());
    Ok(buried)
}
