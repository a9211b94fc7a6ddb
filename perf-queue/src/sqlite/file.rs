use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::error::{backend, unavailable, unfit};
use crate::BackendError;

/// How long a commit waits for a transaction of somebody else's to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A queue's file, owned by this queue for as long as this value lives.
///
/// The file itself is opened by SQLite alone: when a process closes a file, it loses all its locks of
/// that file, those of its other connections too.
#[derive(Debug)]
pub(super) struct OwnedFile {
    /// Without symbolic links.
    path: PathBuf,
    /// Once it is known to be there.
    identity: Option<Identity>,
    /// Locked. The kernel lets go of it when the process ends, in whichever way.
    lock: File,
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        // Closing it would do, if no other thread is about to start a program: the child has a copy of
        // the open file until then. Where this fails, that is how it ends.
        let _ = self.lock.unlock();
    }
}

impl OwnedFile {
    /// Takes the queue for this process. Blocks.
    pub(super) fn take(path: &Path, queue: &str) -> Result<Self, BackendError> {
        let path = resolve(path).map_err(|error| {
            let path = path.display();
            unavailable(io::Error::new(error.kind(), format!("{path}: {error}")))
        })?;
        Ok(Self {
            lock: lock(&path, queue)?,
            identity: None,
            path,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file if it is not there.
    pub(super) async fn open(&mut self) -> Result<SqliteConnection, BackendError> {
        let conn = self.options().create_if_missing(true).connect().await;
        let conn = conn.map_err(backend)?;
        self.identity = fs::metadata(&self.path).ok().map(|it| Identity::of(&it));
        // It had one name before it was there, and has another one now.
        if fs::canonicalize(&self.path).is_ok_and(|path| path != self.path) {
            return Err(unfit(format!(
                "{} was a symbolic link to nowhere: build the queue again",
                self.path.display()
            )));
        }
        self.check()?;
        Ok(conn)
    }

    /// Whether the file is still where it was. SQLite would not notice: it would write on to a file
    /// that has no name any more, and all would be lost with the process.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        let found = fs::metadata(&self.path).map(|found| Identity::of(&found));
        if found.is_ok_and(|found| self.identity == Some(found)) {
            return Ok(());
        }
        Err(unfit(format!(
            "{} was removed, or replaced by another file, while the queue was open: put it back, or \
             build the queue again",
            self.path.display()
        )))
    }

    /// Opens the file once more; the same file.
    pub(super) async fn connect(&self) -> sqlx::Result<SqliteConnection> {
        let conn = self.options().create_if_missing(false).connect().await?;
        self.check()
            .map_err(|error| sqlx::Error::Io(io::Error::other(error)))?;
        Ok(conn)
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // Errors are said where they matter.
            .disable_statement_logging()
            .statement_cache_capacity(128)
            .row_buffer_size(1_024)
    }
}

/// The one name of a file that may not be there yet.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(error)?;
            let parent = match path.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            Ok(fs::canonicalize(parent)?.join(name))
        }
        found => found,
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
