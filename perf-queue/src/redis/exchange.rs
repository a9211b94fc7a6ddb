//! The arguments of an exchange, and what its answer says.

use std::time::Duration;

use redis::Cmd;

use super::remote::micros;
use super::wire::{self, Record};
use crate::Scope;
use crate::remote::{Ended, Exchange, Granted, How, Lease, Want};

/// More than this many jobs at once would keep the server busy for too long.
const MOST_JOBS: usize = 2_000;

pub(super) fn arguments(
    ended: &[Ended],
    want: Want,
    dead_letters: usize,
    has_rules: bool,
    call: &mut Cmd,
) {
    let (done, others): (Vec<&Ended>, Vec<&Ended>) =
        ended.iter().partition(|ended| ended.how == How::Done);
    call.arg(want.jobs.min(MOST_JOBS)).arg(micros(want.within));
    call.arg(micros(want.lease))
        .arg(dead_letters.min(u32::MAX as usize));
    call.arg(done.len()).arg(others.len());
    let lowest = done.iter().map(|ended| ended.lease.token).min();
    call.arg(lowest.unwrap_or(0)).arg(u8::from(has_rules));
    for ended in done {
        call.arg(&wire::lease_bytes(&ended.lease));
    }
    for ended in others {
        call.arg(&wire::lease_bytes(&ended.lease));
        let (how, after, scope, error) = match &ended.how {
            How::Done | How::Released => ("release", Duration::ZERO, "", ""),
            How::Retry { after, error } => ("retry", *after, "", error.as_str()),
            How::Snooze { after, penalty } => ("snooze", *after, scope(*penalty), ""),
            How::Dead { error } => ("dead", Duration::ZERO, "", error.as_str()),
        };
        call.arg(how).arg(micros(after)).arg(scope).arg(error);
    }
}

const fn scope(penalty: Option<Scope>) -> &'static str {
    match penalty {
        None => "",
        Some(Scope::Key) => "key",
        Some(Scope::Queue) => "queue",
    }
}

type Bytes = Vec<u8>;

/// Numbers; the ids of lost jobs; of the granted jobs the ids, records, errors (if any has some) and
/// starts (if any is later than now).
pub(super) type Answer = (
    Vec<i64>,
    Vec<Bytes>,
    Vec<Bytes>,
    Vec<Option<Bytes>>,
    Vec<Option<Bytes>>,
    Vec<u64>,
);

pub(super) struct Read {
    pub(super) exchange: Exchange,
    /// Microseconds of the server's clock.
    pub(super) now: u64,
    /// How many dead letters have been dropped for newer ones.
    pub(super) dropped: u64,
}

pub(super) fn read(answer: Answer) -> Option<Read> {
    let (numbers, lost, ids, records, errors, starts) = answer;
    let [now, next, paused, by_queue, by_key, token, limited, dropped] =
        <[i64; 8]>::try_from(numbers).ok()?;
    let (now, token) = (u64::try_from(now).ok()?, u64::try_from(token).ok()?);
    let (mut errors, mut starts) = (errors.into_iter(), starts.into_iter());
    let mut granted = Vec::with_capacity(ids.len());
    for ((id, record), token) in ids.into_iter().zip(records).zip(token..) {
        let errors = errors.next().flatten().unwrap_or_default();
        let starts = Duration::from_micros(starts.next().unwrap_or(0));
        // A lease of a job that is not there ends by itself.
        let Some(record) = record else { continue };
        let record = Record::read(record)?;
        granted.push(Granted {
            lease: Lease {
                id: wire::id_of(&id)?,
                token,
            },
            attempt: record.attempt,
            errors: wire::read_errors(&errors)?,
            starts,
            limited: limited == 1,
            age: Duration::from_micros(now.saturating_sub(record.enqueued)),
            waited: Duration::from_micros(now.saturating_sub(record.due)),
            key: record.key,
            payload: record.payload,
            trace: record.trace,
        });
    }
    let lost: Option<Vec<_>> = lost.iter().map(|id| wire::id_of(id)).collect();
    let exchange = Exchange {
        granted,
        lost: lost?,
        next: u64::try_from(next).ok().map(Duration::from_micros),
        limited: [u64::try_from(by_queue).ok()?, u64::try_from(by_key).ok()?],
        paused: paused == 1,
    };
    Some(Read {
        exchange,
        now,
        dropped: u64::try_from(dropped).ok()?,
    })
}
