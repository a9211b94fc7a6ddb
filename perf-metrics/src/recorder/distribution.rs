use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use metrics::HistogramFn;
use metrics::atomics::AtomicU64;

use super::scheme::{Finder, Scheme};
use crate::shard::{SHARDS, Shard};

/// A histogram in bounded memory: for each shard that was written to, the sum of all values, and
/// counters in blocks, of which there are those that hold a value. Times of one route lie close
/// together, so most of the blocks are never made.
#[derive(Debug)]
pub(crate) struct Distribution {
    scheme: &'static Scheme,
    shards: [OnceLock<Arc<Cells>>; SHARDS],
}

/// What one shard recorded. On cache lines of its own, as each block.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Cells {
    finder: Finder,
    /// The bits of the sum.
    sum: AtomicU64,
    /// How many zeros there were, which belong to the first cell: most requests have no body.
    zeros: AtomicU64,
    blocks: Box<[OnceLock<Box<Block>>]>,
}

/// The counters of cells next to each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Block([AtomicU64; BLOCK]);
const BLOCK: usize = 16;

impl Distribution {
    pub(super) fn new(scheme: &'static Scheme) -> Self {
        Self {
            scheme,
            shards: Default::default(),
        }
    }

    /// What this shard records into.
    pub(crate) fn cells(&self, shard: Shard) -> Option<&Arc<Cells>> {
        let cells = self.shards.get(shard.index())?;
        Some(cells.get_or_init(|| Arc::new(Cells::new(self.scheme))))
    }

    /// The counts so far. While values are being recorded, the sum may be ahead of the counts or
    /// behind by those.
    pub(crate) fn counts(&self) -> Counts {
        let all = self.scheme.cells();
        let mut counts = Counts {
            scheme: self.scheme,
            cells: vec![0; all],
            sum: 0.0,
        };
        for cells in self.shards.iter().filter_map(OnceLock::get) {
            counts.sum += f64::from_bits(cells.sum.load(Relaxed));
            if let Some(first) = counts.cells.first_mut() {
                *first += cells.zeros.load(Relaxed);
            }
            for (counts, block) in counts.cells.chunks_mut(BLOCK).zip(&cells.blocks) {
                let Some(block) = block.get() else { continue };
                for (count, cell) in counts.iter_mut().zip(&block.0) {
                    *count += cell.load(Relaxed);
                }
            }
        }
        counts
    }
}

impl Cells {
    fn new(scheme: &'static Scheme) -> Self {
        let blocks = 0..scheme.cells().div_ceil(BLOCK);
        Self {
            finder: scheme.finder(),
            sum: AtomicU64::new(0),
            zeros: AtomicU64::new(0),
            blocks: blocks.map(|_| OnceLock::new()).collect(),
        }
    }

    /// Records a value that is not NaN, on the shard of this thread, which these must be of.
    #[inline]
    pub(crate) fn record(&self, shard: Shard, value: f64) {
        self.add(shard, value, 1, value);
    }

    /// Adds `count` values that add up to `sum`. A request does so four times: a call of its own would
    /// be a fourth of the instructions.
    #[inline(always)]
    fn add(&self, shard: Shard, value: f64, count: u64, sum: f64) {
        if value == 0.0 {
            shard.add(&self.zeros, count, Relaxed);
            return;
        }
        let index = self.finder.cell(value);
        if let Some(block) = self.blocks.get(index / BLOCK) {
            let block: &Block = match block.get() {
                Some(block) => block,
                None => fill(block),
            };
            shard.add(&block.0[index % BLOCK], count, Relaxed);
        }
        shard.add_f64(&self.sum, sum);
    }
}

#[cold]
fn fill(block: &OnceLock<Box<Block>>) -> &Block {
    block.get_or_init(Box::default)
}

impl HistogramFn for Distribution {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        // NaN is in no bucket, and would make the sum NaN for ever; so would infinity times zero.
        if !value.is_nan() && count > 0 {
            let shard = Shard::current();
            if let Some(cells) = self.cells(shard) {
                cells.add(shard, value, count as u64, value * count as f64);
            }
        }
    }
}

/// What a histogram held at some moment.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    scheme: &'static Scheme,
    cells: Vec<u64>,
    sum: f64,
}

impl Counts {
    /// No times, with OpenTelemetry's bounds.
    pub(crate) fn of_times() -> Self {
        let scheme = Scheme::times_with(&[]);
        Self {
            scheme,
            cells: vec![0; scheme.cells()],
            sum: 0.0,
        }
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// The sum of the values.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    /// The exported bounds, each with the number of values at or below it.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut done = 0;
        let mut within = 0;
        self.scheme.buckets().map(move |(bound, below)| {
            let cells = self.cells.get(done..below).unwrap_or_default();
            within += cells.iter().sum::<u64>();
            done = below;
            (bound, within)
        })
    }

