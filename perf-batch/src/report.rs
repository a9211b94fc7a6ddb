use std::fmt;
use std::time::{Duration, Instant};

use crate::engine::Refusal;
use crate::write::Failed;

/// What became of a batch. `written + ignored + deduplicated + failed.len()` is `given`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport<R> {
    /// Rows in the input.
    pub given: u64,
    /// Rows inserted, updated or deleted.
    pub written: u64,
    /// Rows that the database took without writing them: their key was there already
    /// ([`OnConflict::DoNothing`](crate::OnConflict::DoNothing)), it was not there (an update or a
    /// delete), or a trigger left them out.
    pub ignored: u64,
    /// Rows left out because another row of the batch has the same key
    /// ([`Duplicates`](crate::Duplicates)).
    pub deduplicated: u64,
    /// Rows that were refused, in the order of the input.
    pub failed: Vec<RowFailure<R>>,
    /// Requests sent to the database, with BEGIN, COMMIT and savepoints; 0 for an empty batch.
    pub statements: u64,
    /// How often a transaction was tried again ([`Retry`](crate::Retry)).
    pub retries: u64,
    /// How the rows went in.
    pub path: Path,
    /// Time from the call to the commit's answer, the wait for a connection included.
    pub duration: Duration,
}

impl<R> BatchReport<R> {
    /// What a tally comes to, without its refused rows.
    pub(crate) fn new(given: usize, tally: &Tally, started: Instant) -> Self {
        Self {
            given: given as u64,
            written: tally.written,
            ignored: tally.ignored,
            deduplicated: tally.deduplicated,
            failed: Vec::new(),
            statements: tally.statements,
            retries: tally.retries,
            path: tally.path,
            duration: started.elapsed(),
        }
    }

    /// The same report with its rows as something else.
    pub(crate) fn map<T>(self, mut f: impl FnMut(R) -> T) -> BatchReport<T> {
        let failed = self.failed.into_iter().map(|failure| RowFailure {
            index: failure.index,
            row: f(failure.row),
            code: failure.code,
            constraint: failure.constraint,
            message: failure.message,
        });
        BatchReport {
            given: self.given,
            written: self.written,
            ignored: self.ignored,
            deduplicated: self.deduplicated,
            failed: failed.collect(),
            statements: self.statements,
            retries: self.retries,
            path: self.path,
            duration: self.duration,
        }
    }

    /// Takes the refused rows out of the input.
    pub(crate) fn fail(&mut self, rows: Vec<R>, mut failed: Vec<Failed>) {
        if failed.is_empty() {
            return;
        }
        // A row that cannot be encoded is found before the rows in front of it are tried.
        failed.sort_by_key(|(index, _)| *index);
        let mut failed = failed.into_iter().peekable();
        for (index, row) in rows.into_iter().enumerate() {
            if let Some((_, refusal)) = failed.next_if(|(at, _)| *at == index) {
                self.failed.push(RowFailure::new(index, row, refusal));
            }
        }
    }
}

/// What is known of a batch while it is written.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) written: u64,
    pub(crate) ignored: u64,
    pub(crate) deduplicated: u64,
    pub(crate) failed: Vec<Failed>,
    pub(crate) statements: u64,
    pub(crate) retries: u64,
    pub(crate) path: Path,
    /// Transactions committed.
    pub(crate) commits: u64,
    /// Rows that are known to be refused, and come later in the input than what is decided.
    pub(crate) refused_ahead: usize,
}

impl Tally {
    /// Rows that are in one of the counts.
    pub(crate) fn decided(&self) -> u64 {
        self.written + self.ignored + self.deduplicated + self.failed.len() as u64
    }

    /// What was committed, for an error; without the rows themselves.
    pub(crate) fn into_report(mut self, given: usize, started: Instant) -> BatchReport<()> {
        let mut report = BatchReport::new(given, &self, started);
        report.failed = without_rows(std::mem::take(&mut self.failed));
        report
    }
}

/// The refused rows by position alone, in the order of the input.
pub(crate) fn without_rows(mut failed: Vec<Failed>) -> Vec<RowFailure<()>> {
    failed.sort_by_key(|(index, _)| *index);
    let failed = failed.into_iter();
    failed
        .map(|(index, refusal)| RowFailure::new(index, (), refusal))
        .collect()
}

/// A row that the database or its own encoding refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowFailure<R> {
    /// Its position in the input, from 0.
    pub index: usize,
    /// The row itself.
    pub row: R,
    /// Postgres' SQLSTATE (`23505`) or SQLite's extended result code (`1555`); `None` for a row
    /// that could not be encoded.
    pub code: Option<String>,
    /// The constraint: its name on Postgres; on SQLite what the message names, the columns
    /// (`answers.user_id, answers.question_id`) or the CHECK's name. `None` where the database
    /// does not say.
    pub constraint: Option<String>,
    /// The database's message, or the encoding's error.
    pub message: String,
}

impl<R> RowFailure<R> {
    pub(crate) fn new(index: usize, row: R, refusal: Refusal) -> Self {
        Self {
            index,
            row,
            code: refusal.code,
            constraint: refusal.constraint,
            message: refusal.message,
        }
    }
}

/// The way rows went into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Path {
    /// Nothing to write, nothing sent.
    #[default]
    Empty,
    /// `INSERT .. VALUES (..), (..)` of many rows.
    Values,
    /// `INSERT .. SELECT .. FROM unnest(..)`, one array a column; Postgres.
    Unnest,
    /// `COPY .. FROM STDIN (FORMAT binary)`; Postgres, from a pool.
    Copy,
}

impl Path {
    /// The name in lower case: `empty`, `values`, `unnest`, `copy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Values => "values",
            Self::Unnest => "unnest",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
