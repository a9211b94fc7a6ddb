//! What may be done to a queue.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{LONG, New};

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Their numbers are given later.
    Enqueue(Vec<New>),
    /// Which of the running jobs end, and how; how many are wanted.
    Exchange(Vec<(Index, How)>, usize),
    Extend(Index),
    Crash(usize),
    Advance(u64),
    Concurrency(Option<u32>),
    Replay(Index),
    Purge,
    Pause(bool),
}

/// How a job ends. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Done,
    Retry(u64),
    Snooze(u64),
    /// Its key waits as long.
    Penalty(u64),
    Dead,
    Released,
}

impl How {
    /// The time that it waits, where it is to wait for one.
    pub(crate) const fn after(self) -> Option<u64> {
        match self {
            Self::Retry(after) | Self::Snooze(after) | Self::Penalty(after) => Some(after),
            Self::Done | Self::Dead | Self::Released => None,
        }
    }
}

fn how() -> impl Strategy<Value = How> {
    let wait = || prop_oneof![4 => Just(0), 2 => 1..20_u64, 1 => Just(LONG)];
    prop_oneof![
        4 => Just(How::Done),
        2 => wait().prop_map(How::Retry),
        1 => wait().prop_map(How::Snooze),
        1 => prop_oneof![1..20_u64, Just(LONG)].prop_map(How::Penalty),
        2 => Just(How::Released),
        1 => Just(How::Dead),
    ]
}

fn new() -> impl Strategy<Value = New> {
    let priority = prop_oneof![4 => Just(0), 1 => -2..2i8, 1 => Just(i8::MIN), 1 => Just(i8::MAX)];
    let delay = prop_oneof![8 => Just(0), 1 => 1..20_u64, 1 => Just(LONG)];
    (0..4u8, priority, delay).prop_map(|(key, priority, delay)| New {
        number: 0,
        key,
        priority,
        delay,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let ended = prop::collection::vec((any::<Index>(), how()), 0..6);
    prop_oneof![
        4 => prop::collection::vec(new(), 0..8).prop_map(Step::Enqueue),
        8 => (ended, 0..8usize).prop_map(|(ended, want)| Step::Exchange(ended, want)),
        1 => any::<Index>().prop_map(Step::Extend),
        1 => (0..5usize).prop_map(Step::Crash),
        2 => (0..15_u64).prop_map(Step::Advance),
        1 => prop::option::of(1..3u32).prop_map(Step::Concurrency),
        1 => any::<Index>().prop_map(Step::Replay),
        1 => Just(Step::Purge),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}
