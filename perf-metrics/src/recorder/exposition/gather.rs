use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::Ordering::Acquire;

use metrics::{Key, KeyName, SharedString};
use metrics_util::registry::Registry;

use super::super::distribution::Counts;
use super::super::storage::FixedStorage;
use super::{Alias, Clash, Derived, Kind, labels};

/// All metrics at one moment. The texts of all labels are in one string, and the buckets of all
/// histograms in one list: a scrape of many series allocates little.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    families: Vec<Family>,
    /// The families by the names they were recorded under, and by those they are shown under.
    by_key: HashMap<KeyName, usize, rapidhash::fast::RandomState>,
    by_name: HashMap<String, usize>,
    /// The order in which the families are shown.
    order: Vec<usize>,
    labels: String,
    buckets: Vec<(f64, u64)>,
    /// The kinds that families were recorded as beside their own.
    clashes: BTreeMap<usize, Kind>,
}

/// The series of one metric.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: Option<SharedString>,
    /// Of the family whose series these are, if not its own.
    alias_of: Option<usize>,
    series: Vec<Series>,
}

#[derive(Debug)]
pub(super) struct Series {
    labels: Range<usize>,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram {
        buckets: Range<usize>,
        count: u64,
        sum: f64,
    },
}

impl Gathered {
    pub(super) fn of(
        registry: &Registry<Key, FixedStorage>,
        descriptions: &HashMap<KeyName, SharedString>,
    ) -> Self {
        let mut all = Self::default();
        // Gauges first: what goes out of flight after that is counted as ended too, never as
        // neither.
        registry.visit_gauges(|key, gauge| {
            let value = Value::Real(gauge.value());
            all.add(key, Kind::Gauge, descriptions, value);
        });
        registry.visit_counters(|key, counter| {
            let value = Value::Whole(counter.load(Acquire));
            all.add(key, Kind::Counter, descriptions, value);
        });
        registry.visit_histograms(|key, histogram| {
            let value = all.histogram(&histogram.counts());
            all.add(key, Kind::Histogram, descriptions, value);
        });
        all
    }

    fn histogram(&mut self, counts: &Counts) -> Value {
        let start = self.buckets.len();
        self.buckets.extend(counts.buckets());
        Value::Histogram {
            buckets: start..self.buckets.len(),
            count: counts.count(),
            sum: counts.sum(),
        }
    }

    fn add(
        &mut self,
        key: &Key,
        kind: Kind,
        descriptions: &HashMap<KeyName, SharedString>,
        value: Value,
    ) {
        let index = match self.by_key.get(key.name()) {
            Some(index) => *index,
            None => {
                let name = labels::sanitize(key.name(), true).into_owned();
                let help = descriptions.get(key.name()).cloned();
                let index = self.family(name, kind, help);
                self.by_key.insert(key.name_shared(), index);
                index
            }
        };
        let Some(family) = self.families.get_mut(index) else {
            return;
        };
        // A name is of one kind in Prometheus: one series of another kind, and the whole scrape
        // would be refused. The kind seen first stays.
        if family.kind == kind {
            let start = self.labels.len();
            labels::append(&mut self.labels, key, kind);
            family.series.push(Series {
                labels: start..self.labels.len(),
                value,
            });
        } else {
            self.clashes.insert(index, kind);
        }
    }

    /// The metrics of which series are left out, as they are of another kind than is shown.
    pub(super) fn clashes(&self) -> impl Iterator<Item = Clash> {
        self.clashes.iter().filter_map(|(index, left_out)| {
            let family = self.families.get(*index)?;
            Some(Clash {
                name: family.name.clone(),
                shown: family.kind,
                left_out: *left_out,
            })
        })
    }

    /// The family of this name, which may be there already.
    fn family(&mut self, name: String, kind: Kind, help: Option<SharedString>) -> usize {
        if let Some(index) = self.by_name.get(&name) {
            return *index;
        }
        let index = self.families.len();
        self.by_name.insert(name.clone(), index);
        self.families.push(Family {
            name,
            kind,
            help,
            alias_of: None,
            series: Vec::new(),
        });
        index
    }

    pub(super) fn derive(&mut self, derived: Derived) {
        if derived.series.is_empty() || self.by_name.contains_key(derived.name) {
            return;
        }
        let help = Some(derived.help.into());
        let index = self.family(derived.name.to_owned(), derived.kind, help);
        for (pairs, value) in derived.series {
            let start = self.labels.len();
            let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
            labels::append_pairs(&mut self.labels, pairs);
            if let Some(family) = self.families.get_mut(index) {
                family.series.push(Series {
                    labels: start..self.labels.len(),
                    value: Value::Real(value),
                });
            }
        }
    }

    pub(super) fn alias(&mut self, alias: &Alias) {
        let Some(&of) = self.by_name.get(alias.of) else {
            return;
        };
        if self.by_name.contains_key(alias.name) {
            return;
        }
        if let Some(kind) = self.families.get(of).map(|family| family.kind) {
            let index = self.family(alias.name.to_owned(), kind, Some(alias.help.into()));
            if let Some(family) = self.families.get_mut(index) {
                family.alias_of = Some(of);
            }
        }
    }

    /// Brings families and series into their order. Of the series that have the same labels, which
    /// Prometheus would refuse, one remains: the sum of counters and histograms, the first gauge.
    pub(super) fn sort(&mut self) {
        self.order = (0..self.families.len()).collect();
        let families = &mut self.families;
        let name = |index: &usize| families.get(*index).map(|family| &family.name);
        self.order.sort_by(|a, b| name(a).cmp(&name(b)));
        let (text, buckets) = (&self.labels, &mut self.buckets);
        for family in families {
            let labels = |series: &Series| text.get(series.labels.clone());
            family
                .series
                .sort_unstable_by(|a, b| labels(a).cmp(&labels(b)));
            family.series.dedup_by(|later, first| {
                let same = labels(later) == labels(first);
                if same {
                    first.value.add(&later.value, buckets);
                }
                same
            });
        }
    }

    /// The families in their order.
    pub(super) fn families(&self) -> impl Iterator<Item = &Family> {
        self.order
            .iter()
            .filter_map(|index| self.families.get(*index))
    }

    /// The series of a family, each with its labels.
    pub(super) fn series<'a>(
        &'a self,
        family: &'a Family,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let of = family.alias_of.and_then(|index| self.families.get(index));
        of.unwrap_or(family).series.iter().map(|series| {
            let labels = self.labels.get(series.labels.clone());
            (labels.unwrap_or_default(), &series.value)
        })
    }

    /// The exported bounds of a histogram, each with the number of values within it.
    pub(super) fn buckets(&self, buckets: &Range<usize>) -> &[(f64, u64)] {
        self.buckets.get(buckets.clone()).unwrap_or_default()
    }
}

impl Value {
    fn add(&mut self, other: &Self, all: &mut [(f64, u64)]) {
        match (self, other) {
            (Self::Whole(mine), Self::Whole(theirs)) => *mine += theirs,
            (
                Self::Histogram {
                    buckets: mine,
                    count,
                    sum,
                },
                Self::Histogram {
                    buckets: theirs,
                    count: more,
                    sum: further,
                },
            ) if mine.len() == theirs.len() => {
                for (mine, theirs) in mine.clone().zip(theirs.clone()) {
                    let more = all.get(theirs).map_or(0, |(_, n)| *n);
                    if let Some((_, n)) = all.get_mut(mine) {
                        *n += more;
                    }
                }
                *count += more;
                *sum += further;
            }
            _ => {}
        }
    }
}
