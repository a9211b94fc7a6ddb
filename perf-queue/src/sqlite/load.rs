use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::rows::{RowId, Stored, between, id_of, wall_clock};

/// Rows fetched at once, so that a large queue is not in memory twice.
const AT_ONCE: i64 = 4_096;

/// All jobs of a queue in the order in which they run.
pub(super) async fn all(
    conn: &mut SqliteConnection,
    queue: i64,
    suspect: bool,
) -> sqlx::Result<Vec<Stored>> {
    let mut places = Vec::new();
    let mut jobs = Vec::new();
    // The clock may have been set back between two jobs; their order is that of the enqueue.
    let mut latest = i64::MIN;
    let mut from = 1;
    loop {
        let rows = fetch(conn, queue, [from, i64::MAX], AT_ONCE).await?;
        for row in &rows {
            let job = Stored {
                suspect,
                ..stored(row)?
            };
            from = job.row.0 + 1;
            let enqueued: i64 = row.try_get_unchecked(ENQUEUED)?;
            let place = match row.try_get_unchecked(PLACE)? {
                Some(place) => place,
                None => {
                    latest = latest.max(enqueued);
                    latest
                }
            };
            places.push(place);
            jobs.push(job);
        }
        if (rows.len() as i64) < AT_ONCE {
            break;
        }
    }
    Ok(in_order(jobs, places))
}

/// The jobs of a range of rows, in order of enqueue.
pub(super) async fn range(
    conn: &mut SqliteConnection,
    queue: i64,
    range: [i64; 2],
    at_most: i64,
) -> sqlx::Result<Vec<Stored>> {
    let rows = fetch(conn, queue, range, at_most).await?;
    rows.iter().map(stored).collect()
}

async fn fetch(
    conn: &mut SqliteConnection,
    queue: i64,
    [from, to]: [i64; 2],
    at_most: i64,
) -> sqlx::Result<Vec<SqliteRow>> {
    sqlx::query(include_str!("sql/load.sql"))
        .bind(queue)
        .bind(from)
        .bind(to)
        .bind(at_most)
        .fetch_all(conn)
        .await
}

fn in_order(jobs: Vec<Stored>, places: Vec<i64>) -> Vec<Stored> {
    // A job that is put back in its place ran first of its key, whatever the others' priorities.
    let key = |job: &Stored, place| (!job.blocks, -i16::from(job.priority), place, job.row);
    let sorted = jobs
        .iter()
        .zip(&places)
        .map(|(job, place)| key(job, *place));
    if sorted.is_sorted() {
        return jobs;
    }
    let mut both: Vec<_> = jobs.into_iter().zip(places).collect();
    both.sort_unstable_by_key(|(job, place)| key(job, *place));
    both.into_iter().map(|(job, _)| job).collect()
}

// The columns of `load.sql`.
const ENQUEUED: usize = 5;
const PLACE: usize = 7;

/// Takes what somebody else has put there for what it is most likely meant to be: one such row must
/// not keep a queue from starting.
fn stored(row: &SqliteRow) -> sqlx::Result<Stored> {
    let now = wall_clock();
    let due: Option<i64> = row.try_get_unchecked(6)?;
    let place: Option<i64> = row.try_get_unchecked(PLACE)?;
    let attempt: i64 = row.try_get_unchecked(4)?;
    let priority: i64 = row.try_get_unchecked(3)?;
    let wait = between(now, due.unwrap_or(now));
    Ok(Stored {
        row: RowId(row.try_get_unchecked(0)?),
        id: id_of(row.try_get_unchecked(1)?, row.try_get_unchecked(2)?),
        payload: row.try_get_unchecked(8)?,
        trace: text(row, 9)?.unwrap_or_default(),
        attempt: u32::try_from(attempt.max(1)).unwrap_or(u32::MAX),
        priority: priority.clamp(i8::MIN.into(), i8::MAX.into()) as i8,
        errors: errors_of(text(row, 10)?),
        age: between(row.try_get_unchecked(ENQUEUED)?, now),
        due: wait,
        blocks: !wait.is_zero() && due != place,
        suspect: false,
    })
}

fn text(row: &SqliteRow, column: usize) -> sqlx::Result<Option<String>> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(column)?;
    Ok(bytes.map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }))
}

/// A history that is not ours to read is none.
pub(super) fn errors_of(text: Option<String>) -> Vec<String> {
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}
