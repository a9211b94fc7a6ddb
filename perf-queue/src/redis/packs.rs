//! Packs of jobs that were enqueued together, which go to the server and come from it as a whole; `lua/packs.lua`
//! has the other half.

use super::wire::{self, Reader, Record, Times};
use crate::JobId;
use crate::remote::NewJob;

/// How large packs are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// Fewer jobs than this are not packed: each is kept by its id.
    pub(super) fewest: usize,
    /// Jobs in a pack at most.
    pub(super) most: usize,
    /// So many batches of packs are remembered, for calls that are repeated.
    pub(super) notes: usize,
}

impl Packing {
    /// A pack is taken apart where not all of it is wanted; more in one would save little.
    pub(super) const USUAL: Self = Self {
        fewest: 32,
        most: 50,
        // Some 10 MB; half a minute of more batches than a server takes.
        notes: 100_000,
    };
}

/// Bytes of a pack, once there is a job in it, at most.
const MOST_BYTES: usize = 64 << 10;

/// Gives the packs of these jobs: what the server adds the header of all its records to, which is the number of
/// jobs, their ids, the rests of their records, each with its length before it; and what nobody reads.
pub(super) fn write(jobs: &[NewJob], most: usize, mut give: impl FnMut(&[u8])) {
    let (mut ids, mut rests) = (Vec::new(), Vec::new());
    for job in jobs {
        ids.extend_from_slice(&wire::id_bytes(job.id));
        let at = rests.len();
        rests.extend_from_slice(&[0; 4]);
        wire::rest_of_record(job, &mut rests);
        let length = wire::length(rests.len() - at - 4);
        if let Some(place) = rests.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
        if ids.len() >= 16 * most || rests.len() >= MOST_BYTES {
            finish(&mut ids, &mut rests, &mut give);
        }
    }
    if !ids.is_empty() {
        finish(&mut ids, &mut rests, &mut give);
    }
}

fn finish(ids: &mut Vec<u8>, rests: &mut Vec<u8>, give: &mut impl FnMut(&[u8])) {
    let mut pack = Vec::with_capacity(4 + ids.len() + rests.len() + 16);
    pack.extend_from_slice(&wire::length(ids.len() / 16));
    pack.append(ids);
    pack.append(rests);
    // Lua finds a string among those that it has by its length, its last byte, and few others. Without
    // this it would compare each pack with all others of their length.
    let differs = fastrand::u16(..);
    pack.resize(pack.len() + usize::from(differs >> 12), 0);
    pack.push(differs as u8);
    give(&pack);
}

/// About how many bytes the packs of these jobs are.
pub(super) fn size(jobs: &[NewJob]) -> usize {
    let own = |job: &NewJob| job.key.len() + job.trace.len() + job.payload.len();
    jobs.iter().map(|job| own(job) + 30).sum()
}

/// The jobs of a pack.
pub(super) fn read(pack: &[u8]) -> Option<Vec<(JobId, Record)>> {
    let mut reader = Reader::new(pack);
    let times = Times::read(&mut reader)?;
    let n = reader.u32()? as usize;
    let ids = reader.take(16_usize.checked_mul(n)?)?;
    let mut jobs = Vec::with_capacity(n);
    for id in ids.chunks_exact(16) {
        jobs.push((wire::id_of(id)?, Record::of(times, reader.part()?)?));
    }
    Some(jobs)
}

/// How many jobs it says it has.
pub(super) fn size_of(pack: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(pack);
    Times::read(&mut reader)?;
    reader.u32()
}

/// An id is as long as an id.
pub(super) const fn is_pack(entry: &[u8]) -> bool {
    entry.len() > 16
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(number: u64, size: usize) -> NewJob {
        NewJob {
            id: JobId::new(1, number),
            key: b"k".to_vec(),
            payload: vec![number as u8; size],
            delay: Duration::ZERO,
            priority: 0,
            unique: None,
            rate: None,
            trace: "00-1".to_owned(),
        }
    }

    fn packs_of(jobs: &[NewJob]) -> Vec<Vec<u8>> {
        let mut packs = Vec::new();
        write(jobs, 50, |pack| packs.push(pack.to_vec()));
        packs
    }

    fn read_back(packs: Vec<Vec<u8>>) -> Vec<(JobId, Record)> {
        let header = [
            [0, 0, 0, 1].as_slice(),
            &9_u64.to_be_bytes(),
            &8_u64.to_be_bytes(),
        ]
        .concat();
        let packs = packs.iter().map(|pack| [header.as_slice(), pack].concat());
        packs.flat_map(|pack| read(&pack).unwrap()).collect()
    }

    #[test]
    fn packs_read_as_they_were_written_and_never_in_part() {
        let jobs: Vec<NewJob> = (0..120).map(|n| job(n, n as usize)).collect();
        let packs = packs_of(&jobs);
        assert_eq!(packs.len(), 3);
        let bytes = packs.concat().len();
        assert!(bytes.abs_diff(size(&jobs)) < bytes / 10, "{bytes}");
        // What nobody reads is up to 16 bytes.
        for n in 0..packs[0].len() - 16 {
            assert_eq!(read(&[[0; 20].as_slice(), &packs[0][..n]].concat()), None);
        }
        let read = read_back(packs);
        assert_eq!(read.len(), jobs.len());
        for (job, (id, record)) in jobs.iter().zip(read) {
            assert_eq!((job.id, &job.payload), (id, &record.payload));
            assert_eq!((&job.key, &job.trace), (&record.key, &record.trace));
            assert_eq!((record.attempt, record.due, record.enqueued), (1, 9, 8));
        }
    }

    #[test]
    fn large_jobs_do_not_make_large_packs() {
        let jobs: Vec<NewJob> = (0..4).map(|n| job(n, 40 << 10)).collect();
        let packs = packs_of(&jobs);
        assert_eq!(packs.len(), 2);
        assert_eq!(read_back(packs).len(), 4);
    }
}
