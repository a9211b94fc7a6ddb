//! What the writer is asked, and its answers.

use sqlx::SqliteConnection;

use super::super::error::backend;
use super::super::inbox::Op;
use super::super::{dead, state};
use super::Writer;
use crate::BackendError;

impl Writer {
    /// Answers who has waited for all that came before.
    pub(super) async fn answer(&mut self, ask: Op, written: Result<(), BackendError>) {
        let (queue, written) = (self.queue, written);
        match ask {
            // An answer that nobody waits for has changed nothing, or is found by the next look.
            Op::Flush(reply) => drop(reply.send(written)),
            Op::ListDead(at_most, reply) => {
                let found = match self.asked(written).await {
                    Ok(conn) => dead::list(conn, queue, at_most).await.map_err(backend),
                    Err(error) => Err(error),
                };
                drop(reply.send(found));
            }
            Op::IsDead(id, reply) => {
                let found = match self.asked(written).await {
                    Ok(conn) => dead::has(conn, queue, id).await.map_err(backend),
                    Err(error) => Err(error),
                };
                drop(reply.send(found));
            }
            Op::Replay(id, reply) => {
                let done = match self.asked(written).await {
                    Ok(conn) => dead::replay(conn, queue, id).await.map_err(backend),
                    Err(error) => Err(error),
                };
                if let Ok(Some(job)) = &done {
                    self.letters.count(0, 1, 0);
                    self.watch.own(job.row.0, job.row.0);
                    self.look().await;
                }
                if let Err(Ok(Some(job))) = reply.send(done) {
                    self.watch.deliver([job.row; 2]);
                }
            }
            Op::Purge(until, reply) => {
                let done = match self.asked(written).await {
                    Ok(conn) => dead::purge(conn, queue, until).await.map_err(backend),
                    Err(error) => Err(error),
                };
                if let Ok(purged) = done {
                    self.letters.count(0, purged, 0);
                }
                drop(reply.send(done));
            }
            Op::Set(setting, reply) => {
                let done = match self.asked(written).await {
                    Ok(conn) => state::save(conn, queue, setting).await.map_err(backend),
                    Err(error) => Err(error),
                };
                drop(reply.send(done));
            }
            _ => {}
        }
    }

    async fn asked(
        &mut self,
        written: Result<(), BackendError>,
    ) -> Result<&mut SqliteConnection, BackendError> {
        written?;
        self.file.check()?;
        self.conn().await.map_err(backend)
    }
}
