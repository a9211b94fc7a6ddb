//! What a machine leaves to the next one of the grants of single keys.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::grants::Before;
use super::{Limiter, Machine, Pace, Time};

/// Grants in what one machine leaves to the next, of which each is up to some 70 bytes in JSON: 18 MB.
const MAX_GRANTS: usize = 1 << 18;

/// A key in what a machine leaves: a hash of its name, its limit, and in nanoseconds from the last grant of
/// all its next slot and its grants, the oldest first.
type KeptKey = (u64, [u64; 3], i64, Vec<i64>);

/// What a machine leaves of the grants of single keys: the limit of all those that had none of their own;
/// the last grant that a key may have had of which nothing is known, in nanoseconds from the last of all;
/// and the keys of which something is, and whose grants bind still.
pub(crate) type KnownKeys = (Option<[u64; 3]>, Option<i64>, Vec<KeptKey>);

/// Keys of processes before this one that have not come up yet, by the hash of their names.
#[derive(Debug, Default)]
pub(super) struct Kept {
    keys: HashMap<u64, KeyBefore>,
    /// None of them matters then.
    until: Time,
}

#[derive(Debug)]
struct KeyBefore {
    pace: Pace,
    limiter: Limiter,
    /// It has come up, and may have been granted more.
    taken: bool,
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
            let key = KeyBefore {
                pace,
                limiter,
                taken: false,
            };
            kept.keys.insert(hash, key);
        }
        kept
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The limiter of a key that comes up, where one was kept. What was kept stays, as another key may
    /// have the same hash: which of the two it was is not known. So who is the second has had as much as
    /// `any` key.
    pub(super) fn take(
        &mut self,
        name: &impl Hash,
        pace: &Pace,
        now: Time,
        any: Option<Before>,
    ) -> Option<Limiter> {
        self.tidy(now);
        let key = self.keys.get_mut(&stable_hash(name))?;
        if key.taken {
            if key.limiter.fresh_at(&key.pace) <= now {
                return None;
            }
            let mut limiter = Limiter::default();
            limiter.assume(any?);
            return Some(limiter);
        }
        key.taken = true;
        if key.pace != *pace {
            let newest = key.limiter.newest().map(Before::unpaced);
            let paces = [Some(&key.pace), Some(pace)];
            key.limiter.change(paces, Time::NEVER, newest);
            key.pace = *pace;
            self.until = self.until.max(key.limiter.fresh_at(pace));
        }
        Some(key.limiter.clone())
    }

    /// A key comes up that has no limit, so that its grants are not noted any more.
    pub(super) fn forget(&mut self, name: &impl Hash) {
        if !self.keys.is_empty() {
            self.keys.remove(&stable_hash(name));
        }
    }

    /// Drops what does not matter any more.
    pub(super) fn tidy(&mut self, now: Time) {
        if self.until <= now {
            *self = Self::default();
        }
    }

    /// The limit of all keys is another one.
    pub(super) fn change(&mut self, new: Option<&Pace>, forgotten: Option<Before>) {
        let Some(new) = new else {
            *self = Self::default();
            return;
        };
        for key in self.keys.values_mut() {
            let paces = [Some(&key.pace), Some(new)];
            key.limiter.change(paces, Time::NEVER, forgotten);
            key.pace = *new;
            self.until = self.until.max(key.limiter.fresh_at(new));
        }
    }
}

impl<T, K: Hash> Machine<T, K> {
    /// What is known of keys. `None` where there are too many, or where two have the same hash.
    pub(crate) fn keep(&self, now: Time) -> Option<KnownKeys> {
        let common = self.rules.key.as_ref().map(Pace::parts);
        let Some(last) = self.last_grant() else {
            return Some((common, None, Vec::new()));
        };
        let mut kept: HashMap<u64, KeptKey> = HashMap::new();
        let mut room = MAX_GRANTS;
        let mut keep = |hash, pace: &Pace, limiter: &Limiter, more: bool| {
            if limiter.fresh_at(pace) <= now {
                return Some(());
            }
            let from = now.minus_nanos(pace.period);
            let at = |at: Time| at.offset_from(last);
            let mut grants: Vec<_> = match more {
                false => limiter.latest(pace).take_while(|at| *at > from).collect(),
                true => vec![last; pace.quota.min(room)],
            };
            grants.reverse();
            room = room.checked_sub(if more {
                pace.quota
            } else {
                grants.len().max(1)
            })?;
            let grants = grants.into_iter().map(at).collect();
            let key = (hash, pace.parts(), at(limiter.slot()), grants);
            kept.insert(hash, key).is_none().then_some(())
        };
        let mut came_up = HashSet::new();
        for (_, key) in &self.keys {
            if let Some(pace) = key.pace(self.rules.key.as_ref()) {
                let hash = stable_hash(&key.name);
                keep(hash, pace, &key.limiter, false)?;
                came_up.insert(hash);
            }
        }
        for (hash, key) in &self.past.kept.keys {
            // Who is there has these, too. Who is not there any more may have had more by a shorter limit.
            if !came_up.contains(hash) {
                keep(*hash, &key.pace, &key.limiter, key.taken)?;
            }
        }
        let vague = self.past.forgotten().map(|at| at.offset_from(last));
        Some((common, vague, kept.into_values().collect()))
    }
}
