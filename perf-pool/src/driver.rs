use std::fmt;

use futures_core::future::BoxFuture;
use sqlx::{Connection, Database};

use crate::config::PoolConfig;
use crate::hooks::AfterConnect;
use crate::{BuildError, ConnectError, PoolBuilder};

/// A database that pools can be built for: `Postgres` with the feature `postgres`, `Sqlite` with
/// the feature `sqlite`.
///
/// Sealed, for what a pool settles with its database at the start is another thing for each. A
/// [`Pool`](crate::Pool) itself is generic over all of sqlx's databases.
pub trait Driver: Sealed {}

impl<DB: Sealed> Driver for DB {}

pub(crate) type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// What each database has its own of.
pub trait Sealed: Database {
    /// The settings that only this database has.
    type Settings: fmt::Debug + Clone + Default + Send + Sync + 'static;

    /// Puts into the connect options what the settings ask for, and refuses what would not hold.
    fn configure(
        settings: &Self::Settings,
        about: &About<'_>,
        options: Options<Self>,
    ) -> Result<Options<Self>, BuildError>;

    /// What each new session has to be told, where the connect options cannot; it runs before the
    /// caller's own hook.
    fn session(settings: &Self::Settings) -> Option<AfterConnect<Self>>;

    /// Finds out on the first connection whether the server grants what the settings count on.
    fn inspect<'a>(
        settings: &'a Self::Settings,
        about: &'a About<'a>,
        options: &'a Options<Self>,
        conn: &'a mut Self::Connection,
    ) -> BoxFuture<'a, Result<(), ConnectError>>;

    /// Why the first connection failed.
    fn explain(about: &About<'_>, source: sqlx::Error) -> ConnectError;

    /// Applies what the configuration has for this database alone.
    fn apply(config: &PoolConfig, builder: PoolBuilder<Self>) -> PoolBuilder<Self>;
}

/// What a database has to know of the pool.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The server, as errors may show it.
    pub target: &'a str,
    /// The pool's name.
    pub name: &'a str,
    /// Base + overflow.
    pub max_connections: u32,
    /// The caller's choice, if there is one.
    pub statement_cache_capacity: Option<usize>,
    /// What begins transactions, if not the default.
    pub begin_statement: Option<&'a str>,
    /// Whether the caller has a hook for new connections.
    pub after_connect: bool,
}

/// Both hooks, one after the other.
pub(crate) fn chain<DB: Database>(
    first: Option<AfterConnect<DB>>,
    second: Option<AfterConnect<DB>>,
) -> Option<AfterConnect<DB>> {
    let (Some(one), Some(two)) = (&first, &second) else {
        return first.or(second);
    };
    let (one, two) = (one.clone(), two.clone());
    Some(std::sync::Arc::new(move |conn| {
        let (one, two) = (one.clone(), two.clone());
        Box::pin(async move {
            one(conn).await?;
            two(conn).await
        })
    }))
}
