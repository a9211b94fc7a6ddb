//! Jobs that may have killed the process before.

use std::collections::HashMap;

use super::RowId;

/// Those that have not started since, and whether the file has them marked as started.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<RowId, bool>);

/// A job that is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is none of them.
    No,
    Suspect,
    /// A suspect that is marked.
    Marked,
}

impl Suspects {
    pub(super) fn add(&mut self, rows: &[RowId]) {
        self.0.extend(rows.iter().map(|row| (*row, false)));
    }

    /// The job starts, and is no suspect from then on.
    pub(super) fn granted(&mut self, row: RowId) -> Known {
        if self.0.is_empty() {
            return Known::No;
        }
        match self.0.remove(&row) {
            None => Known::No,
            Some(false) => Known::Suspect,
            Some(true) => Known::Marked,
        }
    }

    /// The job is being marked.
    pub(super) fn marking(&mut self, row: RowId) {
        if let Some(marked) = self.0.get_mut(&row) {
            *marked = true;
        }
    }

    /// Those that were marked to start, and have not: they are not marked any more.
    pub(super) fn take_marked(&mut self) -> Vec<RowId> {
        let marked = self.0.iter_mut().filter(|(_, marked)| **marked);
        let taken = marked.map(|(row, marked)| {
            *marked = false;
            *row
        });
        taken.collect()
    }
}
