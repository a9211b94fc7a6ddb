use metrics::{Counter, Gauge, Key, Level, Metadata, Recorder, Unit};
use metrics_process::collector;

use crate::MonitorRecorder;
use crate::snapshot::Process;

static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The metrics of the process, under Prometheus's customary names. They are read from the system
/// when they are asked for, so no task is needed to keep them fresh.
pub(super) struct ProcessGauges {
    cpu: Counter,
    resident: Gauge,
    virtual_: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start: Gauge,
}

impl ProcessGauges {
    pub(super) fn new(recorder: &MonitorRecorder) -> Self {
        let cpu = "process_cpu_seconds_total";
        recorder.describe_counter(
            cpu.into(),
            Some(Unit::Seconds),
            "User and system CPU time, in whole seconds.".into(),
        );
        let gauge = |name: &'static str, unit, text: &'static str| {
            recorder.describe_gauge(name.into(), Some(unit), text.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        };
        Self {
            cpu: recorder.register_counter(&Key::from_static_name(cpu), &METADATA),
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

    /// Reads the process's state, records it and returns it.
    pub(super) fn update(&self) -> Process {
        let now = collector::collect();
        if let Some(seconds) = now.cpu_seconds_total {
            self.cpu.absolute(seconds as u64);
        }
        let set = |gauge: &Gauge, value: Option<u64>| {
            if let Some(value) = value {
                gauge.set(value as f64);
            }
        };
        set(&self.resident, now.resident_memory_bytes);
        set(&self.virtual_, now.virtual_memory_bytes);
        set(&self.open_fds, now.open_fds);
        set(&self.max_fds, now.max_fds);
        set(&self.threads, now.threads);
        set(&self.start, now.start_time_seconds);
        Process {
            cpu_seconds: now.cpu_seconds_total,
            resident_memory_bytes: now.resident_memory_bytes,
            virtual_memory_bytes: now.virtual_memory_bytes,
            open_fds: now.open_fds,
            max_fds: now.max_fds,
            threads: now.threads,
        }
    }
}
