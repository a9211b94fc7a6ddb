//! The quiz service: one API, built twice.

mod after;
mod before;
mod bot;
mod error;
mod meter;
mod schema;

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{Build, ServiceArgs};
use crate::child;
use crate::protocol::{CacheReads, ServiceCommand, ServiceEvent};
use bot::Bot;
use meter::Meter;

/// A build of the service, ready to serve.
struct Service {
    router: Router,
    gauges: Arc<dyn Gauges>,
}

/// What the meter reads of a build, and how the build ends.
trait Gauges: Send + Sync + fmt::Debug {
    /// Connections in use now.
    fn connections_in_use(&self) -> u32;
    /// Connections that may be open at once.
    fn max_connections(&self) -> u32;
    /// The reads of all caches so far; nothing without a cache.
    fn cache(&self) -> Option<CacheReads>;
    /// Ends the background tasks and closes the pools.
    fn stop(&self) -> futures_core::future::BoxFuture<'_, ()>;
}

/// Serves until the conductor closes the pipe, or is gone.
pub(crate) async fn run(args: &ServiceArgs) -> Result<()> {
    let meter = Meter::install()?;
    schema::prepare(&args.db, args.size).await?;
    let bot = Bot::new(&args.messenger);
    let service = match args.build {
        Build::Before => before::build(&args.db, bot, &meter).await?,
        Build::After => after::build(&args.db, bot, &meter).await?,
    };
    let gauges = service.gauges;
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("listen on loopback")?;
    let address = format!("http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let server = tokio::spawn(
        axum::serve(listener, service.router)
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future(),
    );
    let mut commands = child::commands::<ServiceCommand>();
    child::report(&ServiceEvent::Ready(address))?;

    let mut rush = None;
    while let Some(command) = commands.recv().await {
        match command {
            ServiceCommand::Begin => {
                rush = Some(meter.begin(Arc::clone(&gauges)));
                child::report(&ServiceEvent::Begun)?;
            }
            ServiceCommand::End => {
                let rush = rush.take().context("the rush ended before it began")?;
                child::report(&ServiceEvent::Figures(rush.end()))?;
            }
        }
    }
    stop.cancel();
    server.await??;
    gauges.stop().await;
    Ok(())
}
