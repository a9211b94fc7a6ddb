use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use super::sink::Written;

/// Why a batch was written when it was. Where several reasons hold, the first of the list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It had `max_batch_size` rows.
    Size,
    /// The next row would have taken it over `max_batch_bytes`, or it was there to the byte.
    Bytes,
    /// The batcher was shut down, or its last handle dropped.
    Shutdown,
    /// A flush asked for it.
    Flush,
    /// Linger was set, and the oldest row had waited for so long.
    Linger,
    /// Without linger: there was a connection, and these were the rows that waited.
    Ready,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::Size,
        Self::Bytes,
        Self::Shutdown,
        Self::Flush,
        Self::Linger,
        Self::Ready,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Bytes => "bytes",
            Self::Shutdown => "shutdown",
            Self::Flush => "flush",
            Self::Linger => "linger",
            Self::Ready => "ready",
        }
    }
}

/// The handles of one batcher, fetched when it is spawned. Commits and fallbacks count where they
/// happen, in the insert.
pub(super) struct Metrics {
    wait: Histogram,
    size: Histogram,
    durations: [Histogram; Reason::ALL.len()],
    written: Counter,
    ignored: Counter,
    deduplicated: Counter,
    failed: Counter,
    fallbacks: Counter,
    dead_letters: Counter,
}

impl Metrics {
    pub(super) fn new(batch: &str) -> Self {
        describe_histogram!(
            "batch_wait_seconds",
            Unit::Seconds,
            "time from a row's acceptance to the start of its write"
        );
        describe_counter!(
            "batch_dead_letters_total",
            "rows that were not written and whose caller had gone away"
        );
        let name = batch.to_owned();
        let items = |outcome: &'static str| counter!("batch_items_total", "batch" => name.clone(), "outcome" => outcome);
        Self {
            wait: histogram!("batch_wait_seconds", "batch" => name.clone()),
            size: histogram!("batch_size", "batch" => name.clone()),
            durations: Reason::ALL.map(|reason| {
                histogram!(
                    "batch_flush_duration_seconds",
                    "batch" => name.clone(), "reason" => reason.as_str()
                )
            }),
            written: items("written"),
            ignored: items("ignored"),
            deduplicated: items("deduplicated"),
            failed: items("failed"),
            fallbacks: counter!("batch_fallbacks_total", "batch" => name.clone()),
            dead_letters: counter!("batch_dead_letters_total", "batch" => name.clone()),
        }
    }

    pub(super) fn waited(&self, time: Duration) {
        self.wait.record(time);
    }

    pub(super) fn done(&self, reason: Reason, rows: usize, written: &Written, time: Duration) {
        self.size.record(rows as f64);
        if let Some(duration) = self.durations.get(reason as usize) {
            duration.record(time);
        }
        let failed = written.failed.len() as u64;
        self.written.increment(written.written);
        self.ignored.increment(written.ignored);
        self.deduplicated.increment(written.deduplicated);
        self.failed.increment(failed);
        if failed > 0 {
            self.fallbacks.increment(1);
        }
    }

    /// A batch as a whole was not written.
    pub(super) fn aborted(&self, rows: usize) {
        self.size.record(rows as f64);
        self.failed.increment(rows as u64);
    }

    /// A row was given up before its batch.
    pub(super) fn expired(&self) {
        self.failed.increment(1);
    }

    pub(super) fn dead_letter(&self) {
        self.dead_letters.increment(1);
    }
}
