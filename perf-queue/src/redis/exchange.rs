//! The arguments of an exchange, and what its answer says.

use std::time::Duration;

use redis::Cmd;

use super::packs;
use super::remote::micros;
use super::wire::{self, Record, Token};
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
    let done = done.into_iter().map(|ended| &ended.lease);
    let (mut in_batches, done): (Vec<&Lease>, Vec<&Lease>) =
        done.partition(|lease| Token::of(lease).in_batch);
    in_batches.sort_unstable_by_key(|lease| lease.token);
    let batch = |lease: &Lease| Token::of(lease).number;
    let batches = || in_batches.chunk_by(|a, b| batch(a) == batch(b));
    call.arg(want.jobs.min(MOST_JOBS)).arg(micros(want.within));
    call.arg(micros(want.lease))
        .arg(dead_letters.min(u32::MAX as usize));
    call.arg(done.len())
        .arg(batches().count())
        .arg(others.len());
    let lowest = done.iter().map(|lease| Token::of(lease).in_all()).min();
    call.arg(lowest.unwrap_or(0)).arg(u8::from(has_rules));
    for lease in done {
        call.arg(&wire::lease_bytes(lease));
    }
    for leases in batches() {
        runs(leases, call);
    }
    for ended in others {
        call.arg(&wire::lease_bytes(&ended.lease));
        let token = Token::of(&ended.lease);
        if token.in_batch {
            call.arg(token.number);
        } else {
            call.arg("");
        }
        let (how, after, scope, error) = match &ended.how {
            How::Done | How::Released => ("release", Duration::ZERO, "", ""),
            How::Retry { after, error } => ("retry", *after, "", error.as_str()),
            How::Snooze { after, penalty } => ("snooze", *after, scope(*penalty), ""),
            How::Dead { error } => ("dead", Duration::ZERO, "", error.as_str()),
        };
        call.arg(how).arg(micros(after)).arg(scope).arg(error);
    }
}

/// Jobs of a batch that are done, in their order: those that follow each other together.
fn runs(leases: &[&Lease], call: &mut Cmd) {
    let index = |lease: &Lease| Token::of(lease).index;
    let runs = || leases.chunk_by(|a, b| index(a) + 1 == index(b));
    let batch = leases.first().map_or(0, |lease| Token::of(lease).number);
    call.arg(batch).arg(runs().count());
    let mut ids = Vec::new();
    for run in runs() {
        ids.clear();
        for lease in run {
            ids.extend_from_slice(&wire::id_bytes(lease.id));
        }
        call.arg(run.first().map_or(0, |lease| index(lease)));
        call.arg(ids.as_slice());
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

/// Numbers; the ids of lost jobs; of the granted jobs the ids or packs, records and errors (if any has some) of
/// those with ids, and starts (if any is later than now).
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
    /// How many jobs and packs of jobs were found that cannot be read.
    pub(super) unreadable: u64,
}

pub(super) fn read(answer: Answer) -> Option<Read> {
    let (numbers, lost, entries, records, errors, starts) = answer;
    let [
        now,
        next,
        paused,
        by_queue,
        by_key,
        token,
        limited,
        dropped,
        unreadable,
    ] = <[i64; 9]>::try_from(numbers).ok()?;
    let (now, first) = (u64::try_from(now).ok()?, u64::try_from(token).ok()?);
    let token = |number, in_batch, index| Token {
        number,
        in_batch,
        index,
    };
    // Those of the packs come after those of the others.
    let mut single = (first..).map(|number| token(number, false, 0));
    let batch = first + u64::try_from(records.len()).ok()?;
    let mut in_packs = (0..).map(|index| token(batch, true, index));
    let (mut records, mut errors) = (records.into_iter(), errors.into_iter());
    let mut starts = starts.into_iter();
    let mut unreadable = u64::try_from(unreadable).ok()?;
    let mut granted = Vec::with_capacity(entries.len());
    let mut grant = |id, record: Record, errors, token: Token, starts: u64| {
        granted.push(Granted {
            lease: Lease {
                id,
                token: token.pack(),
            },
            attempt: record.attempt,
            errors,
            starts: Duration::from_micros(starts),
            limited: limited == 1,
            age: Duration::from_micros(now.saturating_sub(record.enqueued)),
            waited: Duration::from_micros(now.saturating_sub(record.due)),
            key: record.key,
            payload: record.payload,
            trace: record.trace,
        });
    };
    for entry in entries {
        if packs::is_pack(&entry) {
            let Some(jobs) = packs::read(&entry) else {
                // The server makes it a dead letter when its lease ends.
                for _ in 0..packs::size_of(&entry)? {
                    in_packs.next();
                    starts.next();
                }
                unreadable += 1;
                continue;
            };
            for (id, record) in jobs {
                let starts = starts.next().unwrap_or(0);
                grant(id, record, Vec::new(), in_packs.next()?, starts);
            }
            continue;
        }
        let errors = errors.next().flatten().unwrap_or_default();
        let (token, starts) = (single.next()?, starts.next().unwrap_or(0));
        // A lease of a job that is not there ends by itself.
        if let Some(record) = records.next()? {
            let Some(record) = Record::read(&record) else {
                unreadable += 1;
                continue;
            };
            grant(
                wire::id_of(&entry)?,
                record,
                wire::read_errors(&errors).unwrap_or_default(),
                token,
                starts,
            );
        }
    }
    let lost: Option<Vec<_>> = lost.iter().map(|id| wire::id_of(id)).collect();
    let exchange = Exchange {
        granted,
        lost: lost?,
        next: u64::try_from(next).ok().map(Duration::from_micros),
        limited: [u64::try_from(by_queue).ok()?, u64::try_from(by_key).ok()?],
        paused: paused == 1,
        untold: false,
    };
    Some(Read {
        exchange,
        now,
        dropped: u64::try_from(dropped).ok()?,
        unreadable,
    })
}
