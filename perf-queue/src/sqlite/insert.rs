use std::sync::LazyLock;

use sqlx::SqliteConnection;

use super::rows::{halves, millis};
use super::script::Script;
use crate::remote::NewJob;

/// A power of two. So many rows take 4,608 of the 32,766 parameters that a statement can have.
const MOST: usize = 512;

/// With more rows, a statement takes so long that a trip of its own does not matter, and one text of
/// it is enough.
const ALONE: usize = 64;

const COLUMNS: usize = 9;

/// Statements for 1, 2, 4 .. rows: a few shapes, each compiled once.
static SHAPES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let shape = |power| {
        let rows = vec!["(?,?,?,?,?,?,?,?,?)"; 1_usize << power];
        include_str!("sql/insert.sql").replace("(?)", &rows.join(","))
    };
    (0..=MOST.ilog2()).map(shape).collect()
});

/// A job with what is the same for all of its batch.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) queue: i64,
    pub(super) now: i64,
    pub(super) job: NewJob,
}

/// Adds jobs in their order, whose payloads are taken out of them; the last of them when the script is
/// run, whose last row is the last job's then. SQLite numbers the rows of a transaction without gaps.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    script: &mut Script,
    jobs: &mut [Insert],
) -> sqlx::Result<()> {
    for chunk in jobs.chunks_mut(MOST) {
        if !script.is_empty() && (chunk.len() > ALONE || script.is_ended()) {
            script.run(conn).await?;
        }
        let power = chunk.len().next_power_of_two().ilog2();
        if let Some(shape) = SHAPES.get(power as usize) {
            script.last_statement(shape);
        }
        script.reserve(chunk.len() * COLUMNS);
        for insert in chunk {
            bind(script, insert)?;
        }
    }
    Ok(())
}

fn bind(script: &mut Script, insert: &mut Insert) -> sqlx::Result<()> {
    let Insert { queue, now, job } = insert;
    let [high, low] = halves(job.id);
    let due = (!job.delay.is_zero()).then(|| now.saturating_add(millis(job.delay)));
    let trace = std::mem::take(&mut job.trace);
    script.bind(*queue)?;
    script.bind(high)?;
    script.bind(low)?;
    script.bind(i64::from(job.priority))?;
    script.bind(*now)?;
    script.bind(due)?;
    script.bind(due)?;
    script.bind(std::mem::take(&mut job.payload))?;
    script.bind((!trace.is_empty()).then_some(trace))
}
