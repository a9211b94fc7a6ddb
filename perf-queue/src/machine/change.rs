use std::hash::Hash;

use super::grants::Before;
use super::{Limiter, Machine, Pace, Rules, Time};

/// What the machine knows of the grants under rules that are over.
#[derive(Debug)]
pub(super) struct Past {
    /// The last grant of all.
    last: Option<Time>,
    /// The last that a process before this one can have made.
    earlier: Option<Time>,
    /// The last of those that a key may have had of which nothing is known.
    vague: Option<Time>,
    /// The keys that are known.
    #[cfg(feature = "sqlite")]
    pub(super) kept: super::kept::Kept,
    /// For all grants after this, the queue's limit was the one that it is now.
    queue_since: Time,
    key_since: Time,
    /// Some key has had a limit of its own.
    pub(super) own: bool,
    /// What a key that is not known may have been granted before the last change of the keys' limit.
    forgotten: Option<Before>,
}

impl Past {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            earlier: None,
            vague: None,
            #[cfg(feature = "sqlite")]
            kept: super::kept::Kept::default(),
            queue_since: Time::ZERO,
            key_since: Time::ZERO,
            own: false,
            forgotten: None,
        }
    }

    #[inline]
    pub(super) const fn granted(&mut self, now: Time) {
        self.last = Some(now);
    }

    /// The last grant that a key which is not known may have had.
    #[inline]
    pub(super) fn forgotten(&self) -> Option<Time> {
        match self.forgotten {
            Some(before) => Some(before.newest),
            None => self.vague,
        }
    }

    /// The limiter of a key that is not known, with `pace` for its limit.
    pub(super) fn of_new_key(
        &mut self,
        name: &impl Hash,
        pace: Option<&Pace>,
        now: Time,
    ) -> Limiter {
        let mut limiter = Limiter::default();
        let Some(pace) = pace else {
            #[cfg(feature = "sqlite")]
            self.kept.forget(name);
            return limiter;
        };
        #[cfg(feature = "sqlite")]
        if !self.kept.is_empty() {
            let any = self.any();
            if let Some(limiter) = self.kept.take(name, pace, now, any) {
                return limiter;
            }
        }
        #[cfg(not(feature = "sqlite"))]
        let _ = name;
        let before = match self.vague {
            Some(vague) => Some(Before::paced(vague, pace, self.key_since)),
            None => self.forgotten,
        };
        if let Some(before) = before
            && before.newest.plus_nanos(pace.period) > now
        {
            limiter.assume(before);
        }
        limiter
    }

    /// Any number of grants until the last.
    fn any(&self) -> Option<Before> {
        let last = self.last.or(self.earlier)?;
        Some(Before::unlimited(last).also_earlier(self.earlier.is_some()))
    }

    /// What keys that are not known may have been granted until now, by the limit `old`.
    fn forget(&mut self, old: Option<&Pace>, now: Time) {
        let earlier = self.earlier;
        self.forgotten = self.last.or(earlier).map(|last| {
            let before = match old {
                // A key is forgotten no sooner than a period after its last grant.
                Some(pace) if !self.own => {
                    let first = earlier.map_or(Time::ZERO, |_| Time::LONG_AGO);
                    let forgotten = self.forgotten().unwrap_or(first);
                    let newest = now.minus_nanos(pace.period).max(forgotten).min(last);
                    Before::limited(newest, pace, self.key_since)
                }
                _ => Before::unlimited(last),
            };
            before.also_earlier(earlier.is_some())
        });
        self.vague = None;
    }
}

impl<T, K> Machine<T, K> {
    /// When a job was last granted, also by processes before this one, if one ever was.
    #[cfg(feature = "sqlite")]
    pub(crate) fn last_grant(&self) -> Option<Time> {
        self.past.last.or(self.past.earlier)
    }

