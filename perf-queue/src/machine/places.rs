use std::hash::Hash;

use super::key::Place;
use super::{Event, Machine, Time};

/// Which key is where.
impl<T, K: Hash + Eq + Clone> Machine<T, K> {
    /// Puts a key where it belongs, after anything about it has changed.
    pub(super) fn place(&mut self, id: u32, now: Time) {
        let Some(key) = self.keys.get_mut(id as usize) else {
            return;
        };
        let cap = self.rules.concurrency_per_key;
        let open_at = key.open_at(self.rules.key.as_ref());
        let place = if key.list.len == 0 {
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
            self.ready -= key.list.len;
        }
        match place {
            Place::Idle => self.retire(id, now),
            Place::Parked => {}
            Place::Timer => {
                if before != Place::Timer
                    && let Some(pace) = &self.rules.key
                    && key.limiter.next_at(pace) > now
                {
                    self.limited.by_key += 1;
                }
                if key.timer.is_none_or(|at| at > open_at) {
                    key.timer = Some(open_at);
                    self.timers.add(open_at, Event::Key(id));
                }
            }
            Place::Ready => {
                self.jobs.link_head_due(&key.list);
                if before != Place::Ready {
                    self.ready += key.list.len;
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
        let fresh_at = key.fresh_at(self.rules.key.as_ref());
        if fresh_at > now {
            key.fading = true;
            self.fades.add(fresh_at, id);
        } else {
            // In this order: hashing the name may panic, and must leave both or neither.
            self.names.remove(&key.name);
            self.keys.remove(id as usize);
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
