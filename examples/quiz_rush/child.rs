//! The two ends of a line of JSON between the conductor and a child process.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

/// A child process in one role, seen from the conductor. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this program again with these arguments.
    pub(crate) fn start(
        name: &'static str,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self> {
        let exe = std::env::current_exe().context("find the path of this program")?;
        let mut process = Command::new(exe)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start the process of the {name}"))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the process of the {name} has no pipes");
        };
        Ok(Self {
            name,
            process,
            stdin,
            stdout: BufReader::new(stdout).lines(),
        })
    }

    /// Tells the child something.
    pub(crate) async fn tell(&mut self, command: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let told = async {
            self.stdin.write_all(&line).await?;
            self.stdin.flush().await
        };
        if told.await.is_err() {
            return Err(self.stopped_early().await);
        }
        Ok(())
    }

    /// The next thing the child tells; an error if it ends instead. Dropped before that, it has
    /// lost nothing.
    pub(crate) async fn next<E: DeserializeOwned>(&mut self) -> Result<E> {
        match self.stdout.next_line().await? {
            Some(line) => serde_json::from_str(&line)
                .with_context(|| format!("the {} said {line:?}", self.name)),
            None => Err(self.stopped_early().await),
        }
    }

    /// For a child that has closed a pipe of its own accord, which it does by ending.
    async fn stopped_early(&mut self) -> anyhow::Error {
        match self.process.wait().await {
            Ok(status) => anyhow!("the {} stopped early ({status})", self.name),
            Err(error) => anyhow!(error).context(format!("the {} stopped early", self.name)),
        }
    }

    /// Waits for the child's own end.
    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.stdin);
        let status = self.process.wait().await?;
        if !status.success() {
            bail!("the {} ended with {status}", self.name);
        }
        Ok(())
    }
}

/// The commands from the conductor, in a child; ends when the conductor is gone.
///
/// Standard input is read on a thread of its own: a runtime would wait for its blocked read when
/// it shuts down.
pub(crate) fn commands<C: DeserializeOwned + Send + 'static>() -> mpsc::Receiver<C> {
    let (tx, rx) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(command) = line
                .map_err(anyhow::Error::from)
                .and_then(|l| Ok(serde_json::from_str(&l)?))
            else {
                break;
            };
            if tx.blocking_send(command).is_err() {
                break;
            }
        }
    });
    rx
}

/// Tells the conductor something, from a child.
pub(crate) fn report(event: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()?;
    Ok(())
}
