use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::error::{unavailable, unfit};
use crate::BackendError;

/// How long a commit waits for a transaction of somebody else's to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A queue's file, owned by this queue for as long as this value lives.
#[derive(Debug)]
pub(super) struct OwnedFile {
    /// Without symbolic links.
    path: PathBuf,
    identity: Identity,
    /// Locked. The kernel lets go of it when the process ends, in whichever way.
    _lock: File,
}

impl OwnedFile {
    /// Makes the file if it is not there, and takes the queue for this process. Blocks.
    pub(super) fn take(path: &Path, queue: &str) -> Result<Self, BackendError> {
        let what = |error: io::Error| {
            unavailable(io::Error::new(
                error.kind(),
                format!("{}: {error}", path.display()),
            ))
        };
        // An empty file is an empty database. It must be there to have one name only.
        let file = File::options().append(true).create(true).open(path);
        let identity = file.and_then(|file| file.metadata()).map_err(what)?;
        let path = fs::canonicalize(path).map_err(what)?;
        Ok(Self {
            _lock: lock(&path, queue)?,
            identity: Identity::of(&identity),
            path,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still where it was. SQLite would not notice: it would write on to a file
    /// that has no name any more, and all would be lost with the process.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        let found = fs::metadata(&self.path).map(|found| Identity::of(&found));
        if found.is_ok_and(|found| found == self.identity) {
            return Ok(());
        }
        Err(unfit(format!(
            "{} was removed, or replaced by another file, while the queue was open: put it back, or \
             build the queue again",
            self.path.display()
        )))
    }

    pub(super) async fn connect(&self) -> sqlx::Result<SqliteConnection> {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // Nobody else reads the statistics that a slow statement leaves.
            .disable_statement_logging()
            .row_buffer_size(1_024)
            .connect()
            .await
    }
}

fn lock(path: &Path, queue: &str) -> Result<File, BackendError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(file_name(queue));
    name.push(".lock");
    let file = File::options().append(true).create(true).open(&name);
    let file = file.map_err(|error| {
        let name = name.display();
        unavailable(io::Error::new(error.kind(), format!("{name}: {error}")))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(unfit(format!(
            "queue {queue} of {} is open already, here or in another process: share that Queue, end \
             the other process, or use Postgres or Redis for several processes",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unfit(format!(
            "{} cannot be locked ({error}): keep the queue on a local file system",
            name.display()
        ))),
    }
}

/// The name of a queue as part of a file's name, different for different queues.
fn file_name(queue: &str) -> String {
    use std::fmt::Write;
    let mut name = String::with_capacity(queue.len());
    for byte in queue.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(name, "%{byte:02x}");
            }
        }
    }
    name
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Identity {
    #[cfg(unix)]
    fn of(file: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            inode: (file.dev(), file.ino()),
        }
    }

    /// Elsewhere an open file cannot be removed.
    #[cfg(not(unix))]
    fn of(_file: &Metadata) -> Self {
        Self {}
    }
}
