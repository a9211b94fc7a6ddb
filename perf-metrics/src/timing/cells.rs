use std::sync::Arc;

use metrics::{Gauge, Histogram, Key};

use super::names::METADATA;
use super::source::Source;
use crate::recorder::{Distribution, Level};
use crate::shard::Shard;

/// A histogram of the monitor's, without what the facade puts around it, or of any other recorder.
#[derive(Debug)]
pub(super) enum Values {
    Own(Arc<Distribution>),
    Foreign(Histogram),
}

impl Values {
    pub(super) fn fetch(source: &Source, key: &Key) -> (Self, bool) {
        match source {
            Source::Monitor(recorder) => (Self::Own(recorder.distribution(key)), true),
            _ => {
                let (histogram, keep) = source.with(|r| r.register_histogram(key, &METADATA));
                (Self::Foreign(histogram), keep)
            }
        }
    }

    pub(super) fn noop() -> Self {
        Self::Foreign(Histogram::noop())
    }

    #[inline]
    pub(super) fn record(&self, shard: Shard, value: f64) {
        match self {
            Self::Own(cells) => cells.record_on(shard, value),
            Self::Foreign(histogram) => histogram.record(value),
        }
    }
}

/// A gauge of what is there now, likewise.
#[derive(Debug)]
pub(super) enum Present {
    Own(Arc<Level>),
    Foreign(Gauge),
}

impl Present {
    /// The gauge, and whether it may be kept.
    pub(super) fn fetch(source: &Source, key: &Key) -> (Self, bool) {
        match source {
            Source::Monitor(recorder) => (Self::Own(recorder.level(key)), true),
            _ => {
                let (gauge, keep) = source.with(|r| r.register_gauge(key, &METADATA));
                (Self::Foreign(gauge), keep)
            }
        }
    }

    #[inline]
    pub(super) fn enter(&self, shard: Shard) {
        match self {
            Self::Own(level) => level.enter(shard),
            Self::Foreign(gauge) => gauge.increment(1.0),
        }
    }

    #[inline]
    pub(super) fn leave(&self, shard: Shard) {
        match self {
            Self::Own(level) => level.leave(shard),
            Self::Foreign(gauge) => gauge.decrement(1.0),
        }
    }
}
