use sqlx::Database;

use super::Engine;

/// The one savepoint of a batch, moved behind what went in.
///
/// Rolling back to it leaves it in place, so an attempt costs one request beside its insert, and
/// savepoints never stack: `RELEASE` closes it at the end.
pub(crate) struct Savepoint;

impl Savepoint {
    pub(crate) async fn set<DB: Engine>(
        conn: &mut <DB as Database>::Connection,
    ) -> sqlx::Result<()> {
        DB::command(conn, include_str!("../sql/savepoint.sql")).await
    }

    /// What was inserted since stays, whatever happens to the next insert.
    pub(crate) async fn advance<DB: Engine>(
        conn: &mut <DB as Database>::Connection,
    ) -> sqlx::Result<()> {
        DB::command(conn, include_str!("../sql/advance.sql")).await
    }

    /// Undoes the failed insert, whatever it left behind.
    pub(crate) async fn retreat<DB: Engine>(
        conn: &mut <DB as Database>::Connection,
    ) -> sqlx::Result<()> {
        DB::command(conn, include_str!("../sql/retreat.sql")).await
    }

    pub(crate) async fn release<DB: Engine>(
        conn: &mut <DB as Database>::Connection,
    ) -> sqlx::Result<()> {
        DB::command(conn, include_str!("../sql/release.sql")).await
    }
}
