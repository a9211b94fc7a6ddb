use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The right to hold a connection, handed out in the callers' order, to as many at a time as the
/// limit says.
#[derive(Debug)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    limit: Mutex<u32>,
    /// Slots that are out and must not come back, because the limit fell while they were.
    owed: Arc<AtomicU32>,
}

impl Slots {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(limit as usize)),
            limit: Mutex::new(limit),
            owed: Arc::default(),
        }
    }

    /// A slot that is free, or a wait for one.
    pub(crate) fn try_take(&self) -> Result<Slot, TryAcquireError> {
        let permit = Arc::clone(&self.semaphore).try_acquire_owned()?;
        Ok(self.slot(permit))
    }

    /// Waits for a slot. Dropping the future leaves the queue.
    pub(crate) async fn take(&self) -> Result<Slot, AcquireError> {
        let permit = Arc::clone(&self.semaphore).acquire_owned().await?;
        Ok(self.slot(permit))
    }

    /// How many are out.
    pub(crate) fn taken(&self) -> usize {
        let limit = *self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        (limit as usize + self.owed.load(Ordering::Acquire) as usize)
            .saturating_sub(self.semaphore.available_permits())
    }

    /// Turns waiting and later callers away.
    pub(crate) fn close(&self) {
        self.semaphore.close();
    }

    pub(crate) fn set_limit(&self, to: u32) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if to < *limit {
            let fewer = *limit - to;
            let forgotten = self.semaphore.forget_permits(fewer as usize);
            let forgotten = u32::try_from(forgotten).unwrap_or(fewer);
            self.owed.fetch_add(fewer - forgotten, Ordering::AcqRel);
        } else {
            let mut more = *limit..to;
            while !more.is_empty() && take_one(&self.owed) {
                more.next();
            }
            self.semaphore.add_permits(more.len());
        }
        *limit = to;
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            permit: Some(permit),
            owed: Arc::clone(&self.owed),
        }
    }
}

fn take_one(owed: &AtomicU32) -> bool {
    owed.load(Ordering::Acquire) > 0
        && owed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| {
                owed.checked_sub(1)
            })
            .is_ok()
}

/// Comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    owed: Arc<AtomicU32>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && take_one(&self.owed)
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take,
        Give(usize),
        Limit(u32),
    }

    proptest! {
        #[test]
        fn never_more_are_taken_than_the_limit_allows(
            steps in proptest::collection::vec(
                prop_oneof![
                    3 => Just(Step::Take),
                    2 => (0..8usize).prop_map(Step::Give),
                    1 => (1..9u32).prop_map(Step::Limit),
                ],
                1..200,
            )
        ) {
            let slots = Slots::new(4);
            let (mut limit, mut held) = (4, Vec::new());
            for step in steps {
                match step {
                    Step::Take => {
                        let slot = slots.try_take().ok();
                        prop_assert_eq!(slot.is_some(), held.len() < limit as usize);
                        held.extend(slot);
                    }
                    Step::Give(n) if n < held.len() => drop(held.swap_remove(n)),
                    Step::Give(_) => {}
                    Step::Limit(to) => {
                        slots.set_limit(to);
                        limit = to;
                    }
                }
                prop_assert_eq!(slots.taken(), held.len());
            }
        }
    }
}
