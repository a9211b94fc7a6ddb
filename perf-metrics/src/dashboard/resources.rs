//! The process, and what the other crates of the family record, by the names of their metrics.

use super::panel::{Panel, Row};
use crate::alerts::{Plan, hit_ratio};

pub(super) fn rows(plan: &Plan<'_>) -> [Row; 5] {
    [
        process(plan),
        pool(plan),
        queue(plan),
        cache(plan),
        batch(plan),
    ]
}

fn rate(plan: &Plan<'_>, by: &str, metric: &str, more: &str) -> String {
    format!(
        "sum by ({by}) (rate({}[$__rate_interval]))",
        plan.select(metric, more)
    )
}

fn p95(plan: &Plan<'_>, by: &str, metric: &str) -> String {
    let buckets = rate(plan, &format!("le, {by}"), &format!("{metric}_bucket"), "");
    format!("histogram_quantile(0.95, {buckets})")
}

fn process(plan: &Plan<'_>) -> Row {
    let (warning, critical) = plan.objectives.thresholds.memory_usage;
    let gauge = |metric: &str| plan.select(metric, "");
    let panels = vec![
        Panel::new("CPU", "percentunit")
            .describe("Of what the process may use.")
            .show(gauge("process_cpu_usage_ratio"), "{{instance}}"),
        Panel::new("Memory of its limit", "percentunit")
            .describe("Of what the control group allows, or of the machine's.")
            .show(gauge("process_memory_usage_ratio"), "{{instance}}")
            .thresholds(warning, critical),
        Panel::new("Memory", "bytes")
            .show(
                gauge("process_resident_memory_bytes"),
                "{{instance}} resident",
            )
            .show(gauge("process_memory_limit_bytes"), "{{instance}} limit"),
        Panel::new("Cores in use", "short").show(
            rate(plan, "instance", "process_cpu_seconds_total", ""),
            "{{instance}}",
        ),
        Panel::new("File descriptors", "short").show(gauge("process_open_fds"), "{{instance}}"),
        Panel::new("Threads", "short").show(gauge("process_threads"), "{{instance}}"),
    ];
    Row {
        title: "Process",
        panels,
    }
}

fn pool(plan: &Plan<'_>) -> Row {
    let gauge = |metric: &str, by: &str| format!("sum by ({by}) ({})", plan.select(metric, ""));
    let time = |title, name: &str| {
        let metric = format!("db_client_connections_{name}_time_seconds");
        Panel::new(title, "s").show(p95(plan, "pool", &metric), "{{pool}}")
    };
    let panels = vec![
        Panel::new("Connections", "short")
            .show(
                gauge("db_client_connections", "instance, pool, state"),
                "{{pool}} {{state}} {{instance}}",
            )
            .show(
                gauge("db_client_connections_max", "instance, pool"),
                "{{pool}} max {{instance}}",
            ),
        Panel::new("Callers that wait", "short").show(
            gauge("db_client_connections_pending_requests", "instance, pool"),
            "{{pool}} {{instance}}",
        ),
        Panel::new("Timeouts and leaks", "cps")
            .show(
                rate(plan, "pool", "db_client_connections_timeouts_total", ""),
                "{{pool}} timeouts",
            )
            .show(
                rate(plan, "pool", "db_client_connections_leaks_total", ""),
                "{{pool}} leaks",
            ),
        time("p95 to get a connection", "wait"),
        time("p95 to give it back", "use"),
        time("p95 to open one", "create"),
    ];
    Row {
        title: "Pools",
        panels,
    }
}

