//! Jobs in a file of SQLite's.
//!
//! The machine in memory decides which job starts; what is here makes its jobs durable. One task
//! writes ([`writer`]), and commits what has gathered since its last commit at once.

mod arrivals;
mod backend;
mod changes;
mod clock;
mod dead;
mod durable;
mod error;
mod file;
mod foreign;
mod group;
mod inbox;
mod insert;
mod journal;
mod load;
mod names;
mod rows;
mod script;
mod start;
mod state;
mod suspects;
#[cfg(test)]
mod tests;
mod told;
mod transaction;
mod watch;
mod writer;

use std::path::{Path, PathBuf};

use crate::BuildError;

pub(crate) use journal::Journal;
pub(crate) use rows::{Added, End, Place, RowId, Stored};

/// The SQLite backend: jobs live in a file, and survive the process.
///
/// It is for one process: a queue in a file belongs to whoever opened it, until that queue is dropped
/// or its process has ended in whichever way. A file can hold several queues, each with a name of its
/// own, and tables of the application's.
///
/// The file is in WAL mode, and a job is on the disk (`synchronous = FULL`) when its enqueue returns.
///
/// The limits of the queue and of each key hold in windows that span the end of a process, too, also of
/// one that was killed. Starts are not written one by one. What each key has had of late is written by
/// [`Workers::shutdown`](crate::Workers::shutdown), by [`Queue::drain`](crate::Queue::drain) of a queue
/// that is closed, and when the queue is dropped while its runtime goes on; keys go on from there. A
/// process that ends without any of these after a start counts as killed, and one that has started
/// nothing leaves all as it was.
///
/// Of the queue as a whole, and of each key after a kill, starts count as the most that the limit can
/// have let through, up to the last start, or after a kill up to the next build. So a first job may have
/// to wait for one slot and 50 ms; for a period with a burst, where the limit was changed after that time,
/// or where a closure gives or gave keys limits of their own. It waits once for each process that was
/// killed after it had started something. With more than some 260,000 keys whose limits bind at the end,
/// each key waits as after a kill.
///
/// How long ago that was is told by the time since the start of the system, which Linux has. Elsewhere, and
/// after the next start, the wall clock tells: set forward while no process has the queue, less time has
/// to pass. Delays, retries and penalties go by the wall clock anywhere. Keys are found again by their [`Hash`](std::hash::Hash). A type of another name, or another
/// version of Rust, is noticed, and what keys have had is as unknown as after a kill; another `Hash` of
/// the same type is not noticed, and its keys count as new. So does a key that was free by the limit
/// that a closure gave to it, where the closure of the next process gives it one that lasts longer.
#[derive(Debug, Clone)]
pub struct Sqlite {
    path: PathBuf,
    capacity: usize,
    dead_letters: usize,
}

impl Sqlite {
    /// Keeps jobs in this file, which is made if it is not there. The file is opened when the queue is
    /// built.
    pub fn open(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            capacity: 100_000,
            dead_letters: 1_000,
        }
    }

    /// Holds up to `jobs` jobs, those that run among them. When it is full,
    /// [`enqueue`](crate::Queue::enqueue) waits and [`try_enqueue`](crate::Queue::try_enqueue) gives
    /// the job back. Jobs that are in the file already, and those that come by a transaction of the
    /// application's, are taken whether there is room or not. All of them are in memory, too.
    /// Defaults to 100,000.
    #[must_use]
    pub const fn capacity(mut self, jobs: usize) -> Self {
        self.capacity = jobs;
        self
    }

    /// Keeps up to `letters` dead letters, beside the queue's own bound. When there are more, the
    /// oldest is dropped and logged; 0 keeps none. Defaults to 1,000.
    #[must_use]
    pub const fn dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        // As in memory, where all of them are.
        let max = (u32::MAX - 1) as usize;
        if self.capacity == 0 || self.capacity > max {
            return Err(BuildError::Bound {
                option: "Sqlite::capacity",
                value: self.capacity,
                max,
            });
        }
        Ok(())
    }

    /// How many jobs the queue holds.
    pub(crate) const fn bound(&self) -> usize {
        self.capacity
    }
}
