use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use slab::Slab;

use super::jobs::grow;
use super::key::{Key, Place};
use super::{Event, Machine, Pace, Time};
use crate::panics::contained;

/// When a key whose `Hash` or `Eq` panicked as it was to be dropped is to be dropped again.
const FADE_AGAIN: Duration = Duration::from_secs(60);

/// Which key is where.
impl<T, K: Hash + Eq + Clone> Machine<T, K> {
    /// The number of the key of this name, which is made if there is none. All of the machine that calls
    /// the key's `Hash`, `Eq` and `Clone` without containing their panics: then nothing has changed.
    pub(super) fn key(&mut self, name: K, pace: Option<Pace>, now: Time) -> u32 {
        if let Some(id) = self.names.get(&name).copied() {
            if let Some(pace) = pace {
                self.set_pace(id, pace, now);
            }
            return id;
        }
        let mut key = Key::new(name.clone(), pace);
        self.past.own |= pace.is_some();
        let own = key.pace.as_deref();
        let pace = own.or(self.rules.key.as_ref());
        key.limiter = self.past.of_new_key(&key.name, pace, now);
        grow(&mut self.keys);
        let entry = self.keys.vacant_entry();
        let id = entry.key() as u32;
        self.names.insert(name, id);
        entry.insert(key);
        id
    }

    /// Puts a key where it belongs, after anything about it has changed.
    pub(super) fn place(&mut self, id: u32, now: Time) {
        let Some(key) = self.keys.get_mut(id as usize) else {
            return;
        };
        let cap = self.rules.concurrency_per_key;
        let open_at = key.open_at(self.rules.key.as_ref());
        let place = if key.list.is_empty() {
            Place::Idle
        } else if cap.is_some_and(|cap| key.in_flight >= cap) {
            Place::Parked
        } else if open_at > now {
            Place::Timer
        } else {
            Place::Ready
        };
        let before = std::mem::replace(&mut key.place, place);
        if before == Place::Parked && place != Place::Parked {
            key.unparked = now;
        }
        if before == Place::Ready && place != Place::Ready {
            self.ready -= key.list.len();
        }
        match place {
            Place::Idle => self.retire(id, now),
            Place::Parked => {}
            Place::Timer => {
                if before != Place::Timer && key.next_at(self.rules.key.as_ref()) > now {
                    self.limited.by_key += 1;
                }
                if key.timer > open_at {
                    key.timer = open_at;
                    self.timers.add(open_at, Event::Key(id));
                }
            }
            Place::Ready => {
                self.jobs.link_blocking_due(&key.list);
                if before != Place::Ready {
                    self.ready += key.list.len();
                }
                if !key.in_ring {
                    key.in_ring = true;
                    self.ring.push_back(id);
                }
            }
        }
    }

    /// Drops an unused key, now or when its limits have forgotten it.
    fn retire(&mut self, id: u32, now: Time) {
        let Some(key) = self.keys.get_mut(id as usize) else {
            return;
        };
        if !key.is_unused() || key.fading {
            return;
        }
        let fresh_at = key.fresh_at(self.rules.key.as_ref(), self.past.forgotten());
        if fresh_at > now {
            self.fade(id, fresh_at);
            return;
        }
        // This is in the middle of a job's end or start, which must not be lost with it.
        match contained(|| self.names.remove_entry(&key.name)) {
            Some(entry) => {
                let key = self.keys.remove(id as usize);
                contained(|| drop(entry));
                contained(|| drop(key));
            }
            // Both or neither: it can still be found, and may be dropped another time.
            None => self.fade(id, now.plus(FADE_AGAIN)),
        }
    }

    /// Looks at an unused key again then.
    fn fade(&mut self, id: u32, at: Time) {
        if let Some(key) = self.keys.get_mut(id as usize) {
            key.fading = true;
            self.fades.add(at, id);
        }
    }

    /// Drops what is not needed any more. To be called now and then.
    pub(crate) fn tidy(&mut self, now: Time)
    where
        T: Send + 'static,
    {
        self.sweep(now, 10_000);
        #[cfg(feature = "sqlite")]
        self.past.kept.tidy(now);
        self.jobs.compact();
        self.jobs.shrink();
        self.timers.shrink();
        self.fades.shrink();
        if self.keys.is_empty() && self.names.capacity() > 1_024 {
            self.keys = Slab::new();
            self.names = HashMap::new();
            self.ring = VecDeque::new();
        }
    }

    /// Looks at unused keys whose limits should have forgotten them by now.
    pub(super) fn sweep(&mut self, now: Time, at_most: usize) {
        for _ in 0..at_most {
            let Some((_, id)) = self.fades.pop_due(now) else {
                return;
            };
            if let Some(key) = self.keys.get_mut(id as usize) {
                key.fading = false;
                self.retire(id, now);
            }
        }
    }
}
