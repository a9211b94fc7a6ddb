use sqlx::{Row, SqliteConnection};

use super::rows::{between, wall_clock};
use crate::remote::Rules;
use std::time::Duration;

/// What the file keeps of a queue beside its jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The limits that were set last. What is none, put there by somebody else, counts as none.
    pub(super) rules: Option<Rules>,
    pub(super) paused: bool,
    /// How long a penalty still stops the queue.
    pub(super) hold: Duration,
}

/// What is set while the queue runs.
#[derive(Debug, Clone)]
pub(super) enum Setting {
    Rules(Rules),
    Paused(bool),
}

pub(super) async fn load(conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<State> {
    let row = sqlx::query(include_str!("sql/load_state.sql"))
        .bind(queue)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else {
        return Ok(State::default());
    };
    let rules: Option<String> = row.try_get(0)?;
    Ok(State {
        rules: rules.and_then(|text| Rules::from_text(&text)),
        paused: row.try_get(1)?,
        hold: between(wall_clock(), row.try_get(2)?),
    })
}

pub(super) async fn save(
    conn: &mut SqliteConnection,
    queue: i64,
    setting: Setting,
) -> sqlx::Result<()> {
    let query = match setting {
        Setting::Rules(rules) => sqlx::query(include_str!("sql/set_rules.sql"))
            .bind(queue)
            .bind(rules.to_text()),
        Setting::Paused(paused) => sqlx::query(include_str!("sql/set_paused.sql"))
            .bind(queue)
            .bind(paused),
    };
    query.execute(conn).await?;
    Ok(())
}
