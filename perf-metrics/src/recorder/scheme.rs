use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// OpenTelemetry's advice for `http.server.request.duration`, in seconds.
pub(crate) const TIME_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const SIZE_BOUNDS: [f64; 7] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];
const COUNT_BOUNDS: [f64; 19] = [
    1.0, 2.0, 5.0, 1e1, 2e1, 5e1, 1e2, 2e2, 5e2, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6,
];

/// 1 microsecond to 128 seconds; 16 cells an octave: a cell's middle is within 3.2% of all in it.
static TIMES: LazyLock<Scheme> = LazyLock::new(|| Scheme::new(&TIME_BOUNDS, -20, 7, 4));
/// 16 bytes to 4 GiB, 4 cells an octave: sizes need no fine quantiles.
static SIZES: LazyLock<Scheme> = LazyLock::new(|| Scheme::new(&SIZE_BOUNDS, 4, 32, 2));
static COUNTS: LazyLock<Scheme> = LazyLock::new(|| Scheme::new(&COUNT_BOUNDS, 0, 24, 2));

/// How the values of a histogram fall into cells.
///
/// Each octave between two powers of two has the same number of cells, so that a quantile can be
/// told within a few percent over the whole range, and a value's cell is found in the bits of its
/// floating-point form. A cell that holds exported bounds is split there, so that the exported
/// buckets are exact sums of cells, and a sample costs one increment for both.
#[derive(Debug)]
pub(crate) struct Scheme {
    bounds: Box<[f64]>,
    slots: Box<[Slot]>,
    /// By slot: of the bounds that split it, the index of the first, and that after the last.
    splits: Box<[(usize, usize)]>,
    /// By bound: how many cells are at or below it.
    below: Box<[usize]>,
    /// By cell: its middle.
    middles: Box<[f64]>,
    greatest: f64,
    offset: i64,
    shift: u32,
}

/// What finds the cell of a value: that of the scheme which it takes for each, in the fewest steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finder {
    slots: &'static [Slot],
    scheme: &'static Scheme,
    offset: i64,
    shift: u32,
}

impl Finder {
    /// The cell of a value that is not NaN.
    #[inline]
    pub(super) fn cell(self, value: f64) -> usize {
        let slot = unsplit(value, self.shift, self.offset);
        match self.slots.get(slot) {
            Some(Slot(first)) if first & 1 == 0 => (first >> 1) as usize,
            _ => self.scheme.split(slot, value),
        }
    }
}

/// The order of the bits as integers is that of the values, as far as they are positive; those of
/// negative values are negative, too.
#[inline]
fn unsplit(value: f64, shift: u32, offset: i64) -> usize {
    let bits = value.to_bits() as i64 >> shift;
    (bits - offset).max(0) as usize
}

/// A cell before it was split: twice the index of its first part, plus one if it is split.
#[derive(Debug, Clone, Copy)]
struct Slot(u32);

