use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::unique;

/// How long a server may take from its start until it takes connections; a busy CI machine with
/// a slow disk needs a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// Ports below the range that the kernel gives to outgoing connections, so that no client of a
/// test can sit on the port of a server that restarts.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
const PORT_ATTEMPTS: u32 = 5;

/// What to run; the shell code sees `$dir`, `$port` and `$TESTKIT_BIN`.
pub(crate) struct Program<'a> {
    pub(crate) name: &'static str,
    pub(crate) bin: PathBuf,
    pub(crate) account: Option<Account>,
    pub(crate) prepare: &'static str,
    pub(crate) start: &'a OsStr,
    /// The signal that stops the server at once, when nobody is interested in it any more.
    pub(crate) halt: &'static str,
    /// Whether the server takes connections.
    pub(crate) ready: fn(&Watched) -> bool,
}

/// A server that runs under a watchdog process, which stops it and removes its directory when
/// this is dropped or when this process ends, whichever way.
#[derive(Debug)]
pub(crate) struct Watched {
    dir: PathBuf,
    ready: fn(&Watched) -> bool,
    line: Mutex<Line>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Line {
    watchdog: Child,
    replies: BufReader<ChildStdout>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    pub(crate) port: u16,
    pub(crate) pid: u32,
}

impl Watched {
    /// Prepares the directory and starts the server on a free port.
    pub(crate) fn start(program: &Program<'_>) -> Result<Self, String> {
        let dir = directory(program);
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(include_str!("watchdog.sh"))
            .env("TESTKIT_DIR", &dir)
            .env("TESTKIT_BIN", &program.bin)
            .env("TESTKIT_PREPARE", program.prepare)
            .env("TESTKIT_START", program.start)
            .env("TESTKIT_HALT", program.halt)
            // Otherwise Postgres on macOS starts threads to find out the locale, and refuses.
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own: Ctrl-C in the terminal is for the tests, and the watchdog has
            // to outlive them.
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        if let Some(account) = program.account {
            command.uid(account.uid).gid(account.gid);
        }
        let mut watchdog = command
            .spawn()
            .map_err(|error| format!("its watchdog does not run: {error}"))?;
        let Some(replies) = watchdog.stdout.take() else {
            return Err("its watchdog has no standard output".to_owned());
        };
        let watched = Self {
            dir,
            ready: program.ready,
            line: Mutex::new(Line {
                watchdog,
                replies: BufReader::new(replies),
            }),
            state: Mutex::new(State { port: 0, pid: 0 }),
        };
        match watched.ask("prepare")?.as_str() {
            "prepared" => watched.launch_on_a_free_port()?,
            _ => return Err(watched.with_log("its directory cannot be prepared")),
        }
        Ok(watched)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server printed so far.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Sends `signal` and waits for the server's end; at once where it does not run.
    pub(crate) fn stop(&self, signal: &str) -> Result<(), String> {
        self.ask(&format!("stop {signal}")).map(drop)
    }

    /// Starts the stopped server again, on the port that it had.
    pub(crate) fn relaunch(&self) -> Result<(), String> {
        let port = self.state().port;
        if self.launch(port)? {
            Ok(())
        } else {
            Err(self.with_log(&format!("it ended while starting again on port {port}")))
        }
    }

    fn launch_on_a_free_port(&self) -> Result<(), String> {
        // Between the look for a free port and the server's bind another process may take it.
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port().map_err(|error| format!("no free port: {error}"))?;
            if self.launch(port)? {
                return Ok(());
            }
            self.stop("KILL")?;
        }
        Err(self.with_log("it ended while starting"))
    }

    /// Whether the server came up; `false` where it ended instead.
    fn launch(&self, port: u16) -> Result<bool, String> {
        let reply = self.ask(&format!("start {port}"))?;
        let pid = reply
            .strip_prefix("started ")
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| self.with_log(&format!("its watchdog said {reply:?}")))?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { port, pid };
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if (self.ready)(self) {
                return Ok(true);
            }
            if self.dir.join("exited").exists() {
                return Ok(false);
            }
            thread::sleep(POLL_EVERY);
        }
        Err(self.with_log(&format!("it was not ready within {READY_WITHIN:?}")))
    }

    fn ask(&self, question: &str) -> Result<String, String> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.ask(question)
            .map_err(|error| format!("its watchdog does not answer: {error}"))
    }

    fn with_log(&self, message: &str) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.split_at(lines.len().saturating_sub(20)).1.join("\n");
        format!("{message}; the end of its log:\n{tail}")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let line = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closes the watchdog's standard input, and waits until it has cleaned up.
        let _ = line.watchdog.wait();
    }
}

impl Line {
    fn ask(&mut self, question: &str) -> io::Result<String> {
        let Some(stdin) = &mut self.watchdog.stdin else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(format!("{question}\n").as_bytes())?;
        let mut reply = String::new();
        if self.replies.read_line(&mut reply)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(reply.trim_end().to_owned())
    }
}

/// A new directory's path, where the server's user can make it and short enough for the path of
/// a Unix socket in it (104 bytes on macOS).
fn directory(program: &Program<'_>) -> PathBuf {
    let name = unique(&format!("perf_test_{}", program.name));
    let temporary = std::env::temp_dir();
    if program.account.is_none() && temporary.as_os_str().len() < 50 {
        temporary.join(name)
    } else {
        Path::new("/tmp").join(name)
    }
}

fn free_port() -> io::Result<u16> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..100 {
        let port = fastrand::u16(PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use super::{Program, Watched};

    fn sleeper() -> Program<'static> {
        Program {
            name: "sleeper",
            bin: "/bin".into(),
            account: None,
            prepare: "echo prepared it",
            start: OsStr::new("exec sleep 1000"),
            halt: "TERM",
            ready: |_| true,
        }
    }

    #[test]
    fn a_server_that_ends_while_starting_is_reported_with_its_log() {
        let error = Watched::start(&Program {
            start: OsStr::new("echo the port is taken; exit 1"),
            ready: |_| false,
            ..sleeper()
        })
        .unwrap_err();
        assert!(error.starts_with("it ended while starting"), "{error}");
        assert!(error.ends_with("the port is taken"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_prepared_is_reported_with_the_log() {
        let error = Watched::start(&Program {
            prepare: "echo no space left; exit 1",
            ..sleeper()
        })
        .unwrap_err();
        assert!(error.ends_with("no space left"), "{error}");
    }

    #[test]
    fn a_dropped_server_ends_even_while_it_is_suspended() {
        let server = Watched::start(&sleeper()).unwrap();
        assert!(server.log().starts_with("prepared it"));
        let (dir, pid) = (server.dir().to_owned(), server.state().pid.to_string());
        assert!(kill("-STOP", &pid));
        drop(server);
        assert!(!dir.exists());
        assert!(!kill("-0", &pid));
    }

    #[test]
    fn a_server_that_died_by_itself_can_be_stopped_and_started_again() {
        let server = Watched::start(&sleeper()).unwrap();
        let first = server.state();
        assert!(kill("-KILL", &first.pid.to_string()));
        server.stop("TERM").unwrap();
        server.stop("TERM").unwrap();
        server.relaunch().unwrap();
        assert_eq!(server.state().port, first.port);
        assert_ne!(server.state().pid, first.pid);
    }

    fn kill(signal: &str, pid: &str) -> bool {
        let mut kill = Command::new("/bin/sh");
        kill.args(["-c", r#"kill "$1" "$2" 2>/dev/null"#, "sh", signal, pid]);
        kill.status().unwrap().success()
    }
}
