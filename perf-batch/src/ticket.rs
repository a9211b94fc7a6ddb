//! Finding out what became of a transaction whose COMMIT was not answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::BulkDatabase;
use crate::source::{self, Link};

/// What a transaction leaves behind from which its outcome can be told.
#[derive(Debug, Clone)]
pub(crate) enum Ticket {
    /// The database keeps account of the transaction itself.
    Transaction(TransactionId),
    /// A row of the marker table, written in the same transaction.
    Marker {
        /// The table's name.
        table: Arc<str>,
        /// The row's id.
        id: String,
    },
}

/// Postgres' id of a transaction, and the server that gave it: another one, or one that was
/// restored to an earlier time, may have given the same id to another transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionId {
    /// The id, as `xid8` in text.
    pub(crate) xid: String,
    /// The server's system identifier.
    pub(crate) system: String,
    /// The timeline, as in the name of a WAL file.
    pub(crate) timeline: String,
}

/// Which ticket a transaction takes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Ticketing {
    /// None: a lost COMMIT stays unknown.
    #[default]
    Off,
    /// The transaction's id, where the database has such.
    Transaction,
    /// A row in this table.
    Marker(Arc<str>),
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is there.
    Committed,
    /// Nothing of it is, nor will be.
    RolledBack,
    /// It is still running.
    Running,
    /// The database cannot say, and will not be able to.
    Forgotten,
}

/// How long between two questions about a transaction that is still running.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Asks on new connections until the outcome is known or the time is over; `None` where it cannot
/// be known.
pub(crate) async fn resolve<DB: BulkDatabase>(
    link: &mut dyn Link<DB>,
    ticket: &Ticket,
    within: Duration,
) -> Option<bool> {
    let deadline = Instant::now() + within;
    loop {
        // The connection that failed, or the one that could not answer.
        if !link.lose() {
            return None;
        }
        let answer = timeout_at(deadline, async {
            let conn = source::conn(link).await?;
            match ticket {
                Ticket::Transaction(id) => DB::outcome(conn, id).await,
                Ticket::Marker { table, id } => DB::marked(conn, table, id).await,
            }
        });
        match answer.await {
            Ok(Ok(Outcome::Committed)) => return Some(true),
            Ok(Ok(Outcome::RolledBack)) => return Some(false),
            Ok(Ok(Outcome::Forgotten)) | Err(_) => return None,
            Ok(Ok(Outcome::Running)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the outcome of a commit could not be asked for")
            }
        }
        if Instant::now() + ASK_EVERY >= deadline {
            return None;
        }
        sleep(ASK_EVERY).await;
    }
}
