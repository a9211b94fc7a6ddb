//! The rows that were left out for another one with their key.

use crate::engine::Refusal;
use crate::report::{Tally, without_rows};
use crate::write::Failed;
use crate::{Duplicates, RowFailure};

/// Rows left out, in the order of the input: each counts once the rows before it are decided, so
/// that what is told after some chunks is about the rows of these alone.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Its position, and that of the row that counts; the last one first.
    rows: Vec<(usize, usize)>,
    /// They are bad rows.
    report: bool,
}

impl LeftOut {
    pub(crate) fn new(mut rows: Vec<(usize, usize)>, keep: Duplicates) -> Self {
        rows.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            rows,
            report: keep == Duplicates::Report,
        }
    }

    /// How many bad rows are still among them.
    pub(crate) fn refused(&self) -> usize {
        if self.report { self.rows.len() } else { 0 }
    }

    /// Each with the row that stands for it, in the order of the input.
    pub(crate) fn stand_ins(&self) -> Vec<(usize, usize)> {
        if self.report {
            return Vec::new();
        }
        self.rows.iter().rev().copied().collect()
    }

    pub(crate) fn into_failed(self) -> Vec<Failed> {
        let rows = self.rows.into_iter().rev().filter(|_| self.report);
        rows.map(|(row, of)| (row, Refusal::duplicate(of)))
            .collect()
    }

    /// Counts those before the position.
    pub(crate) fn settle(&mut self, position: usize, tally: &mut Tally) {
        while let Some((row, of)) = self.rows.pop_if(|(row, _)| *row < position) {
            if self.report {
                tally.failed.push((row, Refusal::duplicate(of)));
            } else {
                tally.deduplicated += 1;
            }
        }
        tally.refused_ahead = self.refused();
    }

    /// The bad rows of a chunk with those found before, and those that are still among these.
    pub(crate) fn and_others(
        self,
        tally: &Tally,
        failed: Vec<RowFailure<()>>,
    ) -> Vec<RowFailure<()>> {
        let before = tally.failed.iter().map(|(row, why)| (*row, why.retold()));
        let mut all = without_rows(before.chain(self.into_failed()).collect());
        all.extend(failed);
        all.sort_by_key(|failure| failure.index);
        all
    }
}
