use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite, SqliteConnection};

use super::rows::{between, wall_clock};
use crate::remote::Rules;
use std::time::Duration;

/// What the file keeps of a queue beside its jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The limits that are in force. What is none, put there by somebody else, counts as none.
    pub(super) rules: Rules,
    /// Those of the last builder that had any.
    pub(super) built: Rules,
    pub(super) paused: bool,
    /// How long a penalty still stops the queue.
    pub(super) hold: Duration,
    /// None where nobody had the queue before.
    pub(super) past: Option<Past>,
}

/// What is known of the jobs that were started by who had the queue before.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// None for this long.
    pub(super) quiet: Duration,
    /// For this long, all by the limits that are in force now. Unknown where they were being changed.
    pub(super) unchanged: Option<Duration>,
    /// As [`Starts::keys`].
    pub(super) keys: Option<Vec<u8>>,
}

/// What is told of the jobs that were started, by who lets go of the queue.
#[derive(Debug)]
pub(super) struct Starts {
    /// When the last one was, by the wall clock; zero if none ever was.
    pub(super) at: i64,
    /// Those of single keys, where they are known.
    pub(super) keys: Option<Vec<u8>>,
}

/// What is set while the queue runs.
#[derive(Debug, Clone)]
pub(super) enum Setting {
    Rules(Rules),
    /// The limits of a builder, and those that are in force with it.
    Built {
        rules: Rules,
        built: Rules,
    },
    Paused(bool),
    /// The limits are about to be others.
    Changing,
    /// Those of the file are in force.
    Changed,
}

pub(super) async fn load(
    conn: &mut SqliteConnection,
    queue: i64,
    clean: bool,
) -> sqlx::Result<State> {
    let row = sqlx::query(include_str!("sql/load_state.sql"))
        .bind(queue)
        .fetch_one(conn)
        .await?;
    let rules = |text: Option<String>| {
        let rules = text.and_then(|text| Rules::from_text(&text));
        rules.unwrap_or_default()
    };
    let now = wall_clock();
    let ago = |time: i64| between(time, now);
    let closed: Option<i64> = row.try_get(5)?;
    let past = Past {
        // Both times are rounded down.
        quiet: closed
            .filter(|_| clean)
            .map_or(Duration::ZERO, ago)
            .saturating_sub(Duration::from_millis(1)),
        unchanged: row.try_get::<Option<i64>, _>(6)?.map(ago),
        keys: row.try_get::<Option<Vec<u8>>, _>(7)?.filter(|_| clean),
    };
    Ok(State {
        past: row.try_get::<bool, _>(4)?.then_some(past),
        rules: rules(row.try_get(0)?),
        built: rules(row.try_get(3)?),
        paused: row.try_get::<Option<bool>, _>(1)?.unwrap_or(false),
        hold: between(now, row.try_get::<Option<i64>, _>(2)?.unwrap_or(0)),
    })
}

/// The queue is taken.
pub(super) async fn set_taken(conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<()> {
    set_clean(queue, false).execute(&mut *conn).await?;
    sqlx::query(include_str!("sql/set_opened.sql"))
        .bind(queue)
        .bind(wall_clock())
        .execute(&mut *conn)
        .await?;
    sqlx::query(include_str!("sql/forget_keys.sql"))
        .bind(queue)
        .execute(conn)
        .await?;
    Ok(())
}

/// The queue is let go of.
pub(super) async fn set_free(
    conn: &mut SqliteConnection,
    queue: i64,
    starts: Starts,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/set_closed.sql"))
        .bind(queue)
        .bind(starts.at)
        .execute(&mut *conn)
        .await?;
    if let Some(keys) = starts.keys {
        sqlx::query(include_str!("sql/set_keys.sql"))
            .bind(queue)
            .bind(keys)
            .execute(&mut *conn)
            .await?;
    }
    // Who ends before this has not let go of it.
    set_clean(queue, true).execute(conn).await?;
    Ok(())
}

fn set_clean(queue: i64, clean: bool) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(include_str!("sql/set_clean.sql"))
        .bind(queue)
        .bind(clean)
}

pub(super) async fn save(
    conn: &mut SqliteConnection,
    queue: i64,
    setting: Setting,
) -> sqlx::Result<()> {
    let query = match setting {
        Setting::Rules(rules) => {
            set_changed(queue, None).execute(&mut *conn).await?;
            set_rules(queue, rules)
        }
        Setting::Changing => set_changed(queue, None),
        Setting::Changed => set_changed(queue, Some(wall_clock())),
        Setting::Built { rules, built } => {
            set_rules(queue, rules).execute(&mut *conn).await?;
            sqlx::query(include_str!("sql/set_built.sql"))
                .bind(queue)
                .bind(built.to_text())
        }
        Setting::Paused(paused) => sqlx::query(include_str!("sql/set_paused.sql"))
            .bind(queue)
            .bind(paused),
    };
    query.execute(conn).await?;
    Ok(())
}

fn set_changed(queue: i64, at: Option<i64>) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(include_str!("sql/set_changed.sql"))
        .bind(queue)
        .bind(at)
}

fn set_rules(queue: i64, rules: Rules) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(include_str!("sql/set_rules.sql"))
        .bind(queue)
        .bind(rules.to_text())
}
