//! What can be changed while a pool runs.

use sqlx::Database;

use crate::driver::Options;
use crate::{BuildError, Pool};

impl<DB: Database> Pool<DB> {
    /// Replaces every connection: idle ones are closed now, those in use once they come back, and
    /// those that are being opened are opened again. Their callers notice nothing. For a server
    /// that was failed over, say.
    pub fn soft_evict(&self) {
        self.inner().lifetimes.evict_all();
        self.inner().look_after.notify_one();
    }

    /// Opens connections with other options from now on, with a new password, say, and replaces
    /// those that exist, as [`soft_evict`](Self::soft_evict). What the server thinks of the options
    /// shows when the next connection is opened.
    ///
    /// # Errors
    ///
    /// [`BuildError`] as in [`connect_with`](crate::PoolBuilder::connect_with); nothing is changed then.
    pub fn reconnect_with(&self, options: Options<DB>) -> Result<(), BuildError> {
        let options = self.inner().terms.configure(options)?;
        self.inner().sqlx.set_connect_options(options);
        self.soft_evict();
        Ok(())
    }

    /// Lets at most `limit` callers hold a connection at a time, from now on; connections that are
    /// out already stay out. The least is 1, the most `max_connections`, with which a pool begins.
    /// Returns the limit that is in force now. Does not bind the bare sqlx pool.
    pub fn set_concurrency_limit(&self, limit: u32) -> u32 {
        let limit = limit.clamp(1, self.inner().max);
        self.inner().slots.set_limit(limit);
        limit
    }
}
