//! How jobs leave the store, or come back to it.

use std::hash::Hash;
use std::time::Duration;

use super::store::{State, Store, Stored};
use crate::DeadLetter;
use crate::backend::{Ended, Hold, Taken};
use crate::machine::{Claimed, Return, Ticket, Time};
use crate::metrics::Outcome;

/// A job of which nothing is kept: to be dropped outside of the lock, as that is the user's code.
pub(super) enum Left<T> {
    /// There was no room for it.
    Letter(Box<DeadLetter<T>>),
    /// Its letter is kept elsewhere.
    Job(Box<Taken<T>>),
}

impl<T, K> Store<T, K>
where
    K: Hash + Eq + Clone,
{
    /// Ends a job, if there is one.
    pub(super) fn end(
        &self,
        state: &mut State<T, K>,
        ended: &mut Option<Ended<T>>,
        now: Time,
    ) -> Option<(Outcome, Duration, Option<Left<T>>)> {
        let State {
            machine,
            tally,
            dead,
            ..
        } = state;
        // As most do. Taken from where it is: to move it first would be a good part of the work.
        if let Some(Ended::Completed(_, Hold::Ticket(ticket))) = ended {
            tally.completed += 1;
            machine.finish(*ticket, now);
            let took = now.since(ticket.granted);
            *ended = None;
            return Some((Outcome::Completed, took, None));
        }
        let (outcome, ticket, again) = match ended.take()? {
            Ended::Completed(_, hold) => {
                tally.completed += 1;
                (Outcome::Completed, ticket(hold)?, None)
            }
            Ended::Discarded(_, hold) => {
                tally.discarded += 1;
                (Outcome::Discarded, ticket(hold)?, None)
            }
            Ended::Retry(mut taken, wait, error) => {
                tally.retried += 1;
                taken.errors.push(error);
                let ticket = ticket(taken.hold)?;
                let attempt = ticket.attempt.saturating_add(1);
                let again = (taken, attempt, Return::After(wait));
                (Outcome::Retried, ticket, Some(again))
            }
            Ended::Snooze(taken, wait, penalty) => {
                tally.snoozed += 1;
                let how = match penalty {
                    Some(scope) => Return::Penalty(scope, wait),
                    None => Return::After(wait),
                };
                let ticket = ticket(taken.hold)?;
                (Outcome::Snoozed, ticket, Some((taken, ticket.attempt, how)))
            }
            Ended::Released(taken) => {
                let ticket = ticket(taken.hold)?;
                let again = (taken, ticket.attempt, Return::Now);
                (Outcome::Released, ticket, Some(again))
            }
            Ended::Dead(mut taken, error) => {
                tally.died += 1;
                taken.errors.push(error);
                let ticket = ticket(taken.hold)?;
                machine.finish(ticket, now);
                if !self.settings.keeps_letters {
                    let left = Some(Left::Job(taken));
                    return Some((Outcome::Dead, now.since(ticket.granted), left));
                }
                let taken = *taken;
                let letter = DeadLetter {
                    id: taken.id,
                    job: Ok(taken.job),
                    attempts: ticket.attempt,
                    errors: taken.errors.into_vec(),
                    age: now.since(ticket.enqueued),
                };
                dead.push_back((now, letter));
                let dropped = if dead.len() > self.settings.dead_letters {
                    tally.dead_dropped += 1;
                    dead.pop_front()
                        .map(|(_, letter)| Left::Letter(Box::new(letter)))
                } else {
                    None
                };
                return Some((Outcome::Dead, now.since(ticket.granted), dropped));
            }
        };
        match again {
            None => machine.finish(ticket, now),
            Some((taken, attempt, how)) => {
                let taken = *taken;
                let payload = Stored {
                    job: taken.job,
                    id: taken.id,
                    trace: taken.trace,
                    errors: taken.errors,
                };
                machine.put_back(Claimed { payload, ticket }, attempt, how, now);
            }
        }
        Some((outcome, now.since(ticket.granted), None))
    }
}

/// The place in the machine that a job of a store always has.
fn ticket(hold: Hold) -> Option<Ticket> {
    match hold {
        Hold::Ticket(ticket) => Some(ticket),
        #[cfg(any(feature = "postgres", feature = "redis"))]
        Hold::Lease { .. } => None,
    }
}