    /// How many values are at or below an exported bound; `None` if it is not one.
    pub(crate) fn within(&self, bound: f64) -> Option<u64> {
        let mut buckets = self.buckets();
        buckets
            .find(|(it, _)| *it == bound)
            .map(|(_, within)| within)
    }

    /// An estimate of the value that a share `q` of all values does not exceed; `None` if there is
    /// no value.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let cell = self.cells.iter().position(|n| {
            seen += n;
            seen >= rank
        })?;
        Some(self.scheme.middle(cell))
    }

    /// The values recorded since `earlier`, which must be of the same histograms and begun by the
    /// same.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let cells = self.cells.iter().zip(&earlier.cells);
        Self {
            scheme: self.scheme,
            cells: cells.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum: self.sum - earlier.sum,
        }
    }

    /// Adds the values of `other`. What is within a bound stays exact for the bounds that both have;
    /// for those of this alone it becomes an estimate, within a cell.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        if std::ptr::eq(self.scheme, other.scheme) {
            for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
                *mine += theirs;
            }
            return;
        }
        for (index, theirs) in other.cells.iter().enumerate().filter(|(_, n)| **n > 0) {
            let cell = self.scheme.cell(other.scheme.middle(index));
            if let Some(mine) = self.cells.get_mut(cell) {
                *mine += theirs;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> Distribution {
        Distribution::new(Scheme::for_name("x_seconds"))
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(times().counts().quantile(0.5), None);
    }

    #[test]
    fn not_a_number_is_not_recorded() {
        let times = times();
        times.record(f64::NAN);
        times.record(0.5);
        assert_eq!((times.counts().count(), times.counts().sum()), (1, 0.5));
    }

    #[test]
    fn infinity_no_times_is_not_recorded() {
        let times = times();
        times.record_many(f64::INFINITY, 0);
        assert_eq!((times.counts().count(), times.counts().sum()), (0, 0.0));
    }

    #[test]
    fn many_at_once_count_as_many() {
        let times = times();
        times.record_many(0.25, 8);
        assert_eq!((times.counts().count(), times.counts().sum()), (8, 2.0));
    }

    #[test]
    fn a_sum_over_other_bounds_is_exact_within_the_usual_ones() {
        let mut all = Counts::of_times();
        for bounds in [[0.2, 0.3], [0.4, 0.26]] {
            let times = Distribution::new(Scheme::times_with(&bounds));
            (1..=1000).for_each(|ms| times.record(f64::from(ms) / 1e3));
            all.merge(&times.counts());
        }
        assert_eq!(all.count(), 2000);
        assert!((all.sum() - 1001.0).abs() < 1e-6, "{}", all.sum());
        for (bound, within) in [(0.005, 10), (0.25, 500), (0.5, 1000), (1.0, 2000)] {
            assert_eq!(all.within(bound), Some(within), "{bound}");
        }
    }

    #[test]
    fn nothing_is_lost_when_threads_record_at_once() {
        let times = times();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| times.record(0.5)));
            }
        });
        let counts = times.counts();
        assert_eq!((counts.count(), counts.sum()), (40_000, 20_000.0));
    }

    proptest! {
        #[test]
        fn buckets_count_what_is_at_or_below_their_bound(
            values in prop::collection::vec(0.0..20.0f64, 0..200),
        ) {
            let times = times();
            values.iter().for_each(|v| times.record(*v));
            let counts = times.counts();
            for (bound, within) in counts.buckets() {
                let expected = values.iter().filter(|v| **v <= bound).count() as u64;
                prop_assert_eq!(within, expected, "le {}", bound);
            }
            prop_assert_eq!(counts.count(), values.len() as u64);
        }

        #[test]
        fn quantiles_are_within_five_percent(
            mut values in prop::collection::vec(1e-5..100.0f64, 1..200),
            q in 0.01..1.0f64,
        ) {
            let times = times();
            values.iter().for_each(|v| times.record(*v));
            values.sort_by(f64::total_cmp);
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let estimate = times.counts().quantile(q).unwrap();
            prop_assert!((estimate - exact).abs() <= exact * 0.05, "{} for {}", estimate, exact);
        }

        #[test]
        fn merged_histograms_count_as_one(
            a in prop::collection::vec(0.0..20.0f64, 0..50),
            b in prop::collection::vec(0.0..20.0f64, 0..50),
        ) {
            let (one, other, both) = (times(), times(), times());
            a.iter().for_each(|v| { one.record(*v); both.record(*v); });
            b.iter().for_each(|v| { other.record(*v); both.record(*v); });
            let mut merged = one.counts();
            merged.merge(&other.counts());
            prop_assert_eq!(merged.cells, both.counts().cells);
        }
    }
}
