use hdrhistogram::Histogram;
use serde::Serialize;

/// Quantiles of some durations, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// The quantiles, to three significant digits; nothing where there are no values.
    pub(crate) fn of(seconds: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut histogram = Histogram::<u64>::new(3).ok()?;
        for value in seconds {
            histogram.record((value * 1e6) as u64).ok()?;
        }
        let at = |q| histogram.value_at_quantile(q) as f64 / 1e6;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p95: at(0.95),
            max: at(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_hundred_values() {
        let q = Quantiles::of((1..=100).map(f64::from)).unwrap();
        assert!((q.p50 - 50.0).abs() < 0.1, "{q:?}");
        assert!((q.p95 - 95.0).abs() < 0.1, "{q:?}");
        assert!((q.max - 100.0).abs() < 0.1, "{q:?}");
    }

    #[test]
    fn no_values_have_no_quantiles() {
        assert_eq!(Quantiles::of([]), None);
    }
}
