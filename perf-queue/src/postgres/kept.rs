use std::sync::{Mutex, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

/// A connection of the pool that is used again and again: the pool would hand out all of its connections
/// by turns, and each process of the server that is behind one has to have the plans of the queue's
/// functions in its caches.
#[derive(Debug)]
pub(super) struct Kept {
    pool: PgPool,
    conn: Mutex<Option<PoolConnection<Postgres>>>,
}

impl Kept {
    pub(super) fn new(pool: &PgPool) -> Self {
        Self {
            pool: pool.clone(),
            conn: Mutex::new(None),
        }
    }

    /// The one that was kept, or one of the pool.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.take() {
            Some(conn) if !self.pool.is_closed() => Ok(conn),
            _ => self.pool.acquire().await,
        }
    }

    /// Keeps it, unless somebody might have to wait for it.
    pub(super) fn keep(&self, conn: PoolConnection<Postgres>) {
        let pool = &self.pool;
        let spare = pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections();
        if spare && !pool.is_closed() {
            let old = self.lock().replace(conn);
            drop(old);
        }
    }

    /// Nothing is to be asked for now.
    pub(super) fn give_back(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<PoolConnection<Postgres>> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<PoolConnection<Postgres>>> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
