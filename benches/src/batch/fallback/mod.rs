//! 1,000 rows of which some are bad: all others are saved, and each bad one is named.
//!
//! The bad rows are spread evenly and break, by turns, the primary key (the key of the row before),
//! a NOT NULL and a CHECK. `ours` is `OnRowError::Skip`; `clean` is the same call on rows of which
//! none is bad, so ours / clean is 1 / its ratio; `row_by_row` commits each row by itself and
//! collects the errors; `savepoints` has a savepoint for each row in one transaction.

mod postgres;
mod sqlite;

use perf_batch::{BulkInsert, BulkRow, OnRowError};

pub(super) use postgres::groups as postgres;
pub(super) use sqlite::groups as sqlite;

use super::Failure;

const TABLE: &str = "CREATE TABLE submissions (
    user_id bigint NOT NULL,
    question_id bigint NOT NULL,
    points bigint NOT NULL CHECK (points >= 0),
    answer text NOT NULL,
    answered_at bigint NOT NULL,
    PRIMARY KEY (user_id, question_id)
)";
const ROWS: usize = 1_000;
const BAD: [usize; 4] = [0, 1, 10, 100];

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "submissions")]
struct Submission {
    #[bulk(key)]
    user_id: i64,
    #[bulk(key)]
    question_id: i64,
    points: i64,
    answer: Option<String>,
    answered_at: i64,
}

impl Submission {
    fn new(i: i64) -> Self {
        Self {
            user_id: i / 1_000,
            question_id: i % 1_000,
            points: i % 7,
            answer: Some(format!("the answer to question {i}")),
            answered_at: 1_700_000_000 + i,
        }
    }
}

/// Makes so many of the rows bad.
fn spoil(rows: &mut [Submission], bad: usize) {
    let len = rows.len();
    for n in 0..bad {
        let at = (2 * n + 1) * len / (2 * bad);
        match (n % 3, at.checked_sub(1)) {
            (0, Some(before)) => {
                rows[at].user_id = rows[before].user_id;
                rows[at].question_id = rows[before].question_id;
            }
            (1, _) => rows[at].answer = None,
            _ => rows[at].points = -1,
        }
    }
}

fn skipping() -> BulkInsert<Submission> {
    BulkInsert::new().on_row_error(OnRowError::Skip)
}

/// The row's fault, to collect; anything else ends the run.
fn fault(error: sqlx::Error) -> Result<String, Failure> {
    match error {
        sqlx::Error::Database(error) => Ok(error.to_string()),
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_rows_are_spoilt_as_wanted_and_spread() {
        for bad in BAD {
            let good: Vec<Submission> = (0..1_000).map(Submission::new).collect();
            let mut rows = good.clone();
            spoil(&mut rows, bad);
            let spoilt = |(good, row): (&Submission, &Submission)| {
                good.question_id != row.question_id || row.answer.is_none() || row.points < 0
            };
            let at = good.iter().zip(&rows).enumerate();
            let at: Vec<usize> = at
                .filter(|(_, pair)| spoilt(*pair))
                .map(|(i, _)| i)
                .collect();
            assert_eq!(at.len(), bad);
            assert!(at.windows(2).all(|two| two[1] - two[0] == 1_000 / bad));
        }
    }
}
