use perf_batch::BulkRow;

pub(crate) const TABLE: &str = "CREATE TABLE answers (
    user_id bigint NOT NULL,
    question_id bigint NOT NULL,
    points bigint NOT NULL,
    answer text NOT NULL,
    answered_at bigint NOT NULL,
    PRIMARY KEY (user_id, question_id)
)";

/// Columns of an [`Answer`].
pub const COLUMNS: usize = 5;

/// A row of the table `answers`: five columns, two of them its primary key.
#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "answers")]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct Answer {
    #[bulk(key)]
    pub user_id: i64,
    #[bulk(key)]
    pub question_id: i64,
    pub points: i64,
    pub answer: String,
    pub answered_at: i64,
}

impl Answer {
    /// The `i`th answer; each has a key of its own, in order.
    pub fn new(i: i64) -> Self {
        Self {
            user_id: i / 1_000,
            question_id: i % 1_000,
            points: i % 7,
            answer: format!("the answer to question {i}"),
            answered_at: 1_700_000_000 + i,
        }
    }
}

/// Binds a row's values, in the order of the columns.
macro_rules! bind {
    ($query:expr, $row:expr) => {{
        let row = $row;
        $query
            .bind(row.user_id)
            .bind(row.question_id)
            .bind(row.points)
            .bind(row.answer)
            .bind(row.answered_at)
    }};
}

/// sqlx's `QueryBuilder` of an INSERT with the rows.
macro_rules! push_values {
    ($rows:expr) => {{
        let mut query = sqlx::QueryBuilder::new("INSERT INTO answers ");
        query.push_values($rows, |mut values, row: Answer| {
            values
                .push_bind(row.user_id)
                .push_bind(row.question_id)
                .push_bind(row.points)
                .push_bind(row.answer)
                .push_bind(row.answered_at);
        });
        query
    }};
}

pub(crate) use {bind, push_values};