fn queue(plan: &Plan<'_>) -> Row {
    let thresholds = &plan.objectives.thresholds;
    let (warning, critical) = thresholds.queue_depth;
    let (old, older) = thresholds.queue_age;
    // Processes that share a queue each show all of it.
    let depth = plan.select("queue_depth", "");
    let age = plan.select("queue_oldest_job_age_seconds", "");
    let workers = plan.select("queue_workers", "");
    let panels = vec![
        Panel::new("Jobs", "short")
            .show(
                format!("max by (queue, state) ({depth})"),
                "{{queue}} {{state}}",
            )
            .thresholds(warning as f64, critical as f64),
        Panel::new("Oldest job that is due", "s")
            .show(format!("max by (queue) ({age})"), "{{queue}}")
            .thresholds(old.as_secs_f64(), older.as_secs_f64()),
        Panel::new("Workers", "short").show(
            format!("sum by (queue, state) ({workers})"),
            "{{queue}} {{state}}",
        ),
        Panel::new("Enqueued and ended", "cps")
            .show(
                rate(plan, "queue", "queue_jobs_enqueued_total", ""),
                "{{queue}} enqueued",
            )
            .show(
                rate(plan, "queue, outcome", "queue_jobs_processed_total", ""),
                "{{queue}} {{outcome}}",
            ),
        Panel::new("p95 of waiting and of running", "s")
            .show(
                p95(plan, "queue", "queue_job_wait_seconds"),
                "{{queue}} waited",
            )
            .show(
                p95(plan, "queue", "queue_job_duration_seconds"),
                "{{queue}} ran",
            ),
        Panel::new("Held back by a rate limit", "cps").show(
            rate(plan, "queue, scope", "queue_rate_limited_total", ""),
            "{{queue}} by {{scope}}",
        ),
    ];
    Row {
        title: "Queues",
        panels,
    }
}

fn cache(plan: &Plan<'_>) -> Row {
    let (warning, critical) = plan.objectives.thresholds.cache_hit_ratio;
    let requests = "cache_requests_total";
    let ratio = hit_ratio(|more| rate(plan, "cache", requests, more));
    let entries = plan.select("cache_entries", "");
    let panels = vec![
        Panel::new("Hit ratio", "percentunit")
            .show(ratio, "{{cache}}")
            .thresholds(warning, critical),
        Panel::new("Requests", "cps").show(
            rate(plan, "cache, tier, result", requests, ""),
            "{{cache}} {{tier}} {{result}}",
        ),
        Panel::new("Loads", "cps").show(
            rate(plan, "cache, outcome", "cache_loads_total", ""),
            "{{cache}} {{outcome}}",
        ),
        Panel::new("p95 of loads", "s").show(
            p95(plan, "cache", "cache_load_duration_seconds"),
            "{{cache}}",
        ),
        Panel::new("Entries", "short").show(
            format!("sum by (instance, cache) ({entries})"),
            "{{cache}} {{instance}}",
        ),
        Panel::new("Evictions and invalidations", "cps")
            .show(
                rate(plan, "cache, cause", "cache_evictions_total", ""),
                "{{cache}} evicted: {{cause}}",
            )
            .show(
                rate(plan, "cache, outcome", "cache_invalidations_total", ""),
                "{{cache}} invalidations {{outcome}}",
            ),
    ];
    Row {
        title: "Caches",
        panels,
    }
}

fn batch(plan: &Plan<'_>) -> Row {
    let sum = rate(plan, "batch", "batch_size_sum", "");
    let count = rate(plan, "batch", "batch_size_count", "");
    let panels = vec![
        Panel::new("Rows", "cps").show(
            rate(plan, "batch, outcome", "batch_items_total", ""),
            "{{batch}} {{outcome}}",
        ),
        Panel::new("Rows in a batch", "short").show(format!("{sum}\n/ ({count} > 0)"), "{{batch}}"),
        Panel::new("p95 to write a batch", "s").show(
            p95(plan, "batch", "batch_flush_duration_seconds"),
            "{{batch}}",
        ),
        Panel::new("p95 of a row's wait in a batcher", "s")
            .show(p95(plan, "batch", "batch_wait_seconds"), "{{batch}}"),
        Panel::new("Commits", "cps")
            .show(rate(plan, "batch", "batch_commits_total", ""), "{{batch}}"),
        Panel::new("Fallbacks and retries", "cps")
            .show(
                rate(plan, "batch", "batch_fallbacks_total", ""),
                "{{batch}} fallbacks",
            )
            .show(
                rate(plan, "batch", "batch_retries_total", ""),
                "{{batch}} retries",
            ),
    ];
    Row {
        title: "Batches",
        panels,
    }
}
