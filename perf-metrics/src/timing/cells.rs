use std::sync::{Arc, OnceLock};

use metrics::{Gauge, Histogram, Key};

use super::names::METADATA;
use super::source::Source;
use crate::recorder::{Cells, Distribution, Flows};
use crate::shard::{SHARDS, Shard};

/// Histograms of the monitor's, without what the facade puts around them, or of any other recorder.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be a step more for each request"
)]
pub(super) enum Values<const N: usize> {
    Own(Own<N>),
    Foreign([Histogram; N]),
}

/// What is recorded together lies together: one step leads to all of a shard's.
#[derive(Debug)]
pub(super) struct Own<const N: usize> {
    shards: [OnceLock<Box<[Arc<Cells>; N]>>; SHARDS],
    all: [Arc<Distribution>; N],
}

impl<const N: usize> Values<N> {
    /// The histograms of these keys; those that may not be kept are silent unless `kept` is false.
    pub(super) fn fetch(source: &Source, keys: &[Key; N], kept: bool) -> Self {
        let foreign = |key| {
            let (histogram, keep) = source.with(|r| r.register_histogram(key, &METADATA));
            if keep == kept {
                histogram
            } else {
                Histogram::noop()
            }
        };
        match source {
            Source::Monitor(recorder) => Self::Own(Own {
                shards: Default::default(),
                all: keys.each_ref().map(|key| recorder.distribution(key)),
            }),
            _ => Self::Foreign(keys.each_ref().map(foreign)),
        }
    }

    /// Records a value, which is not NaN, into each of some of the histograms, by their index.
    #[inline(always)]
    pub(super) fn record<const M: usize>(&self, shard: Shard, values: [(usize, Option<f64>); M]) {
        match self {
            Self::Own(own) => {
                let Some(cells) = own.of(shard) else { return };
                for (index, value) in values {
                    if let (Some(cells), Some(value)) = (cells.get(index), value) {
                        cells.record(shard, value);
                    }
                }
            }
            Self::Foreign(all) => {
                for (index, value) in values {
                    if let (Some(histogram), Some(value)) = (all.get(index), value) {
                        histogram.record(value);
                    }
                }
            }
        }
    }
}

impl<const N: usize> Own<N> {
    #[inline]
    fn of(&self, shard: Shard) -> Option<&[Arc<Cells>; N]> {
        match self.shards.get(shard.index())?.get() {
            Some(cells) => Some(cells),
            None => self.grow(shard),
        }
    }

    #[cold]
    fn grow(&self, shard: Shard) -> Option<&[Arc<Cells>; N]> {
        let cells = self.all.each_ref().map(|it| it.cells(shard).cloned());
        let cells: Vec<_> = cells.into_iter().flatten().collect();
        let cells = Box::<[_; N]>::try_from(cells).ok()?;
        Some(self.shards.get(shard.index())?.get_or_init(|| cells))
    }
}

/// A gauge of what is there now, likewise.
#[derive(Debug)]
pub(super) enum Present {
    Own(Arc<Flows>),
    Foreign(Gauge),
}

impl Present {
    /// The gauge, and whether it may be kept.
    pub(super) fn fetch(source: &Source, key: &Key) -> (Self, bool) {
        match source {
            Source::Monitor(recorder) => (Self::Own(recorder.flows(key)), true),
            _ => {
                let (gauge, keep) = source.with(|r| r.register_gauge(key, &METADATA));
                (Self::Foreign(gauge), keep)
            }
        }
    }

    #[inline]
    pub(super) fn enter(&self, shard: Shard) {
        match self {
            Self::Own(flows) => flows.enter(shard),
            Self::Foreign(gauge) => gauge.increment(1.0),
        }
    }

    #[inline]
    pub(super) fn leave(&self, shard: Shard) {
        match self {
            Self::Own(flows) => flows.leave(shard),
            Self::Foreign(gauge) => gauge.decrement(1.0),
        }
    }
}
