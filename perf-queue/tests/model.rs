//! The room of a queue in many interleavings: the very file of the crate, on the primitives of shuttle,
//! whose scheduler runs one thread at a time and chooses at each lock and each atomic who goes on. A
//! thread that waits for ever is a deadlock there, and fails the test.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the crate uses what the model does not"
)]

#[path = "../src/room.rs"]
mod room;

mod sync {
    use shuttle::future::batch_semaphore::{BatchSemaphore, Fairness};

    pub(crate) use shuttle::future::batch_semaphore::{AcquireError, TryAcquireError};
    pub(crate) use shuttle::sync::Mutex;
    pub(crate) use shuttle::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use std::sync::PoisonError;

    /// As tokio's.
    #[derive(Debug)]
    pub(crate) struct Semaphore(BatchSemaphore);

    #[derive(Debug)]
    pub(crate) struct SemaphorePermit<'a> {
        of: &'a BatchSemaphore,
        permits: usize,
    }

    impl Semaphore {
        pub(crate) fn new(permits: usize) -> Self {
            Self(BatchSemaphore::new(permits, Fairness::StrictlyFair))
        }

        pub(crate) fn add_permits(&self, permits: usize) {
            self.0.release(permits);
        }

        pub(crate) fn available_permits(&self) -> usize {
            self.0.available_permits()
        }

        pub(crate) fn try_acquire_many(
            &self,
            permits: u32,
        ) -> Result<SemaphorePermit<'_>, TryAcquireError> {
            let permits = permits as usize;
            self.0.try_acquire(permits)?;
            let of = &self.0;
            Ok(SemaphorePermit { of, permits })
        }

        pub(crate) async fn acquire_many(
            &self,
            permits: u32,
        ) -> Result<SemaphorePermit<'_>, AcquireError> {
            let permits = permits as usize;
            self.0.acquire(permits).await?;
            let of = &self.0;
            Ok(SemaphorePermit { of, permits })
        }

        pub(crate) fn close(&self) {
            self.0.close();
        }

        pub(crate) fn is_closed(&self) -> bool {
            self.0.is_closed()
        }
    }

    impl SemaphorePermit<'_> {
        pub(crate) fn forget(mut self) {
            self.permits = 0;
        }
    }

    impl Drop for SemaphorePermit<'_> {
        fn drop(&mut self) {
            if self.permits > 0 {
                self.of.release(self.permits);
            }
        }
    }

    pub(crate) async fn consume_budget() {}
}

#[cfg(test)]
mod model {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Poll;

    use shuttle::future::block_on;
    use shuttle::thread;

    use crate::room::Room;

    const RUNS: usize = 2_000;

    /// Room that is given back at once, at the latest, as the crate has it.
    const AT_ONCE: usize = 64;

    /// All that was given back can be had without waiting, at once.
    fn is_all(room: &Room, permits: usize) {
        let permits = u32::try_from(permits).unwrap();
        assert!(
            room.try_acquire_many(permits + 1).is_err(),
            "room has grown"
        );
        assert!(room.try_acquire_many(permits).is_ok(), "room is lost");
    }

    #[test]
    fn what_was_left_is_there_for_who_asks_without_waiting() {
        shuttle::check_random(
            || {
                let room = Arc::new(Room::new());
                let threads = [1, 2, 3].map(|jobs| {
                    let room = Arc::clone(&room);
                    thread::spawn(move || (0..jobs).for_each(|_| room.leave()))
                });
                for thread in threads {
                    thread.join().unwrap();
                }
                is_all(&room, 6);
            },
            RUNS,
        );
    }

    /// Who waits is woken by who leaves, whichever of them comes first.
    #[test]
    fn who_waits_gets_what_was_left_before_and_what_is_left_meanwhile() {
        shuttle::check_random(
            || {
                let room = Arc::new(Room::new());
                room.leave();
                let waiting = [2, 3].map(|jobs| {
                    let room = Arc::clone(&room);
                    thread::spawn(move || {
                        block_on(room.acquire_many(jobs)).unwrap().forget();
                    })
                });
                let leaving = [3, 2].map(|jobs| {
                    let room = Arc::clone(&room);
                    thread::spawn(move || (0..jobs).for_each(|_| room.leave()))
                });
                for thread in waiting.into_iter().chain(leaving) {
                    thread.join().unwrap();
                }
                is_all(&room, 1);
            },
            RUNS,
        );
    }

    /// Between taking note of what was left and giving it to the semaphore, it was in neither.
    #[test]
    fn what_was_left_is_never_out_of_sight() {
        shuttle::check_random(
            || {
                let room = Arc::new(Room::new());
                (1..AT_ONCE).for_each(|_| room.leave());
                let last = thread::spawn({
                    let room = Arc::clone(&room);
                    move || room.leave()
                });
                for _ in 0..3 {
                    assert!(room.try_acquire_many(1).is_ok(), "out of sight");
                }
                last.join().unwrap();
                is_all(&room, AT_ONCE);
            },
            RUNS,
        );
    }

    /// Whoever gave up waiting is not counted any more, and keeps nothing.
    #[test]
    fn who_gave_up_waiting_keeps_nothing() {
        shuttle::check_random(
            || {
                let room = Arc::new(Room::new());
                let leaving = thread::spawn({
                    let room = Arc::clone(&room);
                    move || (0..2).for_each(|_| room.leave())
                });
                {
                    let mut waits = pin!(room.acquire_many(2));
                    block_on(poll_fn(|cx| {
                        drop(waits.as_mut().poll(cx));
                        Poll::Ready(())
                    }));
                }
                leaving.join().unwrap();
                is_all(&room, 2);
            },
            RUNS,
        );
    }
}
