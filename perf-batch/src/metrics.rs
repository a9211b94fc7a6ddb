use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::BatchReport;

/// The handles of one batch name, fetched once.
#[derive(Clone)]
pub(crate) struct Metrics {
    size: Histogram,
    written: Counter,
    ignored: Counter,
    deduplicated: Counter,
    failed: Counter,
    duration: Histogram,
    commits: Counter,
    fallbacks: Counter,
}

impl Metrics {
    pub(crate) fn new(batch: &str) -> Self {
        describe_histogram!("batch_size", Unit::Count, "rows given in one batch");
        describe_counter!("batch_items_total", "rows by what became of them");
        describe_histogram!(
            "batch_flush_duration_seconds",
            Unit::Seconds,
            "time to write a batch, from the call to the commit's answer"
        );
        describe_counter!("batch_commits_total", "transactions committed");
        describe_counter!(
            "batch_fallbacks_total",
            "batches in which a row was refused and the good rows were written without it"
        );
        let name = batch.to_owned();
        let items = |outcome: &'static str| counter!("batch_items_total", "batch" => name.clone(), "outcome" => outcome);
        Self {
            size: histogram!("batch_size", "batch" => name.clone()),
            written: items("written"),
            ignored: items("ignored"),
            deduplicated: items("deduplicated"),
            failed: items("failed"),
            duration: histogram!(
                "batch_flush_duration_seconds", "batch" => name.clone(), "reason" => "execute"
            ),
            commits: counter!("batch_commits_total", "batch" => name.clone()),
            fallbacks: counter!("batch_fallbacks_total", "batch" => name.clone()),
        }
    }

    pub(crate) fn committed(&self) {
        self.commits.increment(1);
    }

    pub(crate) fn done<R>(&self, report: &BatchReport<R>) {
        self.size.record(report.given as f64);
        self.duration.record(report.duration);
        let failed = report.failed.len() as u64;
        for (counter, rows) in [
            (&self.written, report.written),
            (&self.ignored, report.ignored),
            (&self.deduplicated, report.deduplicated),
            (&self.failed, failed),
        ] {
            counter.increment(rows);
        }
        if failed > 0 {
            self.fallbacks.increment(1);
        }
    }

    /// The batch as a whole was not written.
    pub(crate) fn aborted(&self, rows: usize) {
        self.size.record(rows as f64);
        self.failed.increment(rows as u64);
    }
}
