use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Database};
use tokio::time::{Instant, timeout};

use crate::ConnectError;
use crate::hooks::AfterConnect;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::settings::Settings;

/// Opens one connection directly, so that a wrong password or an unreachable host is reported at
/// once (sqlx's pool would retry until `acquire_timeout`), then the pool and its base.
pub(crate) async fn connect<DB: Database>(
    settings: Settings<DB>,
    options: <DB::Connection as Connection>::Options,
    target: String,
) -> Result<Pool<DB>, ConnectError> {
    let metrics = Arc::new(Metrics::new(&settings.name, settings.base, settings.max));
    let started = Instant::now();
    let after = settings.connect_timeout;
    let first = first::<DB>(&options, settings.after_connect.as_ref(), &target);
    match timeout(after, first).await {
        Ok(first) => first?,
        Err(_) => return Err(ConnectError::Timeout { target, after }),
    }
    metrics.created(started.elapsed());
    let pool = Pool::open(settings, options, metrics);
    pool.inner().warm_up(after).await;
    Ok(pool)
}

async fn first<DB: Database>(
    options: &<DB::Connection as Connection>::Options,
    hook: Option<&AfterConnect<DB>>,
    target: &str,
) -> Result<(), ConnectError> {
    let target = || target.to_owned();
    let mut conn: DB::Connection =
        options
            .connect()
            .await
            .map_err(|source| ConnectError::Connect {
                target: target(),
                source,
            })?;
    if let Some(hook) = hook {
        hook(&mut conn)
            .await
            .map_err(|source| ConnectError::AfterConnect {
                target: target(),
                source,
            })?;
    }
    // It served its purpose; how its goodbye goes says nothing about the next one.
    let _ = timeout(Duration::from_millis(100), conn.close()).await;
    Ok(())
}
