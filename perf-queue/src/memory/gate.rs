//! Jobs wait for what is to be told of them before.

use std::hash::Hash;

use super::store::Store;
use crate::machine::Ask;

impl<T, K: Hash + Eq + Clone> Store<T, K> {
    /// Nothing starts until [`Ask::Starts`] is answered. When something could, that is asked, and
    /// [`Signals::asked`](crate::signals::Signals::asked) says so.
    pub(crate) fn shut(&self) {
        let (mut state, now) = self.enter();
        state.machine.shut();
        self.finish(state, now, None);
    }

    /// What is asked, if anything, and whether jobs may start otherwise.
    pub(crate) fn asked(&self) -> (Option<Ask>, bool) {
        self.lock().machine.asked()
    }

    /// It was told, or cannot be.
    pub(crate) fn answer(&self, ask: Ask) {
        let (mut state, now) = self.enter();
        state.machine.answer(ask);
        self.finish(state, now, None);
    }

    /// Jobs of these numbers are to be asked for one by one.
    pub(crate) fn suspect(&self, jobs: impl IntoIterator<Item = u64>) {
        self.lock().machine.suspect(jobs);
    }
}
