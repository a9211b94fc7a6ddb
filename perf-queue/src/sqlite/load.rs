use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::rows::{RowId, Stored, between, id_of, wall_clock};

/// Rows fetched at once, so that a large queue is not in memory twice.
const AT_ONCE: i64 = 4_096;

/// All jobs of a queue in the order in which they run.
pub(super) async fn all(conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<Vec<Stored>> {
    let mut places = Vec::new();
    let mut jobs = Vec::new();
    // The clock may have been set back between two jobs; their order is that of the enqueue.
    let mut latest = i64::MIN;
    let mut from = 1;
    loop {
        let rows = fetch(conn, queue, [from, i64::MAX], AT_ONCE).await?;
        for row in &rows {
            let job = stored(row)?;
            from = job.row.0 + 1;
            let enqueued: i64 = row.try_get(ENQUEUED)?;
            let place = match row.try_get(PLACE)? {
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

fn stored(row: &SqliteRow) -> sqlx::Result<Stored> {
    let now = wall_clock();
    let due: Option<i64> = row.try_get(6)?;
    let place: Option<i64> = row.try_get(PLACE)?;
    let wait = between(now, due.unwrap_or(now));
    let errors: Option<String> = row.try_get(10)?;
    Ok(Stored {
        row: RowId(row.try_get(0)?),
        id: id_of(row.try_get(1)?, row.try_get(2)?),
        payload: row.try_get(8)?,
        trace: row.try_get::<Option<String>, _>(9)?.unwrap_or_default(),
        attempt: row.try_get(4)?,
        priority: row.try_get(3)?,
        errors: errors_of(errors),
        age: between(row.try_get(ENQUEUED)?, now),
        due: wait,
        blocks: !wait.is_zero() && due != place,
    })
}

/// A history that is not ours to read is none.
pub(super) fn errors_of(text: Option<String>) -> Vec<String> {
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}
