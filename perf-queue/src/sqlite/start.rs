use sqlx::{Row, SqliteConnection};

use super::error::{backend, ended, unfit};
use super::file::OwnedFile;
use super::rows::wall_clock;
use super::watch::Watch;
use super::writer::Writer;
use super::{Journal, Sqlite, Stored, dead, load, names, state};
use crate::BackendError;

/// Of the tables.
const VERSION: i64 = 1;

/// In the history of a job that was marked as started when its process ended.
const ENDED: &str = "the process ended while the job ran";

impl Sqlite {
    /// Takes a queue for this process, and reads what is there, in the order in which it runs.
    ///
    /// A job that was marked as started, by a process that has not told its end, comes back with
    /// another attempt before it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it lets go of the queue; attempts of jobs that were started may be counted already.
    pub(crate) async fn start(&self, queue: &str) -> Result<(Journal, Vec<Stored>), BackendError> {
        let started = self.try_start(queue).await;
        started.map_err(|error| error.at(&self.path.to_string_lossy()))
    }

    async fn try_start(&self, queue: &str) -> Result<(Journal, Vec<Stored>), BackendError> {
        let path = self.path.clone();
        let name = queue.to_owned();
        let file = tokio::task::spawn_blocking(move || OwnedFile::take(&path, &name));
        let mut file = file.await.map_err(|_| ended())??;
        let conn = file.open().await?;
        start_on(conn, file, queue, self.dead_letters).await
    }
}

pub(super) async fn start_on(
    mut conn: SqliteConnection,
    file: OwnedFile,
    queue: &str,
    dead_letters: usize,
) -> Result<(Journal, Vec<Stored>), BackendError> {
    let (queue, clean) = register(&mut conn, queue).await?;
    let state = state::load(&mut conn, queue).await;
    let state = state.map_err(backend)?;
    let read = read(&mut conn, queue, clean).await;
    let (jobs, watch, letters) = read.map_err(backend)?;
    let path = file.path().to_owned();
    let writer = Writer::new(file, conn, queue, dead_letters, watch, letters);
    Ok((Journal::new(writer, queue, path, state), jobs))
}

/// Makes the tables where they are missing. Returns the queue's number in the file, and whether who
/// had it before has let go of it.
async fn register(conn: &mut SqliteConnection, queue: &str) -> Result<(i64, bool), BackendError> {
    sqlx::raw_sql(include_str!("sql/schema.sql"))
        .execute(&mut *conn)
        .await
        .map_err(backend)?;
    let row = sqlx::query(include_str!("sql/register.sql"))
        .bind(queue)
        .bind(VERSION)
        .fetch_one(conn)
        .await
        .map_err(backend)?;
    let version: i64 = row.try_get(1).map_err(backend)?;
    if version > VERSION {
        return Err(unfit(format!(
            "queue {queue} was written by a newer version of perf-queue: use that one"
        )));
    }
    let found = (row.try_get(0), row.try_get(2));
    Ok((found.0.map_err(backend)?, found.1.map_err(backend)?))
}

async fn read(
    conn: &mut SqliteConnection,
    queue: i64,
    clean: bool,
) -> sqlx::Result<(Vec<Stored>, Watch, u64)> {
    state::set_taken(conn, queue).await?;
    names::forget_old(conn, wall_clock()).await?;
    sqlx::query(include_str!("sql/recover.sql"))
        .bind(queue)
        .bind(ENDED)
        .execute(&mut *conn)
        .await?;
    // In this order: a job that another connection adds in between is in both, and is left out of
    // those that arrive.
    let jobs = load::all(conn, queue, !clean).await?;
    let last = jobs.iter().map(|job| job.row.0).max();
    let mut watch = Watch::new(last.unwrap_or(0));
    watch.look(conn).await?;
    Ok((jobs, watch, dead::count(conn, queue).await?))
}
