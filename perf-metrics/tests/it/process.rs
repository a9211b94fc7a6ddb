//! What the monitor tells of the process, its limits and its runtime.

use perf_metrics::Monitor;

use crate::exposition::Exposition;

const PROCESS: [&str; 11] = [
    "process_cpu_seconds_total",
    "process_cpu_limit_cores",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_memory_limit_bytes",
    "process_memory_usage_bytes",
    "process_memory_usage_ratio",
    "process_open_fds",
    "process_max_fds",
    "process_threads",
    "process_start_time_seconds",
];

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_described_and_measured() {
    let monitor = Monitor::builder().build().unwrap();
    let text = monitor.render();
    let samples = Exposition::parse(&text);
    for name in PROCESS {
        assert_eq!(samples.samples(name).count(), 1, "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        // A test may have used no hundredth of a second yet.
        assert!(
            samples.sum(name) > 0.0 || name == "process_cpu_seconds_total",
            "{name}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_counts_against_the_limit() {
    let process = Monitor::builder().build().unwrap().snapshot().process;
    let limit = process.memory_limit_bytes.unwrap() as f64;
    let used = process.memory_usage_bytes.unwrap() as f64;
    let ratio = process.memory_usage_ratio.unwrap();
    assert!((ratio - used / limit).abs() < 1e-9, "{ratio}");
    assert!(ratio > 0.0 && ratio <= 1.0, "{ratio}");
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let total: f64 = total.unwrap().replace("kB", "").trim().parse().unwrap();
    assert!(limit <= total * 1024.0, "{limit}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_cpu_time_is_not_rounded_to_seconds() {
    let monitor = Monitor::builder().build().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        // This thread keeps a processor busy; a value without a fraction is rare.
        let seconds = Exposition::parse(&monitor.render()).sum("process_cpu_seconds_total");
        if seconds.fract() > 0.0 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{seconds}");
    }
}

#[cfg(feature = "tokio")]
mod runtime {
    use super::*;

    #[test]
    fn without_a_runtime_there_is_nothing_of_tokio() {
        let monitor = Monitor::builder().build().unwrap();
        assert!(!monitor.render().contains("tokio_"));
    }

    #[test]
    fn the_runtime_is_the_one_that_the_monitor_is_first_used_in() {
        let monitor = Monitor::builder().build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(3)
            .build()
            .unwrap();
        runtime.block_on(async {
            let waiting: Vec<_> = (0..5)
                .map(|_| tokio::spawn(std::future::pending::<()>()))
                .collect();
            monitor.layer();
            let text = Exposition::parse(&monitor.render());
            assert_eq!(text.sum("tokio_workers"), 3.0);
            assert!(text.sum("tokio_alive_tasks") >= 5.0);
            waiting.iter().for_each(|task| task.abort());
        });
        // Also outside of it, as where a thread of its own serves the scrapes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let text = Exposition::parse(&monitor.render());
            assert_eq!(text.sum("tokio_workers"), 3.0);
            assert_eq!(text.samples("tokio_global_queue_depth").count(), 1);
            // A worker that finds nothing to do goes to sleep, as soon as it has a processor.
            let parks = text.sum("tokio_workers_parks_total");
            let busy = text.sum("tokio_workers_busy_seconds_total");
            if parks > 0.0 && busy > 0.0 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{parks} {busy}");
        }
    }
}
