use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::slow::TraceId;
use super::table::SeriesId;
use crate::clock::Instant;
use crate::shard::{SHARDS, Shard};

/// Slots of a shard's first chunk; each further chunk is twice as large.
const FIRST: usize = 64;
/// With this many chunks, a shard has room for 65,472 requests (4 MiB).
const CHUNKS: usize = 10;
/// Slots that are looked at before a chunk is added: even when three of four are taken, one of
/// these is free 99 times of 100.
const PROBES: usize = 16;

/// The requests that are running, in slots that are taken and freed without a lock.
///
/// Memory grows with the greatest number of requests that ran at once, and is bounded.
#[derive(Debug, Default)]
pub(super) struct Running {
    shards: [OnceLock<Box<Slots>>; SHARDS],
}

/// The slots of a shard. Only its threads take them; any thread may free them.
#[derive(Debug)]
struct Slots {
    /// The first chunk.
    first: [Slot; FIRST],
    more: [OnceLock<Box<[Slot]>>; CHUNKS - 1],
    /// How many slots there are.
    len: AtomicUsize,
    /// The slot that was taken last, which is often free again.
    last: AtomicUsize,
}

/// One request, if there is one, with what its guard knows of it: here that need not move with the
/// guard. Of the latter, only the guard's owner reads and writes. On a cache line of its own, as it
/// may be on another thread than its neighbours.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Slot {
    /// The clock's reading at its start; [`FREE`], or [`TAKING`] for a moment.
    started: AtomicU64,
    /// Twice the number of its [`SeriesId`], plus one once it has headers.
    what: AtomicU64,
    /// The start of the request that was [reported](Seen::report) last.
    reported: AtomicU64,
    /// The halves of the id of the trace that the request belongs to, where that matters.
    trace: [AtomicU64; 2],
    length: AtomicU64,
    sent: AtomicU64,
}

/// In place of a length that is not known.
const UNKNOWN: u64 = u64::MAX;

const FREE: u64 = 0;
const TAKING: u64 = u64::MAX;

/// A request that is running.
pub(super) struct Seen<'a> {
    slot: &'a Slot,
    pub(super) started: Instant,
    pub(super) series: SeriesId,
    pub(super) has_headers: bool,
}

impl Seen<'_> {
    /// Whether [`report`](Self::report) was called for this request.
    pub(super) fn reported(&self) -> bool {
        self.slot.reported.load(Relaxed) == self.started.raw()
    }

    pub(super) fn report(&self) {
        self.slot.reported.store(self.started.raw(), Relaxed);
    }
}

impl Running {
    /// Notes a request that starts; `None` if there is no slot left for it.
    #[inline]
    pub(super) fn enter(&self, shard: Shard, series: SeriesId, started: Instant) -> Option<&Slot> {
        let slots = self.shards.get(shard.index())?.get_or_init(Slots::new);
        let (what, started) = (u64::from(series.number()) << 1, started.raw());
        let last = slots.first.get(slots.last.load(Relaxed));
        match last.filter(|slot| slot.take(shard, what, started)) {
            None => slots.take(shard, what, started),
            taken => taken,
        }
    }

    /// Looks at each request that runs all the while, and at others that do not.
    pub(super) fn visit(&self, mut see: impl FnMut(Seen<'_>)) {
        let shards = self.shards.iter().filter_map(OnceLock::get);
        let slots = shards.flat_map(|slots| {
            let more = slots.more.iter().filter_map(OnceLock::get);
            slots.first.iter().chain(more.flatten())
        });
        for slot in slots {
            let started = slot.started.load(Acquire);
            let what = slot.what.load(Acquire);
            // Taken by another request between the two? Then the start has changed, too.
            let same = slot.started.load(Acquire) == started;
            if same && started != FREE && started != TAKING {
                see(Seen {
                    slot,
                    started: Instant::from_raw(started),
                    series: SeriesId::from_number((what >> 1) as u32),
                    has_headers: what & 1 == 1,
                });
            }
        }
    }
}

impl Slots {
    fn new() -> Box<Self> {
        Box::new(Self {
            first: std::array::from_fn(|_| Slot::default()),
            more: Default::default(),
            len: AtomicUsize::new(FIRST),
            last: AtomicUsize::new(0),
        })
    }

    fn get(&self, index: usize) -> Option<&Slot> {
        // Chunk k starts at FIRST * (2^k - 1).
        let chunk = (index / FIRST + 1).ilog2() as usize;
        let start = FIRST * ((1 << chunk) - 1);
        match chunk {
            0 => self.first.get(index),
            _ => self.more.get(chunk - 1)?.get()?.get(index - start),
        }
    }

    #[inline(never)]
    fn take(&self, shard: Shard, what: u64, started: u64) -> Option<&Slot> {
        let len = self.len.load(Acquire);
        let probe = |index: usize| {
            let slot = self.get(index)?;
            slot.take(shard, what, started).then(|| {
                self.last.store(index, Relaxed);
                slot
            })
        };
        let mut index = self.last.load(Relaxed);
        // Back to the slots that are tried first, once they are free again.
        if index >= FIRST
            && let Some(taken) = probe(0)
        {
            return Some(taken);
        }
        for _ in 0..PROBES.min(len) {
            if let Some(taken) = probe(index) {
                return Some(taken);
            }
            index = if index + 1 < len { index + 1 } else { 0 };
        }
        let chunk = (len / FIRST + 1).ilog2() as usize;
        let size = FIRST << chunk;
        let chunk = self.more.get(chunk.checked_sub(1)?)?;
        chunk.get_or_init(|| (0..size).map(|_| Slot::default()).collect());
        self.len.fetch_max(len + size, Release);
        (len..len + PROBES).find_map(probe)
    }
}

impl Slot {
    /// One that is in no list.
    pub(super) fn unlisted(started: Instant) -> Self {
        Self {
            started: AtomicU64::new(started.raw()),
            ..Self::default()
        }
    }

