use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::insert::Insert;
use super::rows::{halves, id_of, millis};
use crate::JobId;
use crate::remote::NewJob;

/// The unique names of a transaction's jobs.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashMap<String, JobId>,
    /// In JSON: name, id and until when.
    new: Vec<serde_json::Value>,
}

impl Names {
    /// Asks which of these jobs' names are taken at `now`. Within a transaction that has the file to
    /// itself.
    pub(super) async fn ask<'a>(
        conn: &mut SqliteConnection,
        queue: i64,
        now: i64,
        jobs: impl Iterator<Item = &'a NewJob>,
    ) -> sqlx::Result<Self> {
        let names = jobs.filter_map(|job| job.unique.as_ref().map(|(name, _)| name.as_str()));
        let names: Vec<&str> = names.collect();
        let mut found = Self::default();
        if names.is_empty() {
            return Ok(found);
        }
        let rows = sqlx::query(include_str!("sql/taken_names.sql"))
            .bind(queue)
            .bind(now)
            .bind(json(&names)?)
            .fetch_all(conn)
            .await?;
        for row in rows {
            let id = id_of(row.try_get(1)?, row.try_get(2)?);
            found.taken.insert(row.try_get(0)?, id);
        }
        Ok(found)
    }

    /// The job that has this job's name, if there is one; else this job has it from here on.
    pub(super) fn other(&mut self, insert: &Insert) -> Option<JobId> {
        let (name, time) = insert.job.unique.as_ref()?;
        if let Some(id) = self.taken.get(name) {
            return Some(*id);
        }
        let [high, low] = halves(insert.job.id);
        let until = insert.now.saturating_add(millis(*time));
        if until > insert.now {
            self.taken.insert(name.clone(), insert.job.id);
            self.new.push(serde_json::json!([name, high, low, until]));
        }
        None
    }

    /// Writes the names that are new.
    pub(super) async fn write(
        self,
        conn: &mut SqliteConnection,
        queue: i64,
        now: i64,
    ) -> sqlx::Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        forget_old(conn, now).await?;
        sqlx::query(include_str!("sql/take_names.sql"))
            .bind(queue)
            .bind(json(&self.new)?)
            .execute(conn)
            .await?;
        Ok(())
    }
}

pub(super) async fn forget_old(conn: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/forget_names.sql"))
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) fn json(value: &impl serde::Serialize) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}
