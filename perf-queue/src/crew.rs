use crate::machine::Time;

/// The workers that are idle. One of them at most sleeps until the machine's next event; the others
/// sleep until they are woken. So there is one timer, and it is held by a worker that can act when
/// it fires.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    idle: usize,
    /// Until when the leader sleeps.
    armed: Option<Time>,
}

impl Crew {
    /// A worker becomes idle while the next event is at `next`. Returns when it must wake by itself.
    pub(crate) fn join(&mut self, next: Option<Time>) -> Option<Time> {
        self.idle += 1;
        let lead = next.filter(|next| self.armed.is_none_or(|armed| *next < armed));
        if lead.is_some() {
            self.armed = lead;
        }
        lead
    }

    /// A worker that `join` told to wake at `lead` is idle no more.
    pub(crate) fn leave(&mut self, lead: Option<Time>) {
        self.idle -= 1;
        if lead.is_some() && self.armed == lead {
            self.armed = None;
        }
    }

    /// Whether an idle worker must be woken: to run a job, or because nobody would wake in time.
    pub(crate) fn must_wake(&self, next: Option<Time>, now: Time) -> bool {
        let in_time = |next| self.armed.is_some_and(|armed| armed <= next);
        self.idle > 0 && next.is_some_and(|next| next <= now || !in_time(next))
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle
    }
}
