//! The users and the messenger, in a process of their own.

mod limit;
mod messenger;
mod users;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use crate::args::CrowdArgs;
use crate::child;
use crate::protocol::{CrowdCommand, CrowdEvent};
use messenger::Messenger;
use users::Crowd;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Does what the conductor says until the conductor closes the pipe or is gone.
pub(crate) async fn run(args: &CrowdArgs) -> Result<()> {
    let messenger = Arc::new(Messenger::default());
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("listen on loopback")?;
    let address = format!("http://{}", listener.local_addr()?);
    let router = messenger::router(Arc::clone(&messenger));
    let _server = tokio::spawn(axum::serve(listener, router).into_future());
    let mut commands = child::commands::<CrowdCommand>();
    child::report(&CrowdEvent::Ready(address))?;

    let mut crowd: Option<Crowd> = None;
    while let Some(command) = commands.recv().await {
        match command {
            CrowdCommand::Quiet(service) => {
                let users = Crowd::new(service, args.size, Arc::clone(&messenger))?;
                child::report(&CrowdEvent::Quiet(users.quiet().await?))?;
                crowd = Some(users);
            }
            CrowdCommand::Rush => {
                let crowd = crowd.as_ref().context("the rush began before the quiet")?;
                let rush = crowd.rush();
                tokio::pin!(rush);
                let mut ticks = tokio::time::interval(PROGRESS_EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                let figures = loop {
                    tokio::select! {
                        figures = &mut rush => break figures,
                        _ = ticks.tick() => child::report(&CrowdEvent::Progress(crowd.progress()))?,
                    }
                };
                child::report(&CrowdEvent::Progress(crowd.progress()))?;
                child::report(&CrowdEvent::Done(Box::new(figures)))?;
                // The last calls to the messenger are still under way: it stays until the
                // conductor has ended the service.
            }
            CrowdCommand::Arrivals => {
                let crowd = crowd.as_ref().context("nobody has been there yet")?;
                child::report(&CrowdEvent::Arrivals(crowd.arrivals()))?;
            }
        }
    }
    Ok(())
}
