//! A slower disk for a server: a library to preload, which makes each `fdatasync` and `fsync`
//! wait before it does its work. Linux only.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::{OwnPostgres, PostgresOptions};

const SOURCE: &str = include_str!("../shim/slow_fdatasync.c");
const DELAY: &str = "PERF_FSYNC_DELAY_US";

/// The compiled library, in a temporary directory that goes with this: keep it as long as the
/// server may start processes.
#[derive(Debug)]
pub struct SlowSync {
    dir: TempDir,
}

impl SlowSync {
    /// Compiles the library with `CC`, or `cc` where that is not set.
    ///
    /// # Errors
    ///
    /// If there is no compiler, if it fails, and if the directory cannot be made; the text says
    /// which.
    pub fn compile() -> Result<Self, String> {
        match std::env::var("CC") {
            Ok(compiler) if !compiler.is_empty() => Self::compile_with(&compiler),
            _ => Self::compile_with("cc"),
        }
    }

    fn compile_with(compiler: &str) -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("a slower fdatasync is for Linux only".to_owned());
        }
        let dir = directory()
            .map_err(|error| format!("no directory for the slower fdatasync: {error}"))?;
        let source = dir.path().join("slow_fdatasync.c");
        fs::write(&source, SOURCE)
            .map_err(|error| format!("{} cannot be written: {error}", source.display()))?;
        let shim = Self { dir };
        let library = shim.library();
        let output = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .map_err(|error| {
                format!(
                    "the C compiler `{compiler}` does not run ({error}): \
                     install `gcc`, or set CC"
                )
            })?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the C compiler `{compiler}` failed: {why}"));
        }
        // Whatever the umask: the server may run as another user.
        fs::set_permissions(&library, Permissions::from_mode(0o755))
            .map_err(|error| format!("{} cannot be shared: {error}", library.display()))?;
        Ok(shim)
    }

    /// The library's path, for `LD_PRELOAD`.
    pub fn library(&self) -> PathBuf {
        self.dir.path().join("slow_fdatasync.so")
    }

    /// `options` for a server whose disk takes `delay` longer for each `fdatasync` and `fsync`;
    /// precise to a microsecond. Starts, checkpoints and recovery take as much longer a file.
    pub fn slow(&self, delay: Duration, options: PostgresOptions) -> PostgresOptions {
        options
            .env("LD_PRELOAD", self.library())
            .env(DELAY, delay.as_micros().to_string())
    }

    /// Checks that `server` runs with the library: the loader only warns where it cannot read it.
    ///
    /// # Errors
    ///
    /// If the server runs without it, or does not run.
    pub fn check(&self, server: &OwnPostgres) -> Result<(), String> {
        let maps = format!("/proc/{}/maps", server.pid());
        let library = self.library();
        let loaded = fs::read(&maps).map_err(|error| format!("{maps} cannot be read: {error}"))?;
        if String::from_utf8_lossy(&loaded).contains(&*library.to_string_lossy()) {
            return Ok(());
        }
        let (library, dir) = (library.display(), server.dir().display());
        Err(format!(
            "Postgres runs without {library}: its log in {dir} says why"
        ))
    }
}

/// A directory into which every user may look; that of `TMPDIR` may be in a private one.
fn directory() -> io::Result<TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("perf_slow_sync_")
        .tempdir_in("/tmp")?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
    Ok(dir)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::{Duration, Instant};

    use sqlx::{Connection, PgConnection};
    use testkit::{OwnPostgres, Postgres, PostgresOptions};

    use super::SlowSync;

    const COMMITS: usize = 21;
    const DELAY: Duration = Duration::from_millis(10);

    async fn connect(server: &OwnPostgres) -> PgConnection {
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        let method: String = sqlx::query_scalar("SHOW wal_sync_method")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(method, "fdatasync");
        sqlx::raw_sql("CREATE TABLE rows (id int)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }

    async fn commit(connection: &mut PgConnection) -> Duration {
        let start = Instant::now();
        sqlx::raw_sql("INSERT INTO rows VALUES (1)")
            .execute(connection)
            .await
            .unwrap();
        start.elapsed()
    }

    #[tokio::test]
    async fn a_commit_of_postgres_waits_for_the_slower_disk() {
        let shim = SlowSync::compile().unwrap();
        let undelayed = PostgresOptions::new().env("LD_PRELOAD", shim.library());
        let delayed = shim.slow(DELAY, PostgresOptions::new());
        let mut servers = Vec::new();
        for options in [PostgresOptions::new(), undelayed, delayed] {
            let Some(server) = Postgres::start_with(options).await else {
                return;
            };
            servers.push((connect(&server).await, server));
        }
        shim.check(&servers[0].1).unwrap_err();
        shim.check(&servers[1].1).unwrap();
        shim.check(&servers[2].1).unwrap();

        // In turns, since the disk's own time drifts.
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..COMMITS {
            for ((connection, _), times) in servers.iter_mut().zip(&mut times) {
                times.push(commit(connection).await);
            }
        }
        let [plain, undelayed, delayed] = times.map(|mut times| {
            times.sort();
            times[COMMITS / 2]
        });
        println!("a commit: {plain:?}, preloaded {undelayed:?}, with {DELAY:?} {delayed:?}");
        assert!(delayed >= DELAY, "{delayed:?}");
        let difference = delayed.saturating_sub(plain.max(undelayed));
        assert!(
            difference >= DELAY / 2,
            "{plain:?} {undelayed:?} {delayed:?}"
        );
    }

    #[test]
    fn a_missing_compiler_is_named_with_the_remedy() {
        let error = SlowSync::compile_with("no-such-compiler").unwrap_err();
        assert!(error.contains("`no-such-compiler` does not run"), "{error}");
        assert!(error.ends_with("install `gcc`, or set CC"), "{error}");
    }

    #[test]
    fn what_a_failing_compiler_says_is_kept() {
        let error = SlowSync::compile_with("false").unwrap_err();
        assert!(
            error.starts_with("the C compiler `false` failed"),
            "{error}"
        );
    }
}
