use sqlx::Row;
use sqlx::postgres::PgRow;

use super::rules::{Columns, duration, micros, micros_up};
use crate::remote::{Counts, Ended, Exchange, Granted, How, Lease, Letter, NewJob};
use crate::{JobId, Scope};

/// Jobs to add, as columns.
pub(super) struct Added<'a> {
    pub(super) ids: Vec<Vec<u8>>,
    /// These are `None` where no job has any.
    pub(super) keys: Option<Vec<&'a [u8]>>,
    pub(super) payloads: Vec<&'a [u8]>,
    pub(super) delays: Option<Vec<i64>>,
    pub(super) ranks: Option<Vec<i16>>,
    pub(super) names: Option<Vec<Option<&'a [u8]>>>,
    pub(super) spans: Option<Vec<i64>>,
    pub(super) traces: Option<Vec<String>>,
    /// The limits of the keys.
    pub(super) quotas: Option<Vec<Option<i32>>>,
    pub(super) periods: Option<Vec<Option<i64>>>,
    pub(super) bursts: Option<Vec<Option<i32>>>,
}

impl<'a> Added<'a> {
    pub(super) fn of(jobs: &'a [NewJob]) -> Self {
        let rated = jobs.iter().any(|job| job.rate.is_some());
        let rate = |job: &NewJob| Columns::of(job.rate.as_ref());
        let named = jobs.iter().any(|job| job.unique.is_some());
        let name = |job: &'a NewJob| job.unique.as_ref().map(|(name, _)| name.as_bytes());
        let keyed = jobs.iter().any(|job| !job.key.is_empty());
        let delayed = jobs.iter().any(|job| !job.delay.is_zero());
        let ranked = jobs.iter().any(|job| job.priority != 0);
        let traced = jobs.iter().any(|job| !job.trace.is_empty());
        let span = |job: &NewJob| job.unique.as_ref().map_or(0, |(_, span)| micros_up(*span));
        Self {
            ids: jobs.iter().map(|job| job.id.to_bytes().to_vec()).collect(),
            keys: keyed.then(|| jobs.iter().map(|job| &*job.key).collect()),
            payloads: jobs.iter().map(|job| &*job.payload).collect(),
            delays: delayed.then(|| jobs.iter().map(|job| micros_up(job.delay)).collect()),
            ranks: ranked.then(|| jobs.iter().map(|job| -i16::from(job.priority)).collect()),
            names: named.then(|| jobs.iter().map(name).collect()),
            spans: named.then(|| jobs.iter().map(span).collect()),
            traces: traced.then(|| jobs.iter().map(|job| text(&job.trace)).collect()),
            quotas: rated.then(|| jobs.iter().map(|job| rate(job).quota).collect()),
            periods: rated.then(|| jobs.iter().map(|job| rate(job).period).collect()),
            bursts: rated.then(|| jobs.iter().map(|job| rate(job).burst).collect()),
        }
    }
}

/// Jobs that a process has done with, as columns. In the order of their ids, so that two calls
/// about the same jobs wait for each other in one direction only.
#[derive(Default)]
pub(super) struct Over {
    pub(super) ids: Vec<Vec<u8>>,
    pub(super) tokens: Vec<i64>,
    pub(super) hows: Vec<i16>,
    pub(super) afters: Vec<i64>,
    pub(super) scopes: Vec<i16>,
    pub(super) messages: Vec<Option<String>>,
}

impl Over {
    pub(super) fn of(ended: &[Ended]) -> Self {
        let mut sorted: Vec<&Ended> = ended.iter().collect();
        sorted.sort_by_key(|ended| ended.lease.id);
        let mut all = Self::default();
        for Ended { lease, how } in sorted {
            let (code, after, scope, message) = match how {
                How::Done => (0, 0, 0, None),
                How::Retry { after, error } => (1, micros_up(*after), 0, Some(text(error))),
                How::Snooze { after, penalty } => {
                    let scope = match penalty {
                        None => 0,
                        Some(Scope::Key) => 1,
                        Some(Scope::Queue) => 2,
                    };
                    (2, micros_up(*after), scope, None)
                }
                How::Dead { error } => (3, 0, 0, Some(text(error))),
                How::Released => (4, 0, 0, None),
            };
            all.ids.push(lease.id.to_bytes().to_vec());
            all.tokens.push(lease.token.cast_signed());
            all.hows.push(code);
            all.afters.push(after);
            all.scopes.push(scope);
            all.messages.push(message);
        }
        all
    }
}

/// Leases as columns.
pub(super) fn leases(leases: &[Lease]) -> (Vec<Vec<u8>>, Vec<i64>) {
    leases
        .iter()
        .map(|lease| (lease.id.to_bytes().to_vec(), lease.token.cast_signed()))
        .unzip()
}

/// Postgres keeps no NUL in text.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(super) fn job_id(bytes: &[u8]) -> Result<JobId, sqlx::Error> {
    JobId::from_bytes(bytes).ok_or_else(|| sqlx::Error::Decode("an id is not 16 bytes".into()))
}

