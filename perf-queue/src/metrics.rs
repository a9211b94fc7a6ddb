use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::Stats;
use crate::machine::Limited;
use crate::panics::contained;

/// What became of a run of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Retried,
    Snoozed,
    Discarded,
    Dead,
    /// Given back unfinished: not an outcome that is counted.
    Released,
}

/// The handles of a queue's metrics, fetched once. A recorder that panics goes unnoticed but for the
/// numbers that it lacks: whoever records is in the middle of something.
#[derive(Debug)]
pub(crate) struct Meters {
    ready: Gauge,
    scheduled: Gauge,
    limited: Gauge,
    in_flight: Gauge,
    dead: Gauge,
    busy: Gauge,
    idle: Gauge,
    oldest: Gauge,
    enqueued: Counter,
    completed: Counter,
    retried: Counter,
    snoozed: Counter,
    discarded: Counter,
    died: Counter,
    wait: Histogram,
    duration: Histogram,
    limited_by_queue: Counter,
    limited_by_key: Counter,
}

impl Meters {
    pub(crate) fn new(queue: &str) -> Self {
        describe();
        let queue = queue.to_owned();
        let gauge = |name: &'static str, state: &'static str| metrics::gauge!(name, "queue" => queue.clone(), "state" => state);
        let processed = |outcome: &'static str| {
            metrics::counter!(
                "queue_jobs_processed_total",
                "queue" => queue.clone(), "outcome" => outcome
            )
        };
        let limited = |scope: &'static str| {
            metrics::counter!(
                "queue_rate_limited_total",
                "queue" => queue.clone(), "scope" => scope
            )
        };
        Self {
            ready: gauge("queue_depth", "ready"),
            scheduled: gauge("queue_depth", "scheduled"),
            limited: gauge("queue_depth", "limited"),
            in_flight: gauge("queue_depth", "in_flight"),
            dead: gauge("queue_depth", "dead"),
            busy: gauge("queue_workers", "busy"),
            idle: gauge("queue_workers", "idle"),
            oldest: metrics::gauge!("queue_oldest_job_age_seconds", "queue" => queue.clone()),
            enqueued: metrics::counter!("queue_jobs_enqueued_total", "queue" => queue.clone()),
            completed: processed("completed"),
            retried: processed("retried"),
            snoozed: processed("snoozed"),
            discarded: processed("discarded"),
            died: processed("dead"),
            wait: metrics::histogram!("queue_job_wait_seconds", "queue" => queue.clone()),
            duration: metrics::histogram!("queue_job_duration_seconds", "queue" => queue.clone()),
            limited_by_queue: limited("queue"),
            limited_by_key: limited("key"),
        }
    }

    pub(crate) fn enqueued(&self, jobs: u64) {
        contained(|| self.enqueued.increment(jobs));
    }

    pub(crate) fn started(&self, waited: Duration) {
        contained(|| self.wait.record(waited));
    }

    pub(crate) fn ended(&self, outcome: Outcome, took: Duration) {
        let counter = match outcome {
            Outcome::Completed => &self.completed,
            Outcome::Retried => &self.retried,
            Outcome::Snoozed => &self.snoozed,
            Outcome::Discarded => &self.discarded,
            Outcome::Dead => &self.died,
            Outcome::Released => return,
        };
        contained(|| counter.increment(1));
        contained(|| self.duration.record(took));
    }

    pub(crate) fn limited(&self, limited: Limited) {
        if limited.by_queue > 0 {
            contained(|| self.limited_by_queue.increment(limited.by_queue));
        }
        if limited.by_key > 0 {
            contained(|| self.limited_by_key.increment(limited.by_key));
        }
    }

    pub(crate) fn sample(&self, stats: &Stats) {
        let values = [
            (&self.ready, stats.ready as f64),
            (&self.scheduled, stats.scheduled as f64),
            (&self.limited, stats.limited as f64),
            (&self.in_flight, stats.in_flight as f64),
            (&self.dead, stats.dead as f64),
            (&self.busy, stats.workers_busy as f64),
            (&self.idle, stats.workers_idle as f64),
            (
                &self.oldest,
                stats.oldest_age.unwrap_or_default().as_secs_f64(),
            ),
        ];
        for (gauge, value) in values {
            contained(|| gauge.set(value));
        }
    }

    /// A queue that is gone has nothing queued.
    pub(crate) fn clear(&self) {
        for gauge in [
            &self.ready,
            &self.scheduled,
            &self.limited,
            &self.in_flight,
            &self.dead,
            &self.busy,
            &self.idle,
            &self.oldest,
        ] {
            contained(|| gauge.set(0.0));
        }
    }
}

fn describe() {
    metrics::describe_gauge!("queue_depth", Unit::Count, "Jobs in the queue, by state");
    metrics::describe_gauge!("queue_workers", Unit::Count, "Workers, by state");
    metrics::describe_gauge!(
        "queue_oldest_job_age_seconds",
        Unit::Seconds,
        "Time for which the job that has been due the longest has waited to start"
    );
    metrics::describe_counter!("queue_jobs_enqueued_total", Unit::Count, "Jobs enqueued");
    metrics::describe_counter!(
        "queue_jobs_processed_total",
        Unit::Count,
        "Runs of the handler that ended, by outcome"
    );
    metrics::describe_histogram!(
        "queue_job_wait_seconds",
        Unit::Seconds,
        "Time from a job being due to its start"
    );
    metrics::describe_histogram!(
        "queue_job_duration_seconds",
        Unit::Seconds,
        "Time that the handler took"
    );
    metrics::describe_counter!(
        "queue_rate_limited_total",
        Unit::Count,
        "Times that a job had to wait for the limit or a penalty of the queue or of its key"
    );
}
