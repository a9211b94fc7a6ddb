use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::report::Tally;

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
    retries: Counter,
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
        describe_counter!(
            "batch_retries_total",
            "transactions tried again after a failure that passes"
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
            retries: counter!("batch_retries_total", "batch" => name.clone()),
        }
    }

    pub(crate) fn committed(&self, transactions: u64) {
        self.commits.increment(transactions);
    }

    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }

    /// Counts a batch; `seconds` where it was written. Rows that are in no count of the tally were
    /// not written.
    pub(crate) fn done(&self, given: usize, tally: &Tally, seconds: Option<f64>) {
        self.size.record(given as f64);
        if let Some(seconds) = seconds {
            self.duration.record(seconds);
        }
        let taken = tally.written + tally.ignored + tally.deduplicated;
        for (counter, rows) in [
            (&self.written, tally.written),
            (&self.ignored, tally.ignored),
            (&self.deduplicated, tally.deduplicated),
            (&self.failed, given as u64 - taken.min(given as u64)),
        ] {
            counter.increment(rows);
        }
        self.committed(tally.commits);
        if seconds.is_some() && !tally.failed.is_empty() {
            self.fallbacks.increment(1);
        }
    }
}
