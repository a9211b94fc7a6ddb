//! The batcher over a sink that is played, on the paused clock.

mod faults;
mod lifecycle;
mod limits;
mod outcomes;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::builder::{Options, start};
use super::sink::{Sink, Written};
use super::{AddError, Batcher};
use crate::BatchError;
use crate::engine::Refusal;
use crate::phase::Phase;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Refused,
    FailsAtAdd,
    PanicsAtAdd,
    PanicsAtWrite,
    PanicsAtDrop,
}

#[derive(Debug)]
struct Row {
    id: u64,
    bytes: usize,
    kind: Kind,
}

impl Drop for Row {
    fn drop(&mut self) {
        if self.kind == Kind::PanicsAtDrop && !std::thread::panicking() {
            self.kind = Kind::Good;
            panic!("dropped");
        }
    }
}

fn row(id: u64) -> Row {
    of(Kind::Good, id)
}

fn of(kind: Kind, id: u64) -> Row {
    Row { id, bytes: 1, kind }
}

fn sized(id: u64, bytes: usize) -> Row {
    Row {
        id,
        bytes,
        kind: Kind::Good,
    }
}

fn measure(row: &Row) -> Result<usize, String> {
    match row.kind {
        Kind::FailsAtAdd => Err("cannot be encoded".to_owned()),
        Kind::PanicsAtAdd => {
            super::panics::contained(|| panic!("encoding")).map_err(|panic| panic.to_owned())
        }
        _ => Ok(row.bytes),
    }
}

/// What the next write does instead of writing.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Fatal,
    CommitUnknown,
    Range,
    Hangs,
    HangsInCommit,
    PanicsInCommit,
    PanicsWhenDropped,
}

#[derive(Default)]
struct Log {
    /// The rows of each write that was begun.
    begun: Mutex<Vec<Vec<u64>>>,
    /// The rows of each commit.
    written: Mutex<Vec<Vec<u64>>>,
    faults: Mutex<VecDeque<Fault>>,
    refuses_connections: Mutex<usize>,
}

/// Writes into a log; a connection and a write each take a permit, which tests can hold back.
#[derive(Clone)]
struct Fake {
    log: Arc<Log>,
    connections: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

const MANY: usize = 1 << 20;

impl Fake {
    fn new() -> Self {
        Self::with(MANY, MANY)
    }

    fn with(connections: usize, writes: usize) -> Self {
        Self {
            log: Arc::default(),
            connections: Arc::new(Semaphore::new(connections)),
            writes: Arc::new(Semaphore::new(writes)),
        }
    }

    fn fault(&self, fault: Fault) {
        self.log.faults.lock().unwrap().push_back(fault);
    }

    fn begun(&self) -> Vec<Vec<u64>> {
        self.log.begun.lock().unwrap().clone()
    }

    fn written(&self) -> Vec<Vec<u64>> {
        self.log.written.lock().unwrap().clone()
    }

    fn batcher(&self, set: impl FnOnce(&mut Options<Row>)) -> Batcher<Row> {
        let mut options = Options::default();
        set(&mut options);
        start(self.clone(), options, "fake".to_owned(), measure)
    }
}

impl Sink<Row> for Fake {
    type Conn<'a> = ();

    async fn connect(&self) -> Result<(), sqlx::Error> {
        self.connections.acquire().await.unwrap().forget();
        let mut refuses = self.log.refuses_connections.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            return Err(sqlx::Error::PoolTimedOut);
        }
        Ok(())
    }

    async fn write(&self, (): (), rows: &[Row], phase: &Phase) -> Result<Written, BatchError> {
        let ids = |rows: &[Row]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        self.log.begun.lock().unwrap().push(ids(rows));
        phase.settles();
        self.writes.acquire().await.unwrap().forget();
        let source = || sqlx::Error::WorkerCrashed;
        let count = rows.len();
        let fault = self.log.faults.lock().unwrap().pop_front();
        match fault {
            None => {}
            Some(Fault::Fatal) => {
                return Err(BatchError::Database {
                    rows: count,
                    source: sqlx::Error::PoolClosed,
                });
            }
            Some(Fault::CommitUnknown) => {
                return Err(BatchError::CommitUnknown {
                    rows: count,
                    source: source(),
                });
            }
            Some(Fault::Range) => {
                return Err(BatchError::Range {
                    first: 0,
                    last: count - 1,
                    message: "a constraint".into(),
                    source: Some(Box::new(source())),
                });
            }
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::PanicsWhenDropped) => {
                let _bomb = of(Kind::PanicsAtDrop, 0);
                std::future::pending().await
            }
            Some(Fault::HangsInCommit) => {
                phase.commits();
                std::future::pending().await
            }
            Some(Fault::PanicsInCommit) => {
                phase.commits();
                panic!("committing");
            }
        }
        if rows.iter().any(|row| row.kind == Kind::PanicsAtWrite) {
            panic!("written");
        }
        let refused = |row: &Row| row.kind == Kind::Refused;
        let failed = rows.iter().enumerate().filter(|(_, row)| refused(row));
        let failed: Vec<_> = failed
            .map(|(index, _)| (index, Refusal::by_encoding("refused".into())))
            .collect();
        phase.commits();
        let good: Vec<_> = rows.iter().filter(|row| !refused(row)).collect();
        let good = good.iter().map(|row| row.id).collect();
        self.log.written.lock().unwrap().push(good);
        Ok(Written {
            written: (count - failed.len()) as u64,
            failed,
            ..Written::default()
        })
    }
}

/// On the paused clock this returns once all other tasks wait for something.
async fn others_idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The outcome in a word.
fn word(outcome: &Result<(), AddError<Row>>) -> &'static str {
    outcome.as_ref().map_or_else(failure, |()| "written")
}

fn failure(error: &AddError<Row>) -> &'static str {
    match error {
        AddError::Closed(_) => "closed",
        AddError::Full(_) => "full",
        AddError::TooLarge { .. } => "too large",
        AddError::Refused(_) => "refused",
        AddError::Timeout(_) => "timeout",
        AddError::CommitUnknown { .. } => "unknown",
        AddError::Batch { .. } => "batch",
        AddError::Lost => "lost",
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
