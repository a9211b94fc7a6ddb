use std::fmt;
use std::time::Duration;

use crate::write::Failed;

/// What became of a batch. `written + ignored + deduplicated + failed.len()` is `given`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport<R> {
    /// Rows in the input.
    pub given: u64,
    /// Rows inserted or updated.
    pub written: u64,
    /// Rows that the database took without writing them: their key was there already
    /// ([`OnConflict::DoNothing`](crate::OnConflict::DoNothing)), or a trigger left them out.
    pub ignored: u64,
    /// Rows left out because a later row of the batch has the same key
    /// ([`OnConflict::Update`](crate::OnConflict::Update)).
    pub deduplicated: u64,
    /// Rows that were refused, in the order of the input.
    pub failed: Vec<RowFailure<R>>,
    /// Requests sent to the database, with BEGIN, COMMIT and savepoints; 0 for an empty batch.
    pub statements: u64,
    /// How the rows went in.
    pub path: Path,
    /// Time from the call to the commit's answer, the wait for a connection included.
    pub duration: Duration,
}

impl<R> BatchReport<R> {
    pub(crate) fn new(given: usize) -> Self {
        Self {
            given: given as u64,
            written: 0,
            ignored: 0,
            deduplicated: 0,
            failed: Vec::new(),
            statements: 0,
            path: Path::Empty,
            duration: Duration::ZERO,
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
                self.failed.push(RowFailure {
                    index,
                    row,
                    code: refusal.code,
                    constraint: refusal.constraint,
                    message: refusal.message,
                });
            }
        }
    }
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

/// The way rows went into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Nothing to write, nothing sent.
    Empty,
    /// `INSERT .. VALUES (..), (..)` of many rows.
    Values,
    /// `INSERT .. SELECT .. FROM unnest(..)`, one array a column; Postgres.
    Unnest,
}

impl Path {
    /// The name in lower case: `empty`, `values`, `unnest`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Values => "values",
            Self::Unnest => "unnest",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
