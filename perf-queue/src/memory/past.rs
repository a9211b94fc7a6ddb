use std::any::type_name;
use std::hash::Hash;
use std::time::Duration;

use super::store::{Settings, Store};
use crate::machine::{KnownKeys, Machine, Pace, Rules, Time, stable_hash};
use crate::panics::contained;

/// What is known of the jobs that processes before this one have started.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    /// The limits then, of the queue and of all keys that had none of their own.
    pub(crate) paces: [Option<Pace>; 2],
    /// None was started for this long.
    pub(crate) quiet: Duration,
    /// For how long those were the limits, if that is known.
    pub(crate) unchanged: Option<Duration>,
    /// Keys may have had limits of their own.
    pub(crate) own: bool,
    /// What [`Store::leave_behind`] gave, if nothing was started after it.
    pub(crate) keys: Option<Vec<u8>>,
}

/// What says whether keys can be found again by their hashes, and what is known of them.
type Keys = (String, KnownKeys);

impl Past {
    /// A machine that goes on after what there was, if anything.
    pub(super) fn machine<S, T, K: Hash + Eq + Clone>(settings: &mut Settings<S>) -> Machine<T, K> {
        let Some(past) = settings.past.take() else {
            return Machine::new(settings.rules);
        };
        let [queue, key] = past.paces;
        let mut machine = Machine::new(Rules {
            queue,
            key,
            ..settings.rules
        });
        let newest = Time::ZERO.before(past.quiet);
        let since = past.unchanged.map_or(newest, |d| Time::ZERO.before(d));
        let own = settings.rate_per_key.is_some();
        let keys = past
            .keys
            .and_then(|keys| serde_json::from_slice::<Keys>(&keys).ok())
            .filter(|(hash, _)| *hash == hash_of::<K>());
        let keys = keys.map(|(_, keys)| keys);
        machine.go_on(newest, since, keys, [past.own, own]);
        machine.set_rules(settings.rules, Time::ZERO);
        machine
    }
}

impl<T, K: Hash> Store<T, K> {
    /// How long ago a job was last started, also by processes before this one, `None` if none ever was;
    /// for [`Past::keys`], what is known of the keys; and whether no job runs.
    pub(crate) fn leave_behind(&self) -> (Option<Duration>, Option<Vec<u8>>, bool) {
        let (state, now) = self.enter();
        let last = state.machine.last_grant().map(|last| now.since(last));
        // The hash of a key is the user's code.
        let keys = contained(|| state.machine.keep(now)).flatten();
        let idle = state.machine.in_flight() == 0;
        drop(state);
        let keys = keys.and_then(|keys| serde_json::to_vec(&(hash_of::<K>(), keys)).ok());
        (last, keys, idle)
    }
}

/// Differs where keys have other hashes: by another type, or by a library whose hashes are others.
fn hash_of<K>() -> String {
    let sample = stable_hash(&("perf-queue", Some(1_u64), [-1_i32], 'a', true));
    format!("{} {sample:x}", type_name::<K>())
}
