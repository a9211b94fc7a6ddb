use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::Evidence;
use super::erlang::Model;

/// How long a half of what is remembered takes.
const HALF: Duration = Duration::from_secs(30);

/// Microseconds up to an hour, with two digits.
const LONGEST: u64 = 3_600_000_000;

/// Uses at one level of load that tell its mean.
const ENOUGH_USES: u64 = 50;

/// What the callers of a pool did in the last 30 to 60 seconds.
#[derive(Debug)]
pub(crate) struct Load {
    halves: Mutex<Halves>,
}

#[derive(Debug)]
struct Halves {
    this: Half,
    last: Option<Half>,
}

#[derive(Debug)]
struct Half {
    began: Instant,
    acquires: u64,
    timeouts: u64,
    /// For their turn, in microseconds.
    waits: Option<Histogram<u32>>,
    waited: Duration,
    waited_for_connecting: Duration,
    /// With less than half of the connections in use, and with more.
    uses: [Uses; 2],
}

#[derive(Debug, Default, Clone, Copy)]
struct Uses {
    count: u64,
    time: Duration,
}

impl Half {
    fn new(began: Instant) -> Self {
        Self {
            began,
            acquires: 0,
            timeouts: 0,
            waits: Histogram::new_with_bounds(1, LONGEST, 2).ok(),
            waited: Duration::ZERO,
            waited_for_connecting: Duration::ZERO,
            uses: [Uses::default(); 2],
        }
    }
}

impl Load {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            halves: Mutex::new(Halves {
                this: Half::new(now),
                last: None,
            }),
        }
    }

    fn note(&self, note: impl FnOnce(&mut Half)) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut halves.this);
    }

    /// A caller got a connection after it waited for its turn, then for a connection to be opened
    /// or tested.
    pub(crate) fn acquired(&self, turn: Duration, connecting: Duration) {
        self.note(|half| {
            half.acquires += 1;
            half.waited += turn + connecting;
            half.waited_for_connecting += connecting;
            if let Some(waits) = &mut half.waits {
                let micros = u64::try_from((turn + connecting).as_micros()).unwrap_or(LONGEST);
                waits.saturating_record(micros);
            }
        });
    }

    pub(crate) fn timed_out(&self) {
        self.note(|half| half.timeouts += 1);
    }

    /// A caller gave its connection back, of which so many were in use when it got it.
    pub(crate) fn used(&self, time: Duration, in_use: u32, of: u32) {
        self.note(|half| {
            let [low, high] = &mut half.uses;
            let uses = if in_use < of.div_ceil(2) { low } else { high };
            uses.count += 1;
            uses.time += time;
        });
    }

    /// Forgets what is too old.
    pub(crate) fn turn(&self, now: Instant) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(halves.this.began) >= HALF {
            halves.last = Some(std::mem::replace(&mut halves.this, Half::new(now)));
        }
    }

    pub(crate) fn evidence(&self, now: Instant, connections: u32, target: Duration) -> Evidence {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let both = || halves.last.iter().chain([&halves.this]);
        let began = halves.last.as_ref().unwrap_or(&halves.this).began;
        let window = now.duration_since(began).max(Duration::from_millis(1));
        let acquires = both().map(|half| half.acquires).sum::<u64>();
        let uses = both().fold([Uses::default(); 2], |mut sum, half| {
            for (sum, uses) in sum.iter_mut().zip(half.uses) {
                sum.count += uses.count;
                sum.time += uses.time;
            }
            sum
        });
        let [low, high] = uses;
        let use_time = mean(low.time + high.time, low.count + high.count);
        let enough = |uses: Uses| match uses.count {
            ENOUGH_USES.. => mean(uses.time, uses.count),
            _ => Duration::ZERO,
        };
        let waited: Duration = both().map(|half| half.waited).sum();
        let connecting: Duration = both().map(|half| half.waited_for_connecting).sum();
        let arrival_rate = acquires as f64 / window.as_secs_f64();
        let offered_load = arrival_rate * use_time.as_secs_f64();
        let model = Model {
            offered_load,
            use_time,
        };
        Evidence {
            window,
            acquires,
            timeouts: both().map(|half| half.timeouts).sum(),
            arrival_rate,
            use_time,
            use_time_by_load: uses.map(enough),
            wait_p99: p99(both()),
            connecting: if waited.is_zero() {
                0.0
            } else {
                connecting.as_secs_f64() / waited.as_secs_f64()
            },
            offered_load,
            utilisation: (offered_load / f64::from(connections)).min(1.0),
            predicted_wait_p99: model.wait_p99(connections),
            connections,
            target_wait_p99: target,
        }
    }
}

fn mean(sum: Duration, count: u64) -> Duration {
    match count {
        0 => Duration::ZERO,
        count => sum.div_f64(count as f64),
    }
}

fn p99<'a>(halves: impl Iterator<Item = &'a Half>) -> Duration {
    let all = halves
        .filter_map(|half| half.waits.as_ref())
        .fold(None, |sum, waits| {
            let mut sum: Histogram<u32> = sum.unwrap_or_else(|| Histogram::new_from(waits));
            // They have the same bounds.
            let _ = sum.add(waits);
            Some(sum)
        });
    all.map_or(Duration::ZERO, |all| {
        Duration::from_micros(all.value_at_quantile(0.99))
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_callers_did_is_added_up_and_forgotten_after_a_minute() {
        let ms = Duration::from_millis;
        let load = Load::new(Instant::now());
        for n in 0..100 {
            load.acquired(ms(if n < 98 { 1 } else { 50 }), ms(0));
            load.used(ms(10), if n < 50 { 1 } else { 9 }, 10);
        }
        advance(Duration::from_secs(10)).await;
        let evidence = load.evidence(Instant::now(), 10, ms(5));
        assert_eq!(evidence.acquires, 100);
        assert!((evidence.arrival_rate - 10.0).abs() < 1e-9);
        assert!((evidence.offered_load - 0.1).abs() < 1e-9);
        assert_eq!(evidence.use_time, ms(10));
        assert_eq!(evidence.use_time_by_load, [ms(10); 2]);
        let off = evidence.wait_p99.abs_diff(ms(50));
        assert!(off < ms(1), "{:?}", evidence.wait_p99);
        advance(HALF).await;
        load.turn(Instant::now());
        assert_eq!(load.evidence(Instant::now(), 10, ms(5)).acquires, 100);
        advance(HALF).await;
        load.turn(Instant::now());
        assert_eq!(load.evidence(Instant::now(), 10, ms(5)).acquires, 0);
    }
}
