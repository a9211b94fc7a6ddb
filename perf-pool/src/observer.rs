use std::sync::Weak;
use std::time::Duration;

use sqlx::Database;
use sqlx::pool::CloseEvent;
use tokio::time::{MissedTickBehavior, interval};

use crate::pool::Inner;

/// How late the gauges may show what happens inside sqlx: idle connections that are closed, the
/// base refilled, connections used through the bare sqlx pool.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps the gauges true, and passes on that the pool was closed, until it is closed or dropped.
pub(crate) async fn observe<DB: Database>(pool: Weak<Inner<DB>>, mut closed: CloseEvent) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let closing = tokio::select! {
            () = &mut closed => true,
            _ = tick.tick() => false,
        };
        let Some(pool) = pool.upgrade() else { return };
        pool.publish();
        if closing {
            // The bare sqlx pool can be closed too, and our waiters must hear of it.
            pool.slots.close();
            return;
        }
    }
}