    /// When the request started.
    #[inline]
    pub(super) fn started(&self) -> Instant {
        Instant::from_raw(self.started.load(Relaxed))
    }

    /// The length of the request's body; once there are headers, of the response's; `None` if it is
    /// not known.
    #[inline]
    pub(super) fn length(&self) -> Option<u64> {
        let length = self.length.load(Relaxed);
        (length != UNKNOWN).then_some(length)
    }

    #[inline]
    pub(super) fn set_length(&self, length: Option<u64>) {
        self.length.store(length.unwrap_or(UNKNOWN), Relaxed);
    }

    /// How much of the response's body was sent.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    #[inline]
    pub(super) fn set_sent(&self, sent: u64) {
        self.sent.store(sent, Relaxed);
    }

    /// Notes that the request has headers.
    #[inline]
    pub(super) fn headers(&self) {
        self.what.store(self.what.load(Relaxed) | 1, Release);
    }

    /// Notes that the request is over.
    #[inline]
    pub(super) fn leave(&self) {
        self.started.store(FREE, Release);
    }

    /// Keeps the id of the request's trace.
    pub(super) fn set_trace(&self, trace: Option<TraceId>) {
        let halves = trace.map_or([0; 2], TraceId::halves);
        for (kept, half) in self.trace.iter().zip(halves) {
            kept.store(half, Relaxed);
        }
    }

    /// The id that was kept for this request.
    pub(super) fn trace(&self) -> Option<TraceId> {
        let [high, low] = &self.trace;
        TraceId::from_halves([high.load(Relaxed), low.load(Relaxed)])
    }

    #[inline]
    fn take(&self, shard: Shard, what: u64, started: u64) -> bool {
        if self.started.load(Acquire) != FREE {
            return false;
        }
        if !shard.own() {
            let taking = self
                .started
                .compare_exchange(FREE, TAKING, Acquire, Relaxed);
            if taking.is_err() {
                return false;
            }
        }
        self.what.store(what, Release);
        self.started.store(started, Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(n: u32) -> SeriesId {
        SeriesId::from_number(n)
    }

    fn seen(running: &Running) -> Vec<(u32, bool)> {
        let mut all = Vec::new();
        running.visit(|seen| all.push((seen.series.number(), seen.has_headers)));
        all.sort_unstable();
        all
    }

    #[test]
    fn who_is_running_is_seen_until_the_end() {
        let running = Running::default();
        let shard = Shard::current();
        let one = running.enter(shard, series(1), Instant::now()).unwrap();
        let two = running.enter(shard, series(2), Instant::now()).unwrap();
        assert_eq!(seen(&running), [(1, false), (2, false)]);
        one.headers();
        assert_eq!(seen(&running), [(1, true), (2, false)]);
        two.leave();
        assert_eq!(seen(&running), [(1, true)]);
        one.leave();
        assert_eq!(seen(&running), []);
    }

    #[test]
    fn a_slot_is_used_again_and_reported_anew() {
        let running = Running::default();
        let shard = Shard::current();
        let mut first = None;
        for n in 0..1000 {
            let slot = running.enter(shard, series(n), Instant::from_raw(u64::from(n) + 1));
            let slot = slot.unwrap();
            assert!(std::ptr::eq(slot, *first.get_or_insert(slot)));
            let mut reports = Vec::new();
            running.visit(|seen| {
                reports.push(seen.reported());
                seen.report();
                reports.push(seen.reported());
            });
            assert_eq!(reports, [false, true]);
            slot.leave();
        }
    }

    #[test]
    fn there_is_room_for_sixty_thousand_and_the_rest_is_told() {
        let running = Running::default();
        let shard = Shard::current();
        let enter = |n| running.enter(shard, series(n), Instant::now());
        let slots: Vec<_> = (0..100_000).filter_map(enter).collect();
        let taken = slots.len();
        assert!((60_000..=65_472).contains(&taken), "{taken}");
        assert_eq!(seen(&running).len(), taken);
        slots.into_iter().for_each(Slot::leave);
        assert_eq!(seen(&running), []);
    }

    #[test]
    fn after_a_burst_the_slots_that_are_tried_first_are_used_again() {
        let running = Running::default();
        let shard = Shard::current();
        let enter = || running.enter(shard, series(1), Instant::now()).unwrap();
        let burst: Vec<_> = (0..10 * FIRST).map(|_| enter()).collect();
        burst.into_iter().for_each(Slot::leave);
        enter().leave();
        let slots = running.shards[shard.index()].get().unwrap();
        assert!(slots.last.load(Relaxed) < FIRST);
    }

    #[test]
    fn no_slot_is_taken_twice_however_many_threads_share_it() {
        let running = Running::default();
        std::thread::scope(|scope| {
            for thread in 0..3 * SHARDS as u32 {
                let running = &running;
                scope.spawn(move || {
                    for n in 0..500 {
                        let number = thread * 1000 + n;
                        let slot = running.enter(Shard::current(), series(number), Instant::now());
                        let slot = slot.unwrap();
                        assert_eq!(slot.what.load(Acquire) >> 1, u64::from(number));
                        std::thread::yield_now();
                        assert_eq!(slot.what.load(Acquire) >> 1, u64::from(number));
                        slot.leave();
                    }
                });
            }
        });
        assert_eq!(seen(&running), []);
    }
}
