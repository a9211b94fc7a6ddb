use std::hash::Hash;
use std::time::Duration;

use super::store::{Settings, Store};
use crate::machine::{Machine, Pace, Rules, Time};

/// What is known of the jobs that processes before this one have started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    /// The queue's limit then.
    pub(crate) pace: Option<Pace>,
    /// None was started for this long.
    pub(crate) quiet: Duration,
    /// For how long that was the limit, if that is known.
    pub(crate) unchanged: Option<Duration>,
}

impl Past {
    /// A machine that goes on after what there was, if anything.
    pub(super) fn machine<S, T, K: Hash + Eq + Clone>(settings: &Settings<S>) -> Machine<T, K> {
        let Some(past) = settings.past else {
            return Machine::new(settings.rules);
        };
        let mut machine = Machine::new(Rules {
            queue: past.pace,
            ..settings.rules
        });
        let newest = Time::ZERO.before(past.quiet);
        let since = past.unchanged.map_or(newest, |d| Time::ZERO.before(d));
        machine.go_on(newest, since);
        machine.set_rules(settings.rules, Time::ZERO);
        machine
    }
}

impl<T, K> Store<T, K> {
    /// How long ago a job was last started, also by processes before this one; `None` if none ever was.
    pub(crate) fn last_start(&self) -> Option<Duration> {
        let state = self.lock();
        let last = state.machine.last_grant()?;
        Some(self.now().since(last))
    }
}
