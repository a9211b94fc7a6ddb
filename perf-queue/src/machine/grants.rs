use std::collections::VecDeque;

use super::{Pace, Time};

/// The instants of past grants, as many as a limit's quota asks for. A key with one job, or a limit
/// with a quota of 1, needs no memory beside this.
#[derive(Debug, Clone, Default)]
pub(super) enum Grants {
    #[default]
    None,
    One(Time),
    Many(Box<Many>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Many {
    /// Oldest first.
    times: VecDeque<Time>,
    /// What is known of grants before the first of `times`. Without it there were none that matter.
    before: Option<Before>,
}

/// The latest instants at which grants that nobody has noted can have been, one by one backwards:
/// `quota` at `newest`, `quota` a period earlier, and so on, but none that is earlier than `floor`. By a
/// limit that was kept to without a break, they are evenly spaced, too, but for `ahead`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) newest: Time,
    quota: usize,
    period: u64,
    floor: Time,
    interval: u64,
    ahead: u64,
    /// There was none before.
    first: Time,
}

impl Before {
    /// Of a limit by `pace` that has been in force for all grants after `since`.
    pub(super) fn limited(newest: Time, pace: &Pace, since: Time) -> Self {
        Self {
            newest,
            quota: pace.quota,
            period: pace.period,
            floor: since.min(newest),
            interval: 0,
            ahead: 0,
            first: Time::ZERO,
        }
    }

    /// Any number of grants.
    pub(super) const fn unlimited(newest: Time) -> Self {
        Self {
            newest,
            quota: usize::MAX,
            period: 0,
            floor: newest,
            interval: 0,
            ahead: 0,
            first: Time::ZERO,
        }
    }

    /// Of processes before this one, by a limiter that had `pace` for all grants after `since`.
    pub(super) fn paced(newest: Time, pace: &Pace, since: Time) -> Self {
        let (interval, ahead) = pace.spacing();
        Self {
            interval,
            ahead,
            first: Time::LONG_AGO,
            ..Self::limited(newest, pace, since)
        }
    }

    /// Of processes before this one, by whatever limits.
    #[cfg(feature = "sqlite")]
    pub(super) fn unpaced(newest: Time) -> Self {
        Self {
            first: Time::LONG_AGO,
            ..Self::unlimited(newest)
        }
    }

    /// There may have been some before the start.
    pub(super) fn also_earlier(mut self, earlier: bool) -> Self {
        if earlier {
            self.first = Time::LONG_AGO;
        }
        self
    }

    fn up_to(self, newest: Time) -> Self {
        Self {
            newest: self.newest.min(newest),
            floor: self.floor.min(newest),
            ..self
        }
    }

    /// The `n`th backwards, from 1. There was none before the start.
    fn nth(&self, n: usize) -> Option<Time> {
        let periods = n.saturating_sub(1) / self.quota;
        let back = self.period.saturating_mul(periods as u64);
        let spaced = self.interval.saturating_mul(n.saturating_sub(1) as u64);
        let back = back.max(spaced.saturating_sub(self.ahead));
        let at = self.newest.minus_nanos(back).max(self.floor);
        (at >= self.first).then_some(at)
    }
}

impl Grants {
    #[inline]
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The instant of the grant that is the `n`th from now backwards, from 1, or the latest at which
    /// it can have been.
    #[inline]
    pub(super) fn back(&self, n: usize) -> Option<Time> {
        match self {
            Self::None => None,
            Self::One(at) => (n == 1).then_some(*at),
            Self::Many(many) => match many.times.len().checked_sub(n) {
                Some(at) => many.times.get(at).copied(),
                None => many.before.as_ref()?.nth(n - many.times.len()),
            },
        }
    }

    #[inline]
    pub(super) fn push(&mut self, quota: usize, now: Time) {
        match self {
            Self::None => *self = Self::One(now),
            Self::One(last) if quota == 1 => *last = now,
            Self::One(last) => {
                *self = Self::Many(Box::new(Many {
                    times: VecDeque::from([*last, now]),
                    before: None,
                }));
            }
            Self::Many(many) => {
                while many.times.len() >= quota {
                    many.times.pop_front();
                }
                many.times.push_back(now);
            }
        }
    }

    /// No grant later than this is unknown, and no grant at all was later: once it has left the
    /// period, nothing of these grants matters.
    pub(super) fn newest(&self) -> Option<Time> {
        match self {
            Self::None => None,
            Self::One(at) => Some(*at),
            Self::Many(many) => {
                let before = many.before.map(|before| before.newest);
                many.times.back().copied().or(before)
            }
        }
    }

    /// Prepares for a larger quota or a longer period than by `pace`, by which these grants were
    /// made from `since` on: both may ask for grants that are not noted any more.
    pub(super) fn widen(&mut self, pace: &Pace, since: Time, forgotten: Option<Before>) {
        let (noted, oldest, before) = match self {
            Self::None => (0, None, None),
            Self::One(at) => (1, Some(*at), None),
            Self::Many(many) => (many.times.len(), many.times.front().copied(), many.before),
        };
        let dropped = (noted == pace.quota).then(|| {
            // Where processes before this one have granted some, they have others, too. Those of this one
            // may be all that is noted, and what was forgotten tells.
            let first = match oldest {
                Some(oldest) if oldest < Time::ZERO => Time::LONG_AGO,
                _ => Time::ZERO,
            };
            let first = before
                .or(forgotten)
                .map_or(first, |known| known.first.min(first));
            // Each was a period before the one that is a quota later, if that was by this pace.
            let oldest = oldest.unwrap_or(Time::ZERO);
            let later = self.back(1).filter(|later| *later >= since);
            let newest = later.map_or(oldest, |later| later.minus_nanos(pace.period).min(oldest));
            Before {
                first,
                ..Before::limited(newest, pace, since)
            }
        });
        let forgotten = forgotten.map(|f| oldest.map_or(f, |oldest| f.up_to(oldest)));
        if let Some(before) = dropped.or(before).or(forgotten) {
            self.assume(before);
        }
    }

    /// Takes for granted what cannot be known.
    pub(super) fn assume(&mut self, before: Before) {
        let times = match std::mem::take(self) {
            Self::None => VecDeque::new(),
            Self::One(at) => VecDeque::from([at]),
            Self::Many(many) => many.times,
        };
        let before = Some(before);
        *self = Self::Many(Box::new(Many { times, before }));
    }
}
