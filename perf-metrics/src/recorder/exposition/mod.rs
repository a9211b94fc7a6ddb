//! What Prometheus scrapes: its own text format (version 0.0.4), and OpenMetrics 1.0.

mod gather;
mod labels;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;

use metrics::{Key, KeyName, SharedString};
use metrics_util::registry::Registry;

use super::storage::FixedStorage;
use gather::Gathered;

pub(crate) use write::le;

/// A format of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.
    OpenMetrics,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number that only rises.
    Counter,
    /// A number.
    Gauge,
    /// Counts of values by bucket.
    Histogram,
}

impl Kind {
    /// Its name in the formats.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric that was recorded as two kinds, of which a scrape can show one.
#[derive(Debug)]
pub(super) struct Clash {
    pub(super) name: String,
    pub(super) shown: Kind,
    pub(super) left_out: Kind,
}

/// A metric that is not in the registry: made for one scrape. One of the registry with the same
/// name goes before.
#[derive(Debug)]
pub(crate) struct Derived {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) series: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Derived {
    /// A metric with one series without labels.
    pub(crate) fn one(name: &'static str, kind: Kind, help: &'static str, value: f64) -> Self {
        Self {
            name,
            kind,
            help,
            series: vec![(Vec::new(), value)],
        }
    }
}

/// A second name for a metric of the registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alias {
    pub(crate) name: &'static str,
    pub(crate) of: &'static str,
    pub(crate) help: &'static str,
}

/// All metrics of the registry, those derived, and the aliases, sorted by name and labels; and what
/// they leave out.
pub(super) fn render(
    registry: &Registry<Key, FixedStorage>,
    descriptions: &HashMap<KeyName, SharedString>,
    format: Format,
    derived: Vec<Derived>,
    aliases: &[Alias],
) -> (String, Vec<Clash>) {
    let mut gathered = Gathered::of(registry, descriptions);
    for derived in derived {
        gathered.derive(derived);
    }
    for alias in aliases {
        gathered.alias(alias);
    }
    gathered.sort();
    (
        write::write(&gathered, format),
        gathered.clashes().collect(),
    )
}
