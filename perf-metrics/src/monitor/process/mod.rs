mod cgroup;
mod cpu;
#[cfg(feature = "tokio")]
mod runtime;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use metrics::{Gauge, Key, Level, Metadata, Recorder, Unit};
use metrics_process::collector;
use sysinfo::{MemoryRefreshKind, System};

use crate::MonitorRecorder;
use crate::recorder::{Derived, Kind};
use crate::snapshot::Process;

use cgroup::Limits;
use cpu::CpuUsage;

static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The metrics of the process, under Prometheus's customary names. They are read from the system
/// when they are asked for, so no task is needed to keep them fresh.
pub(super) struct ProcessMetrics {
    gauges: Gauges,
    /// The machine's; `None` where the system does not say.
    total_memory: Option<u64>,
    cpu: Mutex<CpuUsage>,
    #[cfg(feature = "tokio")]
    pub(super) runtime: runtime::RuntimeMetrics,
}

struct Gauges {
    cpu_usage: Gauge,
    cpu_limit: Gauge,
    resident: Gauge,
    virtual_: Gauge,
    memory_limit: Gauge,
    memory_usage: Gauge,
    memory_ratio: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start: Gauge,
}

impl Gauges {
    fn new(recorder: &MonitorRecorder) -> Self {
        let gauge = |name, unit, text| gauge(recorder, name, unit, text);
        Self {
            cpu_usage: gauge(
                "process_cpu_usage_ratio",
                Unit::Count,
                "CPU time used, of that which the process may use; 1 is all of it.",
            ),
            cpu_limit: gauge(
                "process_cpu_limit_cores",
                Unit::Count,
                "Processors that the process may use, by its control groups and its affinity.",
            ),
            resident: gauge(
                "process_resident_memory_bytes",
                Unit::Bytes,
                "Resident memory.",
            ),
            virtual_: gauge(
                "process_virtual_memory_bytes",
                Unit::Bytes,
                "Virtual memory.",
            ),
            memory_limit: gauge(
                "process_memory_limit_bytes",
                Unit::Bytes,
                "Memory that the process's control group may use; the machine's without a limit.",
            ),
            memory_usage: gauge(
                "process_memory_usage_bytes",
                Unit::Bytes,
                "Memory that counts against the limit.",
            ),
            memory_ratio: gauge(
                "process_memory_usage_ratio",
                Unit::Count,
                "Memory that counts against the limit, of the limit; 1 is all of it.",
            ),
            open_fds: gauge("process_open_fds", Unit::Count, "Open file descriptors."),
            max_fds: gauge(
                "process_max_fds",
                Unit::Count,
                "Most file descriptors that may be open; 0 is without limit.",
            ),
            threads: gauge("process_threads", Unit::Count, "Threads of the process."),
            start: gauge(
                "process_start_time_seconds",
                Unit::Seconds,
                "When the process started, since the Unix epoch.",
            ),
        }
    }

    fn show(&self, process: &Process) {
        let set = |gauge: &Gauge, value: Option<f64>| value.into_iter().for_each(|v| gauge.set(v));
        let whole = |gauge: &Gauge, value: Option<u64>| set(gauge, value.map(|v| v as f64));
        set(&self.cpu_usage, process.cpu_usage_ratio);
        set(&self.cpu_limit, process.cpu_limit_cores);
        whole(&self.resident, process.resident_memory_bytes);
        whole(&self.virtual_, process.virtual_memory_bytes);
        whole(&self.memory_limit, process.memory_limit_bytes);
        whole(&self.memory_usage, process.memory_usage_bytes);
        set(&self.memory_ratio, process.memory_usage_ratio);
        whole(&self.open_fds, process.open_fds);
        whole(&self.max_fds, process.max_fds);
        whole(&self.threads, process.threads);
        whole(&self.start, process.start_time_seconds);
    }
}

/// Describes a gauge and fetches its handle.
fn gauge(recorder: &MonitorRecorder, name: &'static str, unit: Unit, text: &'static str) -> Gauge {
    recorder.describe_gauge(name.into(), Some(unit), text.into());
    recorder.register_gauge(&Key::from_static_name(name), &METADATA)
}

impl ProcessMetrics {
    pub(super) fn new(recorder: &MonitorRecorder) -> Self {
        let mut system = System::new();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        Self {
            gauges: Gauges::new(recorder),
            total_memory: Some(system.total_memory()).filter(|bytes| *bytes > 0),
            cpu: Mutex::new(CpuUsage::new(
                Instant::now(),
                collector::collect().cpu_seconds_total,
            )),
            #[cfg(feature = "tokio")]
            runtime: runtime::RuntimeMetrics::new(recorder),
        }
    }

    /// Reads the process's state, records it and returns it.
    pub(super) fn update(&self) -> Process {
        let now = collector::collect();
        let limits = Limits::read();
        let cores = cpu::cores(limits.cores);
        let usage = {
            let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
            cpu.ratio(Instant::now(), now.cpu_seconds_total, cores)
        };
        // What the machine does not have cannot be the limit.
        let group = limits
            .memory
            .filter(|memory| self.total_memory.is_none_or(|total| memory.limit < total));
        let limit = group.map(|memory| memory.limit).or(self.total_memory);
        let used = group
            .and_then(|memory| memory.usage)
            .or(now.resident_memory_bytes);
        let process = Process {
            cpu_seconds: now.cpu_seconds_total,
            cpu_usage_ratio: usage,
            cpu_limit_cores: cores,
            resident_memory_bytes: now.resident_memory_bytes,
            virtual_memory_bytes: now.virtual_memory_bytes,
            memory_limit_bytes: limit,
            memory_usage_bytes: used,
            memory_usage_ratio: used
                .zip(limit.filter(|limit| *limit > 0))
                .map(|(used, limit)| used as f64 / limit as f64),
            open_fds: now.open_fds,
            max_fds: now.max_fds,
            threads: now.threads,
            start_time_seconds: now.start_time_seconds,
        };
        self.gauges.show(&process);
        #[cfg(feature = "tokio")]
        self.runtime.update();
        process
    }

    /// What a counter of the recorder, a whole number, cannot show.
    pub(super) fn derived(&self, process: &Process) -> Vec<Derived> {
        let mut derived = Vec::new();
        if let Some(seconds) = process.cpu_seconds {
            derived.push(Derived::one(
                "process_cpu_seconds_total",
                Kind::Counter,
                "User and system CPU time.",
                seconds,
            ));
        }
        #[cfg(feature = "tokio")]
        derived.extend(self.runtime.derived());
        derived
    }
}
