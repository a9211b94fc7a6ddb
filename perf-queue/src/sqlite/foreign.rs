use std::path::{Path, PathBuf};

use sqlx::{Connection, SqliteConnection};

use super::error::is_stale;
use super::insert::{Insert, insert};
use super::names::{Names, forget_old};
use super::rows::wall_clock;
use super::script::Script;
use crate::remote::NewJob;
use crate::{EnqueueInError, JobId};

impl From<sqlx::Error> for EnqueueInError {
    fn from(source: sqlx::Error) -> Self {
        match is_stale(&source) {
            true => Self::Stale { source },
            false => Self::Database { source },
        }
    }
}

/// Adds a job to the transaction that is open on this connection.
pub(super) async fn enqueue_in(
    conn: &mut SqliteConnection,
    file: &Path,
    queue: i64,
    job: NewJob,
) -> Result<JobId, EnqueueInError> {
    if !conn.is_in_transaction() {
        return Err(EnqueueInError::NoTransaction);
    }
    let found: Option<String> = sqlx::query_scalar(include_str!("sql/main_file.sql"))
        .fetch_one(&mut *conn)
        .await?;
    let found = PathBuf::from(found.unwrap_or_default());
    // SQLite's name for it may lead there by a symbolic link.
    if found != file && !found.canonicalize().is_ok_and(|found| found == file) {
        return Err(EnqueueInError::OtherFile {
            found,
            queue: file.to_owned(),
        });
    }
    let now = wall_clock();
    let mut add = Insert { queue, now, job };
    if add.job.unique.is_some() {
        // To write before it reads.
        forget_old(conn, now).await?;
    }
    let mut names = Names::ask(conn, queue, now, std::iter::once(&add.job)).await?;
    if let Some(other) = names.other(&add) {
        return Ok(other);
    }
    names.write(conn, queue, now).await?;
    let mut script = Script::default();
    insert(conn, &mut script, std::slice::from_mut(&mut add)).await?;
    script.run(conn).await?;
    Ok(add.job.id)
}
