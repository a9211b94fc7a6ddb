use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How exactly a connection's moment of birth can be told from its age, which was measured an
/// instant ago. Two moments of one connection fall apart now and then, which makes its lifetime
/// another random one, and no harm.
const RESOLUTION: Duration = Duration::from_micros(10);

/// Which connections are too old: each has a lifetime of its own, so that those which were opened
/// together are not closed together.
///
/// sqlx's hooks tell a connection's age and nothing else that would distinguish it. So its lifetime
/// is a hash of its moment of birth.
#[derive(Debug)]
pub(crate) struct Lifetimes {
    longest: Option<Duration>,
    /// By which part of `longest` a lifetime may be shorter.
    jitter: f64,
    epoch: Instant,
    /// Connections born before are evicted. Nanoseconds since the epoch.
    evicted: AtomicU64,
    /// Whether nobody has looked for them yet.
    pending: AtomicBool,
    hasher: RandomState,
}

impl Lifetimes {
    pub(crate) fn new(longest: Option<Duration>, jitter: f64) -> Self {
        Self {
            longest,
            jitter,
            epoch: Instant::now(),
            evicted: AtomicU64::new(0),
            pending: AtomicBool::new(false),
            hasher: RandomState::new(),
        }
    }

    /// Whether a connection of this age should not be used again.
    pub(crate) fn are_over(&self, age: Duration) -> bool {
        let evicted = self.evicted.load(Ordering::Acquire);
        if self.longest.is_none() && evicted == 0 {
            return false;
        }
        let born = self.epoch.elapsed().saturating_sub(age);
        nanos(born) < evicted || self.lifetime(born).is_some_and(|lifetime| age >= lifetime)
    }

    fn lifetime(&self, born: Duration) -> Option<Duration> {
        let longest = self.longest?;
        let moment = born.as_nanos() / RESOLUTION.as_nanos();
        // 53 bits are what a float holds.
        let random = (self.hasher.hash_one(moment) >> 11) as f64 / (1_u64 << 53) as f64;
        Some(longest.mul_f64(1.0 - self.jitter * random))
    }

    /// From now on, connections that exist are too old.
    pub(crate) fn evict_all(&self) {
        self.evicted
            .fetch_max(nanos(self.epoch.elapsed()), Ordering::AcqRel);
        self.pending.store(true, Ordering::Release);
    }

    /// Whether connections were evicted since the last call.
    pub(crate) fn take_eviction(&self) -> bool {
        self.pending.swap(false, Ordering::AcqRel)
    }

    /// Whether connections were evicted since.
    pub(crate) fn evicted_since(&self, moment: Instant) -> bool {
        let moment = moment.saturating_duration_since(self.epoch);
        self.evicted.load(Ordering::Acquire) >= nanos(moment).max(1)
    }

    /// How often idle connections have to be looked at, so that they are closed when their time
    /// is over, more or less.
    pub(crate) fn look_every(&self) -> Option<Duration> {
        self.longest.map(|longest| longest / 20)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(100);

    #[test]
    fn connections_that_were_opened_together_end_one_after_another() {
        let lifetimes = Lifetimes::new(Some(LONGEST), 0.1);
        let mut lives: Vec<_> = (0..1000)
            .map(|n| lifetimes.lifetime(n * RESOLUTION).unwrap())
            .collect();
        lives.sort_unstable();
        assert!(
            lives
                .iter()
                .all(|life| (LONGEST.mul_f64(0.9)..=LONGEST).contains(life))
        );
        // Of a thousand spread over ten seconds, at most a few in any tenth of a second.
        let most = lives
            .iter()
            .map(|from| {
                let until = *from + Duration::from_millis(100);
                lives
                    .iter()
                    .filter(|life| (*from..until).contains(life))
                    .count()
            })
            .max();
        assert!(most < Some(40), "{most:?} end within a tenth of a second");
    }

    #[test]
    fn no_jitter_is_no_jitter() {
        let lifetimes = Lifetimes::new(Some(LONGEST), 0.0);
        assert!((0..100).all(|n| lifetimes.lifetime(n * RESOLUTION) == Some(LONGEST)));
        assert!(lifetimes.are_over(LONGEST));
        assert!(!lifetimes.are_over(LONGEST - Duration::from_nanos(1)));
    }

    #[test]
    fn without_a_lifetime_only_an_eviction_ends_them() {
        let lifetimes = Lifetimes::new(None, 0.1);
        assert!(!lifetimes.are_over(Duration::MAX));
        let before = Instant::now();
        lifetimes.evict_all();
        assert!(lifetimes.are_over(Duration::from_secs(1)));
        assert!(lifetimes.evicted_since(before));
        std::thread::yield_now();
        assert!(!lifetimes.are_over(Duration::ZERO));
    }
}
