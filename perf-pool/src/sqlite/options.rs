use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// 64 MiB of pages a connection (negative: KiB). <https://www.sqlite.org/pragma.html#pragma_cache_size>
const CACHE_SIZE: &str = "-65536";
/// Reads come from the page cache of the system without a copy, up to this many bytes of the file.
const MMAP_SIZE: &str = "268435456";
/// What a large transaction leaves of the WAL after a checkpoint is cut back to this many bytes.
const JOURNAL_SIZE_LIMIT: &str = "67108864";

/// What readers and the writer have in common.
fn common(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(busy_timeout)
        .pragma("cache_size", CACHE_SIZE)
        .pragma("mmap_size", MMAP_SIZE)
        .pragma("temp_store", "MEMORY")
}

pub(super) fn writer(
    path: &Path,
    busy_timeout: Duration,
    synchronous: SqliteSynchronous,
) -> SqliteConnectOptions {
    common(path, busy_timeout)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        .optimize_on_close(true, None)
}

pub(super) fn reader(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    common(path, busy_timeout).read_only(true)
}
