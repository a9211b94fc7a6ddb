//! What the service measures of itself: commits by SQLite's own hook, statements by sqlx's log,
//! processor time and memory by the operating system, connections by sampling the pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::SqliteConnection;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Gauges;
use crate::protocol::{CacheReads, ServiceFigures};

const SAMPLE_CONNECTIONS_EVERY: Duration = Duration::from_millis(5);
/// Memory moves slowly, and reading it costs a system call or two.
const SAMPLES_A_MEMORY_READING: u32 = 20;

/// Counts since the process began.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    counts: Arc<Counts>,
    pid: Pid,
}

#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    queries: AtomicU64,
}

impl Meter {
    /// Starts to count the statements that sqlx logs.
    pub(crate) fn install() -> Result<Self> {
        let counts = Arc::new(Counts::default());
        tracing_subscriber::registry()
            .with(StatementCounter(Arc::clone(&counts)))
            .try_init()
            .context("listen to the statement log")?;
        let pid = get_current_pid().map_err(anyhow::Error::msg)?;
        Ok(Self { counts, pid })
    }

    /// Counts the commits of this connection from now on.
    pub(crate) async fn count_commits(
        &self,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let counts = Arc::clone(&self.counts);
        connection.lock_handle().await?.set_commit_hook(move || {
            counts.commits.fetch_add(1, Relaxed);
            true
        });
        Ok(())
    }

    /// Begins to measure a rush.
    pub(super) fn begin(&self, gauges: Arc<dyn Gauges>) -> Rush {
        let peaks = Arc::new(Peaks::default());
        let stop = CancellationToken::new();
        tokio::spawn(sample(
            Arc::clone(&gauges),
            Arc::clone(&peaks),
            self.pid,
            stop.clone(),
        ));
        Rush {
            commits: self.counts.commits.load(Relaxed),
            queries: self.counts.queries.load(Relaxed),
            cache: gauges.cache(),
            cpu_seconds: cpu_seconds(self.pid),
            began: Instant::now(),
            meter: self.clone(),
            gauges,
            peaks,
            _sampler: stop.drop_guard(),
        }
    }
}

/// A rush being measured.
#[derive(Debug)]
pub(crate) struct Rush {
    meter: Meter,
    gauges: Arc<dyn Gauges>,
    commits: u64,
    queries: u64,
    cache: Option<CacheReads>,
    cpu_seconds: f64,
    began: Instant,
    peaks: Arc<Peaks>,
    _sampler: DropGuard,
}

impl Rush {
    /// What was measured since the rush began.
    pub(super) fn end(self) -> ServiceFigures {
        let cache = self
            .gauges
            .cache()
            .zip(self.cache)
            .map(|(now, then)| CacheReads {
                hits: now.hits - then.hits,
                reads: now.reads - then.reads,
            });
        ServiceFigures {
            commits: self.meter.counts.commits.load(Relaxed) - self.commits,
            queries: self.meter.counts.queries.load(Relaxed) - self.queries,
            cpu_seconds: cpu_seconds(self.meter.pid) - self.cpu_seconds,
            seconds: self.began.elapsed().as_secs_f64(),
            peak_memory_bytes: self.peaks.memory_bytes.load(Relaxed),
            peak_connections: self.peaks.connections.load(Relaxed),
            max_connections: self.gauges.max_connections(),
            cache,
        }
    }
}

#[derive(Debug, Default)]
struct Peaks {
    connections: AtomicU32,
    memory_bytes: AtomicU64,
}

async fn sample(gauges: Arc<dyn Gauges>, peaks: Arc<Peaks>, pid: Pid, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SAMPLE_CONNECTIONS_EVERY);
    for n in 0_u32.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        peaks
            .connections
            .fetch_max(gauges.connections_in_use(), Relaxed);
        if n % SAMPLES_A_MEMORY_READING == 0 {
            let memory = process(pid, |p| p.memory());
            peaks.memory_bytes.fetch_max(memory, Relaxed);
        }
    }
}

fn cpu_seconds(pid: Pid) -> f64 {
    process(pid, |p| p.accumulated_cpu_time()) as f64 / 1e3
}

fn process(pid: Pid, read: impl FnOnce(&sysinfo::Process) -> u64) -> u64 {
    let mut system = System::new();
    let wanted = ProcessRefreshKind::nothing().with_cpu().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
    system.process(pid).map_or(0, read)
}

/// Counts what sqlx logs, an event a statement, and switches every other event off.
struct StatementCounter(Arc<Counts>);

impl<S: Subscriber> Layer<S> for StatementCounter {
    fn enabled(&self, metadata: &Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn on_event(&self, _: &Event<'_>, _: LayerContext<'_, S>) {
        self.0.queries.fetch_add(1, Relaxed);
    }
}
