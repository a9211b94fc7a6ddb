//! What became of a Postgres transaction, by its id.

use sqlx::postgres::PgConnection;

use crate::ticket::{Outcome, TransactionId};

/// `invalid_parameter_value`: the server has not given that id yet, so it is not the one that gave
/// it.
const IN_THE_FUTURE: &str = "22023";

pub(super) async fn transaction_id(conn: &mut PgConnection) -> sqlx::Result<TransactionId> {
    let query = sqlx::query_as(include_str!("../sql/transaction_id.sql"));
    let (xid, system, timeline) = query.fetch_one(conn).await?;
    Ok(TransactionId {
        xid,
        system,
        timeline,
    })
}

pub(super) async fn outcome(conn: &mut PgConnection, id: &TransactionId) -> sqlx::Result<Outcome> {
    let query = sqlx::query_as(include_str!("../sql/outcome.sql")).bind(&id.xid);
    let answer: sqlx::Result<(Option<String>, String, String)> = query.fetch_one(conn).await;
    let (status, system, timeline) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let code = error.as_database_error().and_then(|e| e.code());
            if code.as_deref() == Some(IN_THE_FUTURE) {
                return Ok(Outcome::Forgotten);
            }
            return Err(error);
        }
    };
    if system != id.system || timeline != id.timeline {
        return Ok(Outcome::Forgotten);
    }
    Ok(match status.as_deref() {
        Some("committed") => Outcome::Committed,
        Some("aborted") => Outcome::RolledBack,
        Some("in progress") => Outcome::Running,
        // Too long ago for the server to know.
        _ => Outcome::Forgotten,
    })
}
