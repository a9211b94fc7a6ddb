use std::sync::LazyLock;

/// OpenTelemetry's advice for `http.server.request.duration`, in seconds.
const TIME_BOUNDS: [f64; 14] = [
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
/// floating-point form. A cell that holds an exported bound is split there, so that the exported
/// buckets are exact sums of cells, and a sample costs one increment for both.
#[derive(Debug)]
pub(crate) struct Scheme {
    bounds: &'static [f64],
    /// By unsplit cell: where it is split (inclusive below), and the index of its first part.
    slots: Box<[(f64, usize)]>,
    /// By bound: how many cells are at or below it.
    below: Box<[usize]>,
    /// By cell: its middle.
    middles: Box<[f64]>,
    least: f64,
    greatest: f64,
    offset: u64,
    shift: u32,
}

impl Scheme {
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
    /// what is above. At most one bound may fall into a cell.
    fn new(bounds: &'static [f64], low: i32, high: i32, bits: u32) -> Self {
        let (least, greatest) = (2f64.powi(low), 2f64.powi(high));
        let shift = f64::MANTISSA_DIGITS - 1 - bits;
        let mut scheme = Self {
            bounds,
            slots: Box::default(),
            below: Box::default(),
            middles: Box::default(),
            least,
            greatest,
            offset: least.to_bits() >> shift,
            shift,
        };
        let mut edges = vec![0.0];
        for octave in low..high {
            let step = 2f64.powi(octave) / f64::from(1 << bits);
            edges.extend((0..1 << bits).map(|i| 2f64.powi(octave) + f64::from(i) * step));
        }
        edges.push(greatest);
        edges.push(f64::INFINITY);

        let (mut slots, mut below, mut middles) = (Vec::new(), Vec::new(), Vec::new());
        for (index, edge) in edges.windows(2).enumerate() {
            let &[from, to] = edge else { continue };
            let bound = bounds.iter().find(|&&b| scheme.unsplit(b) == index);
            let split = bound.copied().unwrap_or(f64::INFINITY);
            slots.push((split, middles.len()));
            if bound.is_some() {
                middles.push(f64::midpoint(from, split));
                below.push(middles.len());
            }
            let from = if bound.is_some() { split } else { from };
            middles.push(if to.is_finite() {
                f64::midpoint(from, to)
            } else {
                greatest
            });
        }
        scheme.slots = slots.into();
        scheme.below = below.into();
        scheme.middles = middles.into();
        scheme
    }

    fn unsplit(&self, value: f64) -> usize {
        if value < self.least {
            return 0;
        }
        // For positive floating-point numbers, the order of the bits is the order of the values.
        let value = value.min(self.greatest);
        ((value.to_bits() >> self.shift) - self.offset + 1) as usize
    }

    /// The cell of a value that is not NaN.
    pub(super) fn cell(&self, value: f64) -> usize {
        match self.slots.get(self.unsplit(value)) {
            Some(&(split, first)) => first + usize::from(value > split),
            None => self.middles.len() - 1,
        }
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

    fn all() -> [&'static Scheme; 3] {
        [&TIMES, &SIZES, &COUNTS]
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
            for value in [scheme.greatest.next_up(), f64::MAX, f64::INFINITY] {
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
            let middle = TIMES.middle(TIMES.cell(value));
            prop_assert!((middle - value).abs() <= value * 0.032, "{} for {}", middle, value);
        }
    }
}
