use std::fmt;
use std::ops::{Deref, DerefMut};

use futures_core::future::BoxFuture;
use sqlx::{Acquire, Database, SqlStr};
use sqlx_core::transaction::TransactionManager;

use crate::PoolConnection;

/// A transaction on a connection of a [`Pool`](crate::Pool); see [`Pool::begin`](crate::Pool::begin).
///
/// Used like sqlx's own: it derefs to the driver's connection, so `query.execute(&mut *tx)` works,
/// and `tx.begin()` of [`sqlx::Acquire`] sets a savepoint. Dropping it without a
/// [`commit`](Self::commit) rolls it back and gives the connection back. It is a type of its own,
/// because sqlx's cannot hold a guard of this pool; code that insists on a [`sqlx::Transaction`]
/// gets one from [`sqlx::Acquire::begin`] on `&pool`.
pub struct Transaction<DB: Database> {
    conn: PoolConnection<DB>,
    open: bool,
}

impl<DB: Database> Transaction<DB> {
    pub(crate) async fn begin(
        conn: PoolConnection<DB>,
        statement: Option<SqlStr>,
    ) -> Result<Self, sqlx::Error> {
        // Open from the start: if this fails or is dropped half-way, the server may have begun.
        let mut tx = Self { conn, open: true };
        tx.conn.begin_bare(statement).await?;
        Ok(tx)
    }

    /// Commits, and gives the connection back.
    ///
    /// # Errors
    ///
    /// The error of the commit. The transaction is rolled back then, unless the error is about
    /// communication: in that case only the database knows.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped, the commit may have happened or not.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        DB::TransactionManager::commit(&mut self.conn).await?;
        self.open = false;
        self.conn.settled();
        Ok(())
    }

    /// Rolls back, and gives the connection back.
    ///
    /// # Errors
    ///
    /// The error of the rollback.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the rollback happens while the connection is given back.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        DB::TransactionManager::rollback(&mut self.conn).await?;
        self.open = false;
        self.conn.settled();
        Ok(())
    }
}

impl<DB: Database> Deref for Transaction<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.conn
    }
}

impl<DB: Database> DerefMut for Transaction<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conn
    }
}

impl<DB: Database> AsMut<DB::Connection> for Transaction<DB> {
    fn as_mut(&mut self) -> &mut DB::Connection {
        self
    }
}

impl<'t, DB: Database> Acquire<'t> for &'t mut Transaction<DB> {
    type Database = DB;
    type Connection = &'t mut DB::Connection;

    fn acquire(self) -> BoxFuture<'t, Result<Self::Connection, sqlx::Error>> {
        Box::pin(std::future::ready(Ok(&mut **self)))
    }

    fn begin(self) -> BoxFuture<'t, Result<sqlx::Transaction<'t, DB>, sqlx::Error>> {
        sqlx::Transaction::begin(&mut **self, None)
    }
}

impl<DB: Database> fmt::Debug for Transaction<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("conn", &self.conn)
            .finish_non_exhaustive()
    }
}

impl<DB: Database> Drop for Transaction<DB> {
    fn drop(&mut self) {
        if self.open {
            // Queues the rollback, which is sent while the connection is given back.
            DB::TransactionManager::start_rollback(&mut self.conn);
        }
    }
}
