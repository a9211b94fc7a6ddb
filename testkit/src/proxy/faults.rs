use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The faults of a proxy, as they are now.
#[derive(Default)]
pub(super) struct Faults {
    modes: watch::Sender<Modes>,
    planned: Mutex<Vec<PlannedCut>>,
}

/// What holds for every connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Modes {
    pub(super) delay: Duration,
    pub(super) refuse: bool,
    pub(super) black_hole: bool,
    /// Which share of the messages of Redis is lost, once that was asked for.
    pub(super) lose: Option<f64>,
    /// How often all connections were cut; a connection goes when this has changed.
    pub(super) cuts: u64,
}

type Predicate = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// A cut of the first connection it fits.
pub(super) enum PlannedCut {
    Before(Predicate),
    After(Predicate),
    AfterBytes(u64),
}

impl PlannedCut {
    /// How much of `request` shall still be sent before the cut, if it happens now.
    fn at(&mut self, request: &[u8]) -> Option<usize> {
        match self {
            Self::Before(matches) => matches(request).then_some(0),
            Self::After(matches) => matches(request).then_some(request.len()),
            Self::AfterBytes(left) => match usize::try_from(*left) {
                Ok(left) if left <= request.len() => Some(left),
                _ => {
                    *left -= request.len() as u64;
                    None
                }
            },
        }
    }
}

impl Faults {
    pub(super) fn modes(&self) -> Modes {
        *self.modes.borrow()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Modes)) {
        self.modes.send_modify(change);
    }

    pub(super) fn plan(&self, cut: PlannedCut) {
        self.planned().push(cut);
    }

    pub(super) fn heal(&self) {
        self.planned().clear();
        self.change(|modes| {
            *modes = Modes {
                cuts: modes.cuts,
                lose: modes.lose.map(|_| 0.0),
                ..Modes::default()
            };
        });
    }

    /// How much of `request` shall still be sent before its connection is cut, if it is to be cut.
    /// The planned cut is used up.
    pub(super) fn cut_at(&self, request: &[u8]) -> Option<usize> {
        let mut planned = self.planned();
        for index in 0..planned.len() {
            if let Some(length) = planned[index].at(request) {
                planned.remove(index);
                return Some(length);
            }
        }
        None
    }

    /// Ends when bytes may pass.
    pub(super) async fn passable(&self) {
        self.until(|modes| !modes.black_hole).await;
    }

    /// Ends when all connections were cut since there had been `cuts`.
    pub(super) async fn cut_since(&self, cuts: u64) {
        self.until(|modes| modes.cuts != cuts).await;
    }

    async fn until(&self, mut done: impl FnMut(&Modes) -> bool) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.modes.subscribe().wait_for(|modes| done(modes)).await;
    }

    fn planned(&self) -> MutexGuard<'_, Vec<PlannedCut>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("modes", &self.modes())
            .field("planned", &self.planned().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, PlannedCut};

    #[test]
    fn bytes_are_counted_over_requests_and_the_last_one_is_split() {
        let faults = Faults::default();
        faults.plan(PlannedCut::AfterBytes(7));
        assert_eq!(faults.cut_at(b"1234"), None);
        assert_eq!(faults.cut_at(b"5678"), Some(3));
        assert_eq!(faults.cut_at(b"more"), None);
    }

    #[test]
    fn a_cut_at_the_end_of_a_request_comes_after_it_and_one_at_zero_before_the_next() {
        let faults = Faults::default();
        faults.plan(PlannedCut::AfterBytes(4));
        assert_eq!(faults.cut_at(b"1234"), Some(4));
        faults.plan(PlannedCut::AfterBytes(0));
        assert_eq!(faults.cut_at(b"1234"), Some(0));
        faults.plan(PlannedCut::AfterBytes(u64::MAX));
        assert_eq!(faults.cut_at(b"1234"), None);
    }

    #[test]
    fn each_planned_cut_happens_once() {
        let faults = Faults::default();
        faults.plan(PlannedCut::After(Box::new(|request| request == b"two")));
        faults.plan(PlannedCut::Before(Box::new(|_| true)));
        assert_eq!(faults.cut_at(b"two"), Some(3));
        assert_eq!(faults.cut_at(b"two"), Some(0));
        assert_eq!(faults.cut_at(b"two"), None);
    }
}