pub(super) fn job_ids(ids: &[Vec<u8>]) -> Result<Vec<JobId>, sqlx::Error> {
    ids.iter().map(|id| job_id(id)).collect()
}

/// Reads a list of errors, which is null or JSON.
pub(super) fn errors(text: Option<&str>) -> Result<Vec<String>, sqlx::Error> {
    match text {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text).map_err(|e| sqlx::Error::Decode(e.into())),
    }
}

/// Reads the answer to an exchange: one row of arrays of the same length.
pub(super) fn exchange(row: &PgRow) -> Result<Exchange, sqlx::Error> {
    let lost: Vec<Vec<u8>> = row.try_get("lost")?;
    let next: Option<i64> = row.try_get("next")?;
    let limited: Vec<i64> = row.try_get("limited")?;
    let count = |i: usize| limited.get(i).map_or(0, |n| n.cast_unsigned());
    Ok(Exchange {
        granted: granted(row)?,
        lost: job_ids(&lost)?,
        next: next.map(duration),
        limited: [count(0), count(1)],
        paused: row.try_get("paused")?,
        untold: false,
    })
}

fn granted(row: &PgRow) -> Result<Vec<Granted>, sqlx::Error> {
    let Some(ids) = row.try_get::<Option<Vec<Vec<u8>>>, _>("ids")? else {
        return Ok(Vec::new());
    };
    let token = row.try_get::<i64, _>("token")?.cast_unsigned();
    let keys: Option<Vec<Vec<u8>>> = row.try_get("keys")?;
    let mut keys = keys
        .unwrap_or_else(|| vec![Vec::new(); ids.len()])
        .into_iter();
    let mut payloads = row.try_get::<Vec<Vec<u8>>, _>("payloads")?.into_iter();
    let mut traces = row.try_get::<Vec<String>, _>("traces")?.into_iter();
    let mut attempts = row.try_get::<Vec<i32>, _>("attempts")?.into_iter();
    let mut errs = row.try_get::<Vec<Option<String>>, _>("errors")?.into_iter();
    let starts: Option<Vec<i64>> = row.try_get("starts")?;
    let mut starts = starts.unwrap_or_else(|| vec![0; ids.len()]).into_iter();
    let mut slotted = row.try_get::<Vec<bool>, _>("slotted")?.into_iter();
    let mut ages = row.try_get::<Vec<i64>, _>("ages")?.into_iter();
    let mut waits = row.try_get::<Vec<i64>, _>("waits")?.into_iter();
    let mut all = Vec::with_capacity(ids.len());
    for id in &ids {
        let columns = (|| {
            Some((
                (attempts.next()?, errs.next()?),
                (keys.next()?, payloads.next()?, traces.next()?),
                (starts.next()?, slotted.next()?),
                (ages.next()?, waits.next()?),
            ))
        })();
        let Some((tries, content, slot, times)) = columns else {
            return Err(sqlx::Error::Decode("the columns differ in length".into()));
        };
        let (attempt, errs) = tries;
        let (key, payload, trace) = content;
        all.push(Granted {
            lease: Lease {
                id: job_id(id)?,
                token,
            },
            key,
            payload,
            trace,
            attempt: u32::try_from(attempt).unwrap_or(1),
            errors: errors(errs.as_deref())?,
            starts: duration(slot.0),
            limited: slot.1,
            age: duration(times.0),
            waited: duration(times.1),
        });
    }
    Ok(all)
}

/// The arguments of a want.
pub(super) fn want(want: &crate::remote::Want) -> (i32, i64, i64) {
    (
        i32::try_from(want.jobs).unwrap_or(i32::MAX).min(MAX_WANT),
        micros(want.within),
        micros_up(want.lease),
    )
}

/// More in one answer helps nobody, and the claims of others would have to wait for it.
const MAX_WANT: i32 = 1_000;

pub(super) fn counts(row: &PgRow) -> Result<Counts, sqlx::Error> {
    let count = |name: &str| {
        row.try_get::<i64, _>(name)
            .map(|n| u64::try_from(n).unwrap_or(0))
    };
    Ok(Counts {
        ready: count("ready")?,
        scheduled: count("scheduled")?,
        limited: count("limited")?,
        in_flight: count("in_flight")?,
        dead: count("dead")?,
        dropped: count("dropped")?,
        oldest: row.try_get::<Option<i64>, _>("oldest")?.map(duration),
        paused: row.try_get("paused")?,
    })
}

pub(super) fn letter(row: &PgRow) -> Result<Letter, sqlx::Error> {
    Ok(Letter {
        id: job_id(&row.try_get::<Vec<u8>, _>("id")?)?,
        key: row.try_get("key")?,
        payload: row.try_get("payload")?,
        attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(1),
        errors: errors(row.try_get::<Option<&str>, _>("errors")?)?,
        age: duration(row.try_get("age")?),
    })
}