    /// How many jobs run.
    #[cfg(feature = "sqlite")]
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// What changes while the queue runs.
impl<T, K: Hash + Eq + Clone> Machine<T, K> {
    /// While paused no job starts, though time goes on: jobs fall due, and limits recover.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// Begins where processes before this one have granted jobs by these rules, which were in force for
    /// all grants after `since`: the last of them no later than `newest`, and more is not known, but for
    /// what `keys` tells of single keys. `own` says whether keys may have had limits of their own then,
    /// and whether they may have them now.
    #[cfg(feature = "sqlite")]
    pub(crate) fn go_on(
        &mut self,
        newest: Time,
        since: Time,
        keys: Option<super::KnownKeys>,
        own: [bool; 2],
    ) {
        // What was granted in that very instant may have been by others.
        let since = since.plus_nanos(1);
        let past = &mut self.past;
        past.earlier = Some(newest);
        past.queue_since = since;
        past.own = own.contains(&true);
        // When a limit of its own began is not known.
        past.key_since = if past.own { Time::NEVER } else { since };
        past.vague = Some(newest);
        if let Some((common, vague, keys)) = keys {
            // By another limit, a key of which nothing was to be told may have had too much.
            if own[0] == own[1] {
                past.vague = vague.map(|at| newest.offset(at));
            }
            past.kept = super::kept::Kept::new(keys, newest);
            self.rules.key = common.map(Pace::from_parts);
        }
        if let Some(pace) = &self.rules.queue {
            self.limiter.assume(Before::paced(newest, pace, since));
        }
    }

    /// Replaces the rules, for all jobs that start after this. Grants of the past count, so that the
    /// new limits hold from now on in every window, also in those that began before. Where a new
    /// quota or period asks for more of the past than is known, the limit waits as long as it would
    /// for the most that the old rules can have let through; where there was no limit, or keys had
    /// limits of their own, for one period from the last grant.
    ///
    /// Another limit for the keys is that of all keys, also of those that had their own. Looks at
    /// each key, if what changes concerns keys, but at no job.
    pub(crate) fn set_rules(&mut self, rules: Rules, now: Time) {
        let old = std::mem::replace(&mut self.rules, rules);
        // What was granted in this very instant was so by the old rules.
        let since = now.plus_nanos(1);
        if old.queue != rules.queue {
            let unknown = match old.queue {
                Some(_) => None,
                None => self.past.any(),
            };
            let paces = [old.queue.as_ref(), rules.queue.as_ref()];
            self.limiter.change(paces, self.past.queue_since, unknown);
            self.past.queue_since = since;
        }
        if old.key != rules.key {
            self.past.forget(old.key.as_ref(), now);
            #[cfg(feature = "sqlite")]
            self.past
                .kept
                .change(rules.key.as_ref(), self.past.forgotten);
            for (_, key) in &mut self.keys {
                let own = key.pace.take();
                // When a limit of its own began is not known.
                let since = own.as_ref().map_or(self.past.key_since, |_| Time::NEVER);
                let paces = [own.as_deref().or(old.key.as_ref()), rules.key.as_ref()];
                key.limiter.change(paces, since, self.past.forgotten);
            }
            self.past.key_since = since;
            self.past.own = false;
        } else if old.concurrency_per_key == rules.concurrency_per_key {
            return;
        }
        for id in 0..self.keys.capacity() {
            // Keys without a job are where they belong under any rules.
            if self.keys.get(id).is_some_and(|key| !key.list.is_empty()) {
                self.place(id as u32, now);
            }
        }
    }

    /// From now on the key has a limit of its own, or another one than so far.
    pub(super) fn set_pace(&mut self, id: u32, pace: Pace, now: Time) {
        let common = self.rules.key.as_ref();
        let Some(key) = self.keys.get_mut(id as usize) else {
            return;
        };
        if key.pace.as_deref() == Some(&pace) {
            return;
        }
        let old = key.pace.replace(Box::new(pace));
        let paces = [old.as_deref().or(common), Some(&pace)];
        let unknown = self.past.any();
        key.limiter.change(paces, Time::NEVER, unknown);
        self.past.own = true;
        if !key.list.is_empty() {
            self.place(id, now);
        }
    }
}
