//! What somebody must know of jobs before they start.

use std::collections::HashSet;
use std::hash::Hash;

use super::Machine;

/// What somebody is to be told before the next job can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// That jobs start.
    Starts,
    /// That this one does, by its number: it may kill the process.
    Suspect(u64),
}

/// Where telling takes time, that time is to lie before the grant: a job that is granted starts at once.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Nobody knows that jobs start.
    shut: bool,
    /// Nothing starts until this is answered.
    asked: Option<Ask>,
    /// That was not said yet.
    is_new: bool,
    suspects: HashSet<u64>,
}

impl Gate {
    /// To be asked where a job could start now.
    #[inline]
    pub(super) fn lets_start(&mut self) -> bool {
        if self.asked.is_none() && !self.shut {
            return true;
        }
        if self.asked.is_none() {
            self.ask(Ask::Starts);
        }
        false
    }

    #[inline]
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    fn ask(&mut self, ask: Ask) {
        self.asked = Some(ask);
        self.is_new = true;
    }
}

impl<T, K: Hash + Eq + Clone> Machine<T, K> {
    /// Nothing starts until [`Ask::Starts`] is answered, which is asked when something could.
    pub(crate) fn shut(&mut self) {
        self.gate.shut = true;
        self.gate.asked = None;
        self.gate.is_new = false;
    }

    /// What is asked, if anything, and whether jobs may start otherwise.
    pub(crate) fn asked(&self) -> (Option<Ask>, bool) {
        (self.gate.asked, !self.gate.shut)
    }

    /// Whether something is asked since the last call.
    pub(crate) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.gate.is_new)
    }

    /// It was told, or cannot be.
    pub(crate) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Starts => self.gate.shut = false,
            Ask::Suspect(seq) => {
                self.gate.suspects.remove(&seq);
            }
        }
        if self.gate.asked == Some(ask) {
            self.gate.asked = None;
        }
    }

    /// These jobs may kill the process.
    pub(crate) fn suspect(&mut self, jobs: impl IntoIterator<Item = u64>) {
        self.gate.suspects.extend(jobs);
    }

    /// Whether something is to be told of the next job of a key that is next. Where no limit counts its
    /// start, it may as well be told after the grant, beside those of others.
    pub(super) fn asks_first(&mut self, id: u32) -> bool {
        let key = &mut self.keys[id as usize];
        let Some(head) = key.list.head() else {
            return false;
        };
        let seq = self.jobs.get(head).seq;
        if self.rules.queue.is_none() && key.pace(self.rules.key.as_ref()).is_none() {
            self.gate.suspects.remove(&seq);
            return false;
        }
        if !self.gate.suspects.contains(&seq) {
            return false;
        }
        key.in_ring = true;
        self.ring.push_front(id);
        self.gate.ask(Ask::Suspect(seq));
        true
    }
}
