//! What a machine leaves to the next one of the grants of single keys.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::grants::Before;
use super::{Limiter, Machine, Pace, Time};

/// Grants in what one machine leaves to the next: some 20 MB.
const MAX_GRANTS: usize = 1 << 20;

/// Limits of single keys whose period is longer are not asked for, where it is not known which keys there
/// are.
const LONGEST: Duration = Duration::from_hours(24);

/// A key in what a machine leaves: a hash of its name, its limit, and in nanoseconds from the last grant of
/// all its next slot and its grants, the oldest first.
pub(crate) type KeptKey = (u64, [u64; 3], i64, Vec<i64>);

/// Keys of processes before this one that have not come up yet, by the hash of their names.
#[derive(Debug, Default)]
pub(super) struct Kept {
    keys: HashMap<u64, (Pace, Limiter)>,
    /// None of them matters then.
    until: Time,
}

/// The same for the same name, in every process of the same build.
pub(crate) fn stable_hash(name: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl Kept {
    pub(super) fn new(keys: Vec<KeptKey>, last: Time) -> Self {
        let mut kept = Self::default();
        for (hash, pace, slot, grants) in keys {
            let pace = Pace::from_parts(pace);
            let grants = grants.into_iter().map(|at| last.offset(at));
            let limiter = Limiter::restored(&pace, last.offset(slot), grants);
            kept.until = kept.until.max(limiter.fresh_at(&pace));
            kept.keys.insert(hash, (pace, limiter));
        }
        kept
    }

    /// The limiter of a key that comes up, where one was kept.
    pub(super) fn take(&mut self, name: &impl Hash, pace: &Pace, now: Time) -> Option<Limiter> {
        if self.keys.is_empty() {
            return None;
        }
        if self.until <= now {
            *self = Self::default();
            return None;
        }
        let (old, mut limiter) = self.keys.remove(&stable_hash(name))?;
        if old != *pace {
            let newest = limiter.newest().map(Before::unpaced);
            limiter.change([Some(&old), Some(pace)], Time::NEVER, newest);
        }
        Some(limiter)
    }

    /// The limit of all keys is another one.
    pub(super) fn change(&mut self, new: Option<&Pace>, forgotten: Option<Before>) {
        let Some(new) = new else {
            *self = Self::default();
            return;
        };
        for (old, limiter) in self.keys.values_mut() {
            limiter.change([Some(old), Some(new)], Time::NEVER, forgotten);
            *old = *new;
            self.until = self.until.max(limiter.fresh_at(new));
        }
    }
}

impl<T, K: Hash> Machine<T, K> {
    /// The keys whose grants still bind. `None` where that is not known, or where there are too many. Keys
    /// may have limits of their own, or `own` says that they have not.
    pub(crate) fn keep(&self, now: Time, own: bool) -> Option<Vec<KeptKey>> {
        if self.past.is_vague(self.rules.key.as_ref(), now, own) {
            return None;
        }
        let Some(last) = self.last_grant() else {
            return Some(Vec::new());
        };
        let mut kept = HashMap::new();
        let mut room = MAX_GRANTS;
        let mut keep = |hash, pace: &Pace, limiter: &Limiter| {
            if limiter.fresh_at(pace) <= now {
                return Some(());
            }
            let from = now.minus_nanos(pace.period);
            let at = |at: Time| at.offset_from(last);
            let mut grants: Vec<_> = limiter.latest(pace).take_while(|at| *at > from).collect();
            grants.reverse();
            room = room.checked_sub(grants.len().max(1))?;
            let grants = grants.into_iter().map(at).collect();
            let key = (hash, pace.parts(), at(limiter.slot()), grants);
            // Two of the same hash could not be told apart.
            kept.insert(hash, key).is_none().then_some(())
        };
        for (_, key) in &self.keys {
            if let Some(pace) = key.pace(self.rules.key.as_ref()) {
                keep(stable_hash(&key.name), pace, &key.limiter)?;
            }
        }
        for (hash, (pace, limiter)) in &self.past.kept.keys {
            keep(*hash, pace, limiter)?;
        }
        Some(kept.into_values().collect())
    }
}

impl super::change::Past {
    /// Whether keys that are not known may have had grants that bind still.
    fn is_vague(&self, common: Option<&Pace>, now: Time, own: bool) -> bool {
        let longest = match common {
            _ if own || self.own => LONGEST.as_nanos() as u64,
            Some(pace) => pace.period,
            None => return false,
        };
        self.forgotten()
            .is_some_and(|at| at.plus_nanos(longest) > now)
    }
}
