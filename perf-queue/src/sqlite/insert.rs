use std::sync::{Arc, LazyLock};

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use super::rows::{halves, millis};
use crate::remote::NewJob;

/// A power of two. So many rows take 4,608 of the 32,766 parameters that a statement can have.
const MOST: usize = 512;

const COLUMNS: usize = 9;

/// Statements for 1, 2, 4 .. rows: a few shapes, each compiled once.
static SHAPES: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    (0..=MOST.ilog2())
        .map(|power| {
            let mut sql = include_str!("sql/insert.sql").to_owned();
            for row in 0..1 << power {
                sql.push_str(if row == 0 { "" } else { "," });
                sql.push_str("(?,?,?,?,?,?,?,?,?)");
            }
            sql.into()
        })
        .collect()
});

/// A job with what is the same for all of its batch.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) queue: i64,
    pub(super) now: i64,
    pub(super) job: NewJob,
}

/// Adds jobs in their order, whose payloads are taken out of them. Returns the number of the last
/// row: SQLite numbers the rows of a transaction without gaps.
pub(super) async fn insert(conn: &mut SqliteConnection, jobs: &mut [Insert]) -> sqlx::Result<i64> {
    let mut last = 0;
    let mut rest = jobs;
    while !rest.is_empty() {
        let power = rest.len().min(MOST).ilog2();
        let Some((chunk, more)) = rest.split_at_mut_checked(1 << power) else {
            break;
        };
        last = insert_chunk(conn, chunk, power).await?;
        rest = more;
    }
    Ok(last)
}

async fn insert_chunk(
    conn: &mut SqliteConnection,
    jobs: &mut [Insert],
    power: u32,
) -> sqlx::Result<i64> {
    let mut values = SqliteArguments::default();
    values.reserve(jobs.len() * COLUMNS, 0);
    for insert in jobs {
        add(&mut values, insert).map_err(sqlx::Error::Encode)?;
    }
    let shape = SHAPES.get(power as usize).map(Arc::clone);
    let sql = AssertSqlSafe(shape.unwrap_or_default());
    let result = sqlx::query_with(sql, values).execute(conn).await?;
    Ok(result.last_insert_rowid())
}

fn add(values: &mut SqliteArguments, insert: &mut Insert) -> Result<(), sqlx::error::BoxDynError> {
    let Insert { queue, now, job } = insert;
    let [high, low] = halves(job.id);
    let due = (!job.delay.is_zero()).then(|| now.saturating_add(millis(job.delay)));
    let trace = std::mem::take(&mut job.trace);
    values.add(*queue)?;
    values.add(high)?;
    values.add(low)?;
    values.add(i64::from(job.priority))?;
    values.add(*now)?;
    values.add(due)?;
    values.add(due)?;
    values.add(std::mem::take(&mut job.payload))?;
    values.add((!trace.is_empty()).then_some(trace))
}
