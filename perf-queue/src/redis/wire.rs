//! Bytes that the client and the scripts exchange; `lua/state.lua` has the other half.

use super::rules::Numbers;
use crate::JobId;
use crate::remote::{Lease, NewJob, Quota};

pub(super) fn id_bytes(id: JobId) -> [u8; 16] {
    id.to_bytes()
}

pub(super) fn id_of(bytes: &[u8]) -> Option<JobId> {
    let mut bytes = Reader(bytes);
    Some(JobId::new(bytes.u64()?, bytes.u64()?))
}

/// What the token of a lease says. Whole, it is higher for a later lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// The server's number of the lease, or of the first of its batch: microseconds since 1970 or a bit
    /// more, so below 2^52 in this century.
    pub(super) number: u64,
    pub(super) in_batch: bool,
    /// Of the job in its batch, from 0.
    pub(super) index: u64,
}

impl Token {
    const INDEX_BITS: u32 = 11;

    pub(super) const fn pack(self) -> u64 {
        (((self.number << 1) | self.in_batch as u64) << Self::INDEX_BITS) | self.index
    }

    pub(super) const fn of(lease: &Lease) -> Self {
        let rest = lease.token >> Self::INDEX_BITS;
        Self {
            number: rest >> 1,
            in_batch: rest & 1 == 1,
            index: lease.token & ((1 << Self::INDEX_BITS) - 1),
        }
    }

    /// As the server counts leases, also those of a batch.
    pub(super) const fn in_all(self) -> u64 {
        self.number + self.index
    }
}

pub(super) fn lease_bytes(lease: &Lease) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&id_bytes(lease.id));
    bytes[16..].copy_from_slice(&Token::of(lease).in_all().to_be_bytes());
    bytes
}

/// In the length of the trace: the limit of the job's key comes before it.
const RATED: u32 = 1 << 31;

const RATE_BYTES: usize = 28;

/// A limit of a key as the scripts use it.
fn rate_bytes(rate: Quota) -> [u8; RATE_BYTES] {
    let Numbers {
        step,
        lead,
        quota,
        period,
    } = Numbers::of(rate);
    let mut bytes = [0; RATE_BYTES];
    bytes[..8].copy_from_slice(&step.to_be_bytes());
    bytes[8..16].copy_from_slice(&lead.to_be_bytes());
    bytes[16..20].copy_from_slice(&quota.to_be_bytes());
    bytes[20..].copy_from_slice(&period.to_be_bytes());
    bytes
}

/// As it stands before what is so long.
pub(super) fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Adds a record from its fourth field on: the first three are the script's.
pub(super) fn rest_of_record(job: &NewJob, rest: &mut Vec<u8>) {
    rest.push(i8::MAX.wrapping_sub(job.priority).cast_unsigned());
    rest.extend_from_slice(&length(job.key.len()));
    rest.extend_from_slice(&job.key);
    let trace = u32::from_be_bytes(length(job.trace.len()));
    match &job.rate {
        None => rest.extend_from_slice(&trace.to_be_bytes()),
        Some(rate) => {
            rest.extend_from_slice(&(trace | RATED).to_be_bytes());
            rest.extend_from_slice(&rate_bytes(*rate));
        }
    }
    rest.extend_from_slice(job.trace.as_bytes());
    rest.extend_from_slice(&job.payload);
}

/// A job as it is kept. Times are microseconds of the server's clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) attempt: u32,
    pub(super) due: u64,
    pub(super) enqueued: u64,
    pub(super) key: Vec<u8>,
    pub(super) trace: String,
    pub(super) payload: Vec<u8>,
}

impl Record {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let times = Times::read(&mut reader)?;
        Self::of(times, reader.0)
    }

    /// The header and the rest of a record.
    pub(super) fn of(times: Times, rest: &[u8]) -> Option<Self> {
        let mut reader = Reader(rest);
        reader.take(1)?;
        let key = reader.part()?.to_vec();
        let trace = reader.u32()?;
        if trace & RATED != 0 {
            reader.take(RATE_BYTES)?;
        }
        let trace = reader.take((trace & !RATED) as usize)?;
        let trace = String::from_utf8_lossy(trace).into_owned();
        let Times {
            attempt,
            due,
            enqueued,
        } = times;
        Some(Self {
            attempt,
            due,
            enqueued,
            key,
            trace,
            payload: reader.0.to_vec(),
        })
    }
}

/// What a record begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    attempt: u32,
    due: u64,
    enqueued: u64,
}

impl Times {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            attempt: reader.u32()?,
            due: reader.u64()?,
            enqueued: reader.u64()?,
        })
    }
}

/// A dead letter as it is kept: when it died, its record, its errors.
pub(super) fn read_letter(bytes: &[u8]) -> Option<(u64, Record, Vec<String>)> {
    let mut reader = Reader(bytes);
    let died = reader.u64()?;
    let record = Record::read(reader.part()?)?;
    Some((died, record, read_errors(reader.0)?))
}

pub(super) fn read_errors(bytes: &[u8]) -> Option<Vec<String>> {
    let (mut reader, mut errors) = (Reader(bytes), Vec::new());
    while !reader.0.is_empty() {
        errors.push(String::from_utf8_lossy(reader.part()?).into_owned());
    }
    Some(errors)
}

pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// Bytes with their number before them.
    pub(super) fn part(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()?;
        self.take(n as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(priority: i8) -> NewJob {
        NewJob {
            id: JobId::new(1, u64::MAX),
            key: b"k\0ey".to_vec(),
            payload: vec![0, 255],
            delay: Duration::ZERO,
            priority,
            unique: None,
            rate: None,
            trace: "00-1".to_owned(),
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_never_in_part() {
        let mut bytes = Vec::new();
        rest_of_record(&job(0), &mut bytes);
        bytes.splice(
            ..0,
            [
                [0, 0, 0, 7].as_slice(),
                &9u64.to_be_bytes(),
                &8u64.to_be_bytes(),
            ]
            .concat(),
        );
        let record = Record::read(&bytes).unwrap();
        assert_eq!((record.attempt, record.due, record.enqueued), (7, 9, 8));
        assert_eq!((record.key, record.payload), (job(0).key, job(0).payload));
        assert_eq!(record.trace, "00-1");
        let header = bytes.len() - 2;
        for n in 0..header {
            assert_eq!(Record::read(&bytes[..n]), None);
        }
    }

    #[test]
    fn tokens_keep_their_parts_and_ascend() {
        let token = |number, in_batch, index| Token {
            number,
            in_batch,
            index,
        };
        let ascending = [
            token(1, false, 0),
            token(1, true, 0),
            token(1, true, 2_047),
            token(2, false, 0),
            token((1 << 52) - 1, true, 1),
        ];
        assert!(ascending.map(Token::pack).is_sorted_by(|a, b| a < b));
        for token in ascending {
            let lease = Lease {
                id: JobId::new(0, 0),
                token: token.pack(),
            };
            assert_eq!(Token::of(&lease), token);
        }
    }

    #[test]
    fn the_highest_priority_is_the_lowest_byte() {
        for (priority, urgency) in [(127, 0), (0, 127), (-1, 128), (-128, 255)] {
            let mut bytes = Vec::new();
            rest_of_record(&job(priority), &mut bytes);
            assert_eq!(bytes[0], urgency);
        }
    }

    #[test]
    fn ids_keep_their_halves() {
        let id = JobId::new(1, u64::MAX);
        assert_eq!(id_of(&id_bytes(id)), Some(id));
        assert_eq!(id_of(&[0; 15]), None);
    }
}
