//! How the state is entered.

use std::hint::spin_loop;
use std::sync::{MutexGuard, PoisonError, TryLockError};

use super::store::{State, Store};
use crate::machine::Time;

/// How often a lock that another thread has is tried before the thread sleeps until it is free.
const TRIES: usize = 4;

/// Spins before each try: two microseconds or so.
const PAUSES: usize = 100;

impl<T, K> Store<T, K> {
    /// The state is whole whenever user code can panic (a key's `Hash`, `Eq`, `Clone` or `Drop`), so a
    /// poisoned lock is as good as any.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<T, K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, State<T, K>>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The state, and the time: in the order in which the state is entered, it never goes back.
    #[inline]
    pub(super) fn enter(&self) -> (MutexGuard<'_, State<T, K>>, Time) {
        // Read just before the lock, which is shorter by that.
        let now = self.clock();
        let (mut state, now) = match self.try_lock() {
            Some(state) => (state, now),
            None => self.wait(),
        };
        state.now = state.now.max(now);
        let now = state.now;
        (state, now)
    }

    /// Somebody has the lock, for a moment: to let them have it for some jobs more costs less than to sleep,
    /// and less than to take from them what is in their caches.
    #[cold]
    fn wait(&self) -> (MutexGuard<'_, State<T, K>>, Time) {
        for _ in 0..TRIES {
            for _ in 0..PAUSES {
                spin_loop();
            }
            let now = self.clock();
            if let Some(state) = self.try_lock() {
                return (state, now);
            }
        }
        let state = self.lock();
        let now = self.clock();
        (state, now)
    }

    fn clock(&self) -> Time {
        Time::at(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::Memory;
    use crate::backend::Limits;
    use crate::machine::Rules;
    use crate::memory::store::Settings;
    use crate::metrics::Meters;
    use crate::signals::Signals;

    fn store() -> Store<(), ()> {
        let settings = Settings {
            memory: Memory::bounded(1),
            #[cfg(feature = "sqlite")]
            past: None,
            limits: Limits::default(),
            rules: Rules::default(),
            rate_per_key: None,
            keeps_letters: true,
            dead_letters: 0,
            signals: Arc::new(Signals::new()),
            meters: Arc::new(Meters::new("q")),
        };
        Store::new(settings, Arc::new(|(): &()| ()))
    }

    /// The clock is read before the lock is had: others may have read it later, and have been first.
    #[test]
    fn time_never_goes_back_from_one_who_enters_to_the_next() {
        let store = store();
        let (mut state, now) = store.enter();
        let later = now.plus_nanos(1 << 40);
        state.now = later;
        drop(state);
        assert_eq!(store.enter().1, later);
    }

    /// As above, by chance.
    #[test]
    fn time_goes_on_where_many_enter_at_once() {
        const TIMES: usize = 100_000;
        let (store, last) = (store(), Mutex::new(Time::ZERO));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..TIMES {
                        let (_state, now) = store.enter();
                        let before = std::mem::replace(&mut *last.lock().unwrap(), now);
                        assert!(now >= before);
                    }
                });
            }
        });
    }
}
