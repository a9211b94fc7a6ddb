//! Jobs in a file of SQLite's.
//!
//! The machine in memory decides which job starts; what is here makes its jobs durable. One task
//! writes ([`writer`]), and commits what has gathered since its last commit at once.

mod arrivals;
mod backend;
mod changes;
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
#[cfg(test)]
mod tests;
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
/// The limits of the queue and of each key hold in windows that span the end of a process, too, also of one
/// that was killed. Starts are not written one by one. Who lets go of the queue leaves in the file what each
/// key has had of late; of the queue as a whole, and of each key of a process that was killed, the starts
/// count as the most that the limit can have let through, up to the last start, or up to now after a kill. So
/// after a restart a first job may have to wait for one slot and 50 ms; with a burst, or where the limit had
/// just been changed, for a period. The wall clock tells how long ago it was: set forward while no process
/// has the queue, less time has to pass.
///
/// Keys are found again by their [`Hash`](std::hash::Hash). Where that has changed, as by another version of
/// Rust, what keys have had is as unknown as after a kill. A closure that gives a key another rate than it
/// did to a process that was killed counts as if it always had.
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