impl Scheme {
    /// The scheme for times in seconds, with these bounds beside OpenTelemetry's.
    ///
    /// Schemes live for ever, so that no sample has to count who uses one; there are as many as
    /// different sets of bounds.
    pub(super) fn times_with(more: &[f64]) -> &'static Self {
        type Schemes = Mutex<BTreeMap<Vec<u64>, &'static Scheme>>;
        static SCHEMES: Schemes = Mutex::new(BTreeMap::new());
        let valid = |bound: &f64| *bound > 0.0 && bound.is_finite() && !TIME_BOUNDS.contains(bound);
        let mut more: Vec<f64> = more.iter().copied().filter(valid).collect();
        if more.is_empty() {
            return &TIMES;
        }
        more.sort_by(f64::total_cmp);
        more.dedup();
        let key = more.iter().map(|bound| bound.to_bits()).collect();
        let mut schemes = SCHEMES.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.entry(key).or_insert_with(|| {
            more.extend(TIME_BOUNDS);
            more.sort_by(f64::total_cmp);
            Box::leak(Box::new(Self::new(&more, -20, 7, 4)))
        })
    }

    /// The scheme for a metric of this name.
    pub(super) fn for_name(name: &str) -> &'static Self {
        if name.ends_with("_seconds") {
            &TIMES
        } else if name.ends_with("_bytes") {
            &SIZES
        } else {
            &COUNTS
        }
    }

    /// Cells from 2^`low` to 2^`high`, 2^`bits` an octave, and one for what is below and one for
    /// what is above. The bounds are in order.
    fn new(bounds: &[f64], low: i32, high: i32, bits: u32) -> Self {
        let (least, greatest) = (2f64.powi(low), 2f64.powi(high));
        let shift = f64::MANTISSA_DIGITS - 1 - bits;
        let offset = unsplit(least, shift, 1) as i64;
        let mut scheme = Self {
            bounds: bounds.into(),
            slots: Box::default(),
            splits: Box::default(),
            below: Box::default(),
            middles: Box::default(),
            greatest,
            offset,
            shift,
        };
        let top = unsplit(greatest, shift, offset);
        let mut edges = vec![0.0];
        for octave in low..high {
            let step = 2f64.powi(octave) / f64::from(1 << bits);
            edges.extend((0..1 << bits).map(|i| 2f64.powi(octave) + f64::from(i) * step));
        }
        edges.push(greatest);
        edges.push(f64::INFINITY);

        let (mut slots, mut splits) = (Vec::new(), Vec::new());
        let (mut below, mut middles) = (Vec::new(), Vec::new());
        for (index, edge) in edges.windows(2).enumerate() {
            let &[mut from, to] = edge else { continue };
            let (first, split) = (middles.len(), below.len());
            for bound in bounds
                .iter()
                .filter(|&&b| scheme.unsplit(b).min(top) == index)
            {
                middles.push(f64::midpoint(from, *bound));
                below.push(middles.len());
                from = *bound;
            }
            slots.push(Slot((first << 1 | usize::from(split < below.len())) as u32));
            splits.push((split, below.len()));
            middles.push(if to.is_finite() {
                f64::midpoint(from, to)
            } else {
                from
            });
        }
        scheme.slots = slots.into();
        scheme.splits = splits.into();
        scheme.below = below.into();
        scheme.middles = middles.into();
        scheme
    }

    /// The slot of a value; those beyond the last belong to the last.
    #[inline]
    fn unsplit(&self, value: f64) -> usize {
        unsplit(value, self.shift, self.offset)
    }

    /// The cell of a value that is not NaN.
    pub(super) fn cell(&'static self, value: f64) -> usize {
        self.finder().cell(value)
    }

    /// What finds the cells of values.
    pub(super) fn finder(&'static self) -> Finder {
        Finder {
            slots: &self.slots,
            scheme: self,
            offset: self.offset,
            shift: self.shift,
        }
    }

    #[cold]
    fn split(&self, slot: usize, value: f64) -> usize {
        let slot = slot.min(self.slots.len() - 1);
        let (from, to) = self.splits.get(slot).copied().unwrap_or_default();
        let bounds = self.bounds.get(from..to).unwrap_or_default();
        let first = self.slots.get(slot).map_or(0, |slot| slot.0 >> 1);
        first as usize + bounds.iter().filter(|bound| value > **bound).count()
    }

    /// How many cells there are.
    pub(super) fn cells(&self) -> usize {
        self.middles.len()
    }

    /// The bounds of the exported buckets, each with how many of the first cells are within it.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, usize)> {
        self.bounds.iter().copied().zip(self.below.iter().copied())
    }

    /// The value that stands for a cell.
    pub(super) fn middle(&self, cell: usize) -> f64 {
        self.middles.get(cell).copied().unwrap_or(self.greatest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bounds of users': some share a cell with each other or with one of OpenTelemetry's, one is
    /// OpenTelemetry's, one below all cells and one above.
    const MORE: [f64; 8] = [0.2, 0.251, 0.252, 0.3, 1.0, 1e-9, 300.0, 0.2];

    fn all() -> [&'static Scheme; 4] {
        [&TIMES, &SIZES, &COUNTS, Scheme::times_with(&MORE)]
    }

    #[test]
    fn bounds_are_added_to_the_usual_ones_once() {
        let scheme = Scheme::times_with(&MORE);
        let bounds: Vec<f64> = scheme.buckets().map(|(bound, _)| bound).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        assert_eq!(bounds.len(), TIME_BOUNDS.len() + 6);
        assert!(MORE.iter().all(|bound| bounds.contains(bound)));
        assert!(std::ptr::eq(scheme, Scheme::times_with(&MORE)));
        assert!(std::ptr::eq(&raw const *TIMES, Scheme::times_with(&[0.5])));
    }

    #[test]
    fn every_bound_has_its_cells() {
        for scheme in all() {
            assert_eq!(scheme.below.len(), scheme.bounds.len());
            assert!(scheme.below.is_sorted());
            assert!(scheme.middles.is_sorted());
        }
    }

    #[test]
    fn a_value_on_a_bound_is_within_it_and_the_next_greater_is_not() {
        for scheme in all() {
            for (bound, below) in scheme.buckets() {
                assert!(scheme.cell(bound) < below, "{bound}");
                assert!(scheme.cell(bound.next_up()) >= below, "{bound}");
                assert!(scheme.cell(bound.next_down()) < below, "{bound}");
            }
        }
    }

    #[test]
    fn extreme_values_have_a_cell() {
        for scheme in all() {
            for value in [-1.0, -0.0, 0.0, f64::MIN_POSITIVE, f64::NEG_INFINITY] {
                assert_eq!(scheme.cell(value), 0, "{value}");
            }
            for value in [
                scheme.greatest.max(300.0).next_up(),
                f64::MAX,
                f64::INFINITY,
            ] {
                assert_eq!(scheme.cell(value), scheme.cells() - 1, "{value}");
            }
        }
    }

    proptest! {
        #[test]
        fn cells_are_in_the_order_of_the_values(a in -1.0..1e10f64, b in -1.0..1e10f64) {
            for scheme in all() {
                let (low, high) = (a.min(b), a.max(b));
                prop_assert!(scheme.cell(low) <= scheme.cell(high));
            }
        }

        #[test]
        fn the_middle_of_a_times_cell_is_near_the_value(value in 1e-6..127.0f64) {
            for times in [&TIMES, Scheme::times_with(&MORE)] {
                let middle = times.middle(times.cell(value));
                prop_assert!((middle - value).abs() <= value * 0.032, "{} for {}", middle, value);
            }
        }
    }
}
