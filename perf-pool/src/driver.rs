use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::{Connection, Database, Execute};

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
        about: &About,
        options: Options<Self>,
    ) -> Result<Options<Self>, BuildError>;

    /// What each new session has to be told, where the connect options cannot; it runs before the
    /// caller's own hook.
    fn session(settings: &Self::Settings) -> Option<AfterConnect<Self>>;

    /// The `ping_timeout` where the caller has given none.
    fn ping_timeout(_: &Self::Settings) -> Duration {
        Duration::from_millis(500)
    }

    /// Whether nothing may be prepared.
    fn raw_sql_only(settings: &Self::Settings) -> bool;

    /// Finds out on the first connection whether the server grants what the settings count on.
    fn inspect<'a>(
        settings: &'a Self::Settings,
        about: &'a About,
        options: &'a Options<Self>,
        conn: &'a mut Self::Connection,
    ) -> BoxFuture<'a, Result<(), ConnectError>>;

    /// Which session of the server serves a connection right now; `None` where that can be no news.
    fn served_by<'a>(
        settings: &'a Self::Settings,
        conn: &'a mut Self::Connection,
    ) -> BoxFuture<'a, Option<String>>;

    /// Why the first connection failed.
    fn explain(about: &About, source: sqlx::Error) -> ConnectError;

    /// Applies what the configuration has for this database alone.
    fn apply(config: &PoolConfig, builder: PoolBuilder<Self>) -> PoolBuilder<Self>;
}

/// What a database has to know of the pool.
#[derive(Debug, Clone)]
pub struct About {
    /// The server, as errors may show it.
    pub target: Arc<str>,
    /// The pool's name.
    pub name: Arc<str>,
    /// Base + overflow.
    pub max_connections: u32,
    /// The caller's choice, if there is one.
    pub statement_cache_capacity: Option<usize>,
    /// What begins transactions, if not the default.
    pub begin_statement: Option<&'static str>,
    /// Whether the caller has a hook for new connections.
    pub after_connect: bool,
}

type Configure<DB> = dyn Fn(Options<DB>) -> Result<Options<DB>, BuildError> + Send + Sync;

/// What was settled at the start, and holds for later connections too.
pub(crate) struct Terms<DB: Database> {
    configure: Arc<Configure<DB>>,
    /// Whether prepared statements are turned away.
    raw_sql_only: bool,
}

impl<DB: Driver> Terms<DB> {
    pub(crate) fn new(driver: &DB::Settings, about: &About) -> Self {
        let raw_sql_only = DB::raw_sql_only(driver);
        let (driver, about) = (driver.clone(), about.clone());
        Self {
            configure: Arc::new(move |options| DB::configure(&driver, &about, options)),
            raw_sql_only,
        }
    }
}

impl<DB: Database> Terms<DB> {
    /// Turns away what would be prepared, where only raw SQL is sound.
    pub(crate) fn allow<'q, E: Execute<'q, DB>>(&self, query: &mut E) -> Result<(), sqlx::Error> {
        // Raw SQL is what has no arguments, not even an empty list.
        if self.raw_sql_only && !matches!(query.take_arguments(), Ok(None)) {
            return Err(prepared());
        }
        Ok(())
    }

    /// As [`allow`](Self::allow), for what is prepared in any case.
    pub(crate) fn allow_preparing(&self) -> Result<(), sqlx::Error> {
        match self.raw_sql_only {
            true => Err(prepared()),
            false => Ok(()),
        }
    }

    /// What the pool connects with where it is asked to connect with these.
    pub(crate) fn configure(&self, options: Options<DB>) -> Result<Options<DB>, BuildError> {
        (self.configure)(options)
    }
}

fn prepared() -> sqlx::Error {
    let why = "this pool sends raw SQL alone (PoolerStatements::RawSql), and this would be \
               prepared: use sqlx::raw_sql, or execute the plain string";
    sqlx::Error::Configuration(why.into())
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
    Some(Arc::new(move |conn| {
        let (one, two) = (one.clone(), two.clone());
        Box::pin(async move {
            one(conn).await?;
            two(conn).await
        })
    }))
}
