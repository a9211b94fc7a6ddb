use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Gauge, Unit};
use tokio::runtime::Handle;

use super::gauge;
use crate::MonitorRecorder;
use crate::recorder::{Derived, Kind};

/// The metrics of the tokio runtime: of the first one that the monitor is built, read or served
/// in. They stay absent without one.
pub(in crate::monitor) struct RuntimeMetrics {
    recorder: MonitorRecorder,
    found: OnceLock<Found>,
}

struct Found {
    handle: Handle,
    workers: Gauge,
    tasks: Gauge,
    queue: Gauge,
}

impl RuntimeMetrics {
    pub(super) fn new(recorder: &MonitorRecorder) -> Self {
        let metrics = Self {
            recorder: recorder.clone(),
            found: OnceLock::new(),
        };
        metrics.look();
        metrics
    }

    /// Remembers the runtime that this is called in, if there is one and it is the first.
    pub(in crate::monitor) fn look(&self) {
        let _ = self.find();
    }

    fn find(&self) -> Option<&Found> {
        if let Some(found) = self.found.get() {
            return Some(found);
        }
        let handle = Handle::try_current().ok()?;
        let gauge = |name, text| gauge(&self.recorder, name, Unit::Count, text);
        Some(self.found.get_or_init(|| Found {
            handle,
            workers: gauge("tokio_workers", "Worker threads of the runtime."),
            tasks: gauge("tokio_alive_tasks", "Tasks that have not ended."),
            queue: gauge(
                "tokio_global_queue_depth",
                "Tasks that are ready to run and that no worker has taken yet.",
            ),
        }))
    }

    pub(super) fn update(&self) {
        if let Some(found) = self.find() {
            let metrics = found.handle.metrics();
            found.workers.set(metrics.num_workers() as f64);
            found.tasks.set(metrics.num_alive_tasks() as f64);
            found.queue.set(metrics.global_queue_depth() as f64);
        }
    }

    /// The counters of the workers.
    #[cfg(target_has_atomic = "64")]
    pub(super) fn derived(&self) -> Vec<Derived> {
        let Some(found) = self.find() else {
            return Vec::new();
        };
        let metrics = found.handle.metrics();
        let workers = 0..metrics.num_workers();
        let busy: Duration = workers
            .clone()
            .map(|worker| metrics.worker_total_busy_duration(worker))
            .sum();
        let parks: u64 = workers
            .map(|worker| metrics.worker_park_count(worker))
            .sum();
        vec![
            Derived::one(
                "tokio_workers_busy_seconds_total",
                Kind::Counter,
                "Time that the workers were busy, all together.",
                busy.as_secs_f64(),
            ),
            Derived::one(
                "tokio_workers_parks_total",
                Kind::Counter,
                "Times that a worker had nothing to do and went to sleep.",
                parks as f64,
            ),
        ]
    }

    /// tokio keeps no such counters here.
    #[cfg(not(target_has_atomic = "64"))]
    pub(super) fn derived(&self) -> Vec<Derived> {
        Vec::new()
    }
}
