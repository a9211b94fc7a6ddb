use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, timeout, timeout_at};

use crate::ConnectError;
use crate::driver::{About, Driver, Options, Terms, chain};
use crate::hooks::{AfterConnect, returning};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::settings::Settings;

/// Opens one connection directly, so that a wrong password or an unreachable host is reported at
/// once (sqlx's pool would retry until `acquire_timeout`), then the pool and its base.
pub(crate) async fn connect<DB: Driver>(
    mut settings: Settings<DB>,
    driver: DB::Settings,
    options: Options<DB>,
    target: String,
) -> Result<Pool<DB>, ConnectError> {
    let about = About {
        target: target.into(),
        name: Arc::clone(&settings.name),
        max_connections: settings.max,
        statement_cache_capacity: settings.statement_cache_capacity,
        begin_statement: settings.begin_statement,
        after_connect: settings.after_connect.is_some(),
    };
    let terms = Terms::new(&driver, &about);
    let options = terms.configure(options)?;
    settings.after_connect = chain::<DB>(DB::session(&driver), settings.after_connect.take());
    let metrics = Arc::new(Metrics::new(&settings.name, settings.base, settings.max));
    let started = Instant::now();
    let after = settings.connect_timeout;
    let too_late = |_| ConnectError::Timeout {
        target: about.target.to_string(),
        after,
    };
    let deadline = started + after;
    let first = first::<DB>(&driver, &about, &options);
    let (first, served_by) = timeout_at(deadline, first).await.map_err(too_late)??;
    let hook = settings.after_connect.clone();
    let within = settings.checks.ping_timeout;
    let pool = Pool::open(settings, options, Arc::clone(&metrics), terms);
    // The server takes connections, so the base need not wait for what the hook does on the first.
    let ready = async {
        let ready = ready::<DB>(&about, first, hook);
        timeout_at(deadline, ready).await.map_err(too_late)??;
        metrics.created(started.elapsed());
        Ok::<_, ConnectError>(())
    };
    let base = async {
        pool.inner().warm_up(after).await;
        Ok(())
    };
    tokio::try_join!(ready, base)?;
    if let Some(served_by) = served_by {
        // A pooler that does not answer right now tells nothing.
        let _ = timeout(within, look_for_pooler(&pool, &driver, served_by)).await;
    }
    Ok(pool)
}

/// Warns if a connection of the pool is served by the session of the server that served the first
/// one, which is closed: then somebody in between has kept it.
async fn look_for_pooler<DB: Driver>(pool: &Pool<DB>, driver: &DB::Settings, first: String) {
    let Some(mut conn) = pool.inner().sqlx.try_acquire() else {
        return;
    };
    if DB::served_by(driver, &mut conn).await == Some(first) {
        tracing::warn!(
            pool = pool.name(),
            "a pooler stands before the server: declare it with pooler(..), for in transaction \
             mode its clients may run each other's prepared statements"
        );
    }
    returning(conn.return_to_pool()).await;
}

async fn first<DB: Driver>(
    driver: &DB::Settings,
    about: &About,
    options: &Options<DB>,
) -> Result<(DB::Connection, Option<String>), ConnectError> {
    let mut conn: DB::Connection = options
        .connect()
        .await
        .map_err(|source| DB::explain(about, source))?;
    DB::inspect(driver, about, options, &mut conn).await?;
    let served_by = DB::served_by(driver, &mut conn).await;
    Ok((conn, served_by))
}

/// Tries the hook on the first connection, which then has served its purpose.
async fn ready<DB: Driver>(
    about: &About,
    mut first: DB::Connection,
    hook: Option<AfterConnect<DB>>,
) -> Result<(), ConnectError> {
    if let Some(hook) = hook {
        hook(&mut first)
            .await
            .map_err(|source| ConnectError::AfterConnect {
                target: about.target.to_string(),
                source,
            })?;
    }
    // How its goodbye goes says nothing about the next one.
    let _ = timeout(Duration::from_millis(100), first.close()).await;
    Ok(())
}
