use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Group;

/// How the time of an entry compares with the time of `ours`, over interleaved rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// The group's name.
    pub group: String,
    /// The entry's name.
    pub entry: String,
    /// Median over the rounds of time(entry) / time(ours).
    pub ratio: f64,
    /// Lower end of the median's 95% interval.
    pub low: f64,
    /// Upper end of the median's 95% interval.
    pub high: f64,
    /// Median time of the entry for one run, in seconds.
    #[serde(skip)]
    pub seconds: f64,
}

/// Short works go on for this long, since what takes a fraction of a millisecond is told from
/// noise by many rounds only.
const AT_LEAST: Duration = Duration::from_secs(3);

/// At most so many times the rounds asked for.
const MANY: usize = 20;

/// Runs the group's entries interleaved after one warm-up round, in another order each round, as an
/// entry leaves the caches and the disk to the next; compares each with `ours`. Fewer rounds where
/// the group sets a limit, more where they are over in no time. Returns nothing for a group that
/// has no entry named `ours`.
pub fn measure(group: &mut Group, rounds: usize) -> Vec<Ratio> {
    let name = group.name().to_owned();
    let rounds = group.rounds(rounds);
    let mut random = fastrand::Rng::with_seed(rounds as u64);
    let entries = group.entries_mut();
    let Some(ours) = entries.iter().position(|e| e.name() == "ours") else {
        return Vec::new();
    };
    for entry in entries.iter_mut() {
        entry.run();
    }
    let mut times = vec![Vec::with_capacity(rounds); entries.len()];
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let started = Instant::now();
    let mut done = 0;
    while done < rounds || (done < MANY * rounds && started.elapsed() < AT_LEAST) {
        random.shuffle(&mut order);
        for &at in &order {
            let time = entries[at].run().max(Duration::from_nanos(1));
            times[at].push(time.as_secs_f64());
        }
        done += 1;
    }
    let base = times[ours].clone();
    entries
        .iter()
        .zip(times)
        .map(|(entry, mut times)| {
            let mut ratios: Vec<f64> = times.iter().zip(&base).map(|(t, o)| t / o).collect();
            let (low, high) = interval(&mut ratios);
            Ratio {
                group: name.clone(),
                entry: entry.name().to_owned(),
                ratio: median(&mut ratios),
                low,
                high,
                seconds: median(&mut times),
            }
        })
        .collect()
}

/// The median; NaN of no values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The distribution-free 95% interval of the median: order statistics k and n - 1 - k with
/// k = (n - 1.96 sqrt(n)) / 2, the normal approximation of the binomial. Fewer than six values
/// allow no such interval; theirs goes from the least to the greatest.
pub fn interval(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 {
        return (f64::NAN, f64::NAN);
    }
    let rank = ((n as f64 - 1.96 * (n as f64).sqrt()) / 2.0).floor();
    let k = (rank.max(0.0) as usize).min((n - 1) / 2);
    (values[k], values[n - 1 - k])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    #[test]
    fn an_entry_twice_as_slow_has_ratio_two() {
        let mut group = Group::new(
            "g",
            1,
            vec![
                Entry::new("ours", || Duration::from_micros(10)),
                Entry::new("naive", || Duration::from_micros(20)),
            ],
        );
        let ratios = measure(&mut group, 20);
        assert_eq!(ratios.len(), 2);
        assert!((ratios[1].ratio - 2.0).abs() < 1e-9);
        assert!(ratios[1].low <= ratios[1].ratio && ratios[1].ratio <= ratios[1].high);
    }

    #[test]
    fn the_interval_of_twenty_rounds_is_the_sixth_to_the_fifteenth_value() {
        let mut values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(interval(&mut values), (6.0, 15.0));
    }

    #[test]
    fn a_group_without_ours_is_not_compared() {
        let mut group = Group::new("g", 1, vec![Entry::timed("naive", || 1)]);
        assert!(measure(&mut group, 3).is_empty());
    }
}
