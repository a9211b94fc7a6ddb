use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::gather::{Family, Gathered, Value};
use super::labels::escape;
use super::{Format, Kind};

/// Writes everything in this format.
pub(super) fn write(gathered: &Gathered, format: Format) -> String {
    let mut writer = Writer {
        gathered,
        format,
        text: String::with_capacity(length(gathered)),
        taken: HashSet::new(),
        bounds: HashMap::default(),
        digits: itoa::Buffer::new(),
    };
    for family in gathered.families() {
        writer.family(family);
    }
    if format == Format::OpenMetrics {
        writer.text.push_str("# EOF\n");
    }
    writer.text
}

/// About how long the text is going to be, rather too much than too little: as it grows to some
/// megabytes, it would be copied again and again.
fn length(gathered: &Gathered) -> usize {
    // A suffix, a bound and a number.
    const REST: usize = 40;
    let of = |family: &Family| -> usize {
        let series = gathered.series(family);
        let lengths = series.map(|(labels, value)| {
            let lines = match value {
                Value::Histogram { buckets, .. } => buckets.len() + 3,
                Value::Whole(_) | Value::Real(_) => 1,
            };
            lines * (family.name.len() + labels.len() + REST)
        });
        // What is above them.
        lengths.sum::<usize>() + 300
    };
    gathered.families().map(of).sum()
}

struct Writer<'a> {
    gathered: &'a Gathered,
    format: Format,
    text: String,
    /// All names of samples, and of families.
    taken: HashSet<String>,
    /// The texts of the bounds, by their bits.
    bounds: HashMap<u64, String, rapidhash::fast::RandomState>,
    digits: itoa::Buffer,
}

/// How a family is shown.
struct Shown<'a> {
    name: &'a str,
    kind: &'static str,
}

impl Writer<'_> {
    fn family(&mut self, family: &Family) {
        let Some(shown) = self.shown(family) else {
            return;
        };
        self.header(family, &shown);
        for (labels, value) in self.gathered.series(family) {
            match value {
                Value::Whole(value) => {
                    self.start(&family.name, "", labels);
                    self.whole(*value);
                }
                Value::Real(value) => {
                    self.start(&family.name, "", labels);
                    self.real(*value);
                }
                Value::Histogram {
                    buckets,
                    count,
                    sum,
                } => {
                    let buckets = self.gathered.buckets(buckets);
                    self.histogram(&family.name, labels, buckets, *count, *sum);
                }
            }
        }
    }

    /// The name and type of a family; `None` if its samples would have the names of others': a
    /// parser of OpenMetrics refuses the whole scrape for that, so the first stays.
    fn shown<'a>(&mut self, family: &'a Family) -> Option<Shown<'a>> {
        let name = family.name.as_str();
        let shown = match (family.kind, self.format) {
            (Kind::Counter, Format::OpenMetrics) => {
                let base = name.strip_suffix("_total").filter(|base| !base.is_empty());
                match base.filter(|base| !self.taken.contains(*base)) {
                    Some(name) => Shown {
                        name,
                        kind: "counter",
                    },
                    // The samples of a counter end in `_total` there. Others keep their name, by
                    // which rules and dashboards know them, and lose their type.
                    None => Shown {
                        name,
                        kind: "unknown",
                    },
                }
            }
            (Kind::Counter, Format::Prometheus) => Shown {
                name,
                kind: "counter",
            },
            (Kind::Gauge, _) => Shown {
                name,
                kind: "gauge",
            },
            (Kind::Histogram, _) => Shown {
                name,
                kind: "histogram",
            },
        };
        let suffixes: &[&str] = match family.kind {
            Kind::Histogram => &["", "_bucket", "_sum", "_count"],
            Kind::Counter | Kind::Gauge => &[""],
        };
        let samples = suffixes.iter().map(|suffix| format!("{name}{suffix}"));
        let mut names: Vec<String> = samples.collect();
        if shown.name != name {
            names.push(shown.name.to_owned());
        }
        if names.iter().any(|name| self.taken.contains(name)) {
            return None;
        }
        self.taken.extend(names);
        Some(shown)
    }

    fn header(&mut self, family: &Family, shown: &Shown<'_>) {
        let open = self.format == Format::OpenMetrics;
        if let Some(help) = &family.help {
            self.comment("HELP", shown.name);
            escape(&mut self.text, help, open);
            self.text.push('\n');
        }
        self.comment("TYPE", shown.name);
        self.text.push_str(shown.kind);
        self.text.push('\n');
        let units = ["seconds", "bytes", "ratio"];
        let unit = units.into_iter().find(|unit| {
            let rest = shown.name.strip_suffix(unit);
            rest.is_some_and(|rest| rest.ends_with('_'))
        });
        if let Some(unit) = unit.filter(|_| open) {
            self.comment("UNIT", shown.name);
            self.text.push_str(unit);
            self.text.push('\n');
        }
    }

    fn comment(&mut self, what: &str, name: &str) {
        for part in ["# ", what, " ", name, " "] {
            self.text.push_str(part);
        }
    }

    /// The part of a line before its value.
    fn start(&mut self, name: &str, suffix: &str, labels: &str) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        if !labels.is_empty() {
            self.text.push('{');
            self.text.push_str(labels);
            self.text.push('}');
        }
        self.text.push(' ');
    }

    fn whole(&mut self, value: u64) {
        self.text.push_str(self.digits.format(value));
        self.text.push('\n');
    }

    fn real(&mut self, value: f64) {
        // Most gauges count something. Beyond 2^53 not every whole number is one.
        if value.fract() == 0.0 && value.abs() < 9e15 {
            self.text.push_str(self.digits.format(value as i64));
            self.text.push('\n');
            return;
        }
        // Writing to a string does not fail.
        let _ = match value {
            f64::INFINITY => self.text.write_str("+Inf"),
            f64::NEG_INFINITY => self.text.write_str("-Inf"),
            value => write!(self.text, "{value}"),
        };
        self.text.push('\n');
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        buckets: &[(f64, u64)],
        count: u64,
        sum: f64,
    ) {
        for (bound, within) in buckets.iter().copied().chain([(f64::INFINITY, count)]) {
            self.text.push_str(name);
            self.text.push_str("_bucket{");
            self.text.push_str(labels);
            self.text
                .push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
            let text = self.bounds.entry(bound.to_bits());
            self.text.push_str(text.or_insert_with(|| le(bound)));
            self.text.push_str("\"} ");
            self.whole(within);
        }
        self.start(name, "_sum", labels);
        self.real(sum);
        self.start(name, "_count", labels);
        self.whole(count);
    }
}

/// A bound as OpenMetrics wants it, and as Prometheus 3 writes it whatever it scraped: `1.0`,
/// `1e+06`. The same in both formats, so that a rule matches whichever was negotiated.
pub(crate) fn le(bound: f64) -> String {
    if bound.is_infinite() {
        return "+Inf".to_owned();
    }
    let text = format!("{bound:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.parse::<i32>() {
            Ok(exponent) if !(-4..6).contains(&exponent) => {
                let sign = if exponent < 0 { '-' } else { '+' };
                format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
            }
            _ => format!("{bound:?}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::le;

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (bound, text) in [
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.0, "1.0"),
            (2.5, "2.5"),
            (100_000.0, "100000.0"),
            (500_000.0, "500000.0"),
            (1e6, "1e+06"),
            (1.5e8, "1.5e+08"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(le(bound), text);
        }
    }
}
