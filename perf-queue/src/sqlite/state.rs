use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite, SqliteConnection};

use super::clock::{self, Moment};
use super::rows::between;
use super::transaction;
use crate::remote::Rules;

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
    /// Keys may have had limits of their own.
    pub(super) own: bool,
    /// As [`Starts::keys`].
    pub(super) keys: Option<Vec<u8>>,
}

/// What is told of the jobs that were started.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    /// When the last one was.
    at: Moment,
    /// Those of single keys, where they are known.
    keys: Option<Vec<u8>>,
}

impl Starts {
    pub(super) fn new(last: Option<Duration>, keys: Option<Vec<u8>>) -> Self {
        let at = last.map_or(Moment::never(), |ago| Moment::now().before(ago));
        Self { at, keys }
    }
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
    /// Jobs are about to start, of keys that may have limits of their own or not.
    Starting {
        own: bool,
    },
    /// These are all that were started, and none of them runs, or some may.
    Quiet {
        starts: Starts,
        idle: bool,
    },
}

pub(super) async fn load(conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<State> {
    let now = Moment::now();
    let row = sqlx::query(include_str!("sql/load_state.sql"))
        .bind(queue)
        .bind(now.wall)
        .fetch_one(&mut *conn)
        .await?;
    let rules = |text: Option<String>| {
        let rules = text.and_then(|text| Rules::from_text(&text));
        rules.unwrap_or_default()
    };
    let [mut quiet, mut unchanged] = [None; 2];
    for (column, ago) in [(5, &mut quiet), (6, &mut unchanged)] {
        if let Some(wall) = row.try_get(column)? {
            *ago = Some(now.since(&clock::load(conn, queue, wall).await?));
        }
    }
    let past = Past {
        quiet: quiet.unwrap_or_default(),
        unchanged,
        own: row.try_get::<Option<bool>, _>(7)?.unwrap_or(false),
        keys: row.try_get(8)?,
    };
    Ok(State {
        past: row.try_get::<bool, _>(4)?.then_some(past),
        rules: rules(row.try_get(0)?),
        built: rules(row.try_get(3)?),
        paused: row.try_get::<Option<bool>, _>(1)?.unwrap_or(false),
        // No longer than it was to be, wherever the clock was set to.
        hold: between(0, row.try_get::<Option<i64>, _>(2)?.unwrap_or(0)),
    })
}

/// The queue is taken.
pub(super) async fn set_taken(conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<()> {
    set_clean(queue, false).execute(&mut *conn).await?;
    let now = Moment::now();
    now.save(conn, queue).await?;
    sqlx::query(include_str!("sql/set_opened.sql"))
        .bind(queue)
        .bind(now.wall)
        .execute(conn)
        .await?;
    Ok(())
}

/// The queue is let go of, or could be now. Without `starts`, the file has them.
pub(super) async fn set_free(
    conn: &mut SqliteConnection,
    queue: i64,
    starts: Option<Starts>,
    clean: bool,
) -> sqlx::Result<()> {
    if let Some(Starts { at, keys }) = starts {
        at.save(conn, queue).await?;
        let keys = match keys {
            Some(keys) => sqlx::query(include_str!("sql/set_keys.sql"))
                .bind(queue)
                .bind(at.wall)
                .bind(keys),
            None => forget_keys(queue),
        };
        keys.execute(&mut *conn).await?;
        // They count by this.
        sqlx::query(include_str!("sql/set_closed.sql"))
            .bind(queue)
            .bind(at.wall)
            .execute(&mut *conn)
            .await?;
    }
    // Who ends before this has not let go of it.
    set_clean(queue, clean).execute(conn).await?;
    Ok(())
}

/// From now on jobs may start.
async fn set_starting(conn: &mut SqliteConnection, queue: i64, own: bool) -> sqlx::Result<()> {
    let starting = sqlx::query(include_str!("sql/set_starting.sql"));
    starting.bind(queue).bind(own).execute(&mut *conn).await?;
    forget_keys(queue).execute(&mut *conn).await?;
    set_clean(queue, false).execute(conn).await?;
    Ok(())
}

/// All of it or nothing, and in one go to the disk.
async fn whole(
    conn: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<()>,
) -> sqlx::Result<()> {
    let done = async {
        sqlx::raw_sql(transaction::BEGIN)
            .execute(&mut *conn)
            .await?;
        work(&mut *conn).await?;
        sqlx::raw_sql(transaction::COMMIT).execute(&mut *conn).await
    };
    match done.await {
        Ok(_) => Ok(()),
        Err(error) => Err(transaction::roll_back(conn, error).await),
    }
}

fn forget_keys(queue: i64) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(include_str!("sql/forget_keys.sql")).bind(queue)
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
        Setting::Changed => {
            let now = Moment::now();
            now.save(conn, queue).await?;
            set_changed(queue, Some(now.wall))
        }
        Setting::Built { rules, built } => {
            set_rules(queue, rules).execute(&mut *conn).await?;
            sqlx::query(include_str!("sql/set_built.sql"))
                .bind(queue)
                .bind(built.to_text())
        }
        Setting::Starting { own } => {
            return whole(conn, async |conn| set_starting(conn, queue, own).await).await;
        }
        Setting::Quiet { starts, idle } => {
            return whole(conn, async |conn| {
                set_free(conn, queue, Some(starts), idle).await
            })
            .await;
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
