//! What people write by hand: sqlx's default pool with WAL switched on, a query and a commit for
//! each answer, one worker that sends messages one after another, no cache, no measurements.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::mpsc;

use super::bot::{Bot, SendError};
use super::error::ApiError;
use super::meter::Meter;
use super::{Gauges, Service};
use crate::api::{Completion, League, Message, Saved, Standing, messages_for};
use crate::protocol::CacheReads;

#[derive(Debug, Clone)]
struct App {
    db: SqlitePool,
    outbox: mpsc::UnboundedSender<Message>,
}

pub(crate) async fn build(path: &Path, bot: Bot, meter: &Meter) -> anyhow::Result<Service> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let meter = meter.clone();
    let db = SqlitePoolOptions::new()
        .after_connect(move |connection, _| {
            let meter = meter.clone();
            Box::pin(async move { meter.count_commits(connection).await })
        })
        .connect_with(options)
        .await?;
    let (outbox, inbox) = mpsc::unbounded_channel();
    tokio::spawn(send_messages(inbox, bot));
    let router = Router::new()
        .route("/quizzes/{id}/completions", post(complete))
        .route("/leaderboard", get(leaderboard))
        .with_state(App {
            db: db.clone(),
            outbox,
        });
    Ok(Service {
        router,
        gauges: Arc::new(PoolGauges(db)),
    })
}

async fn complete(
    State(app): State<App>,
    UrlPath(quiz): UrlPath<i64>,
    Json(completion): Json<Completion>,
) -> Result<Json<Saved>, ApiError> {
    let user_id = completion.user_id;
    sqlx::query_scalar::<_, i64>(include_str!("sql/league_of_user.sql"))
        .bind(user_id)
        .fetch_optional(&app.db)
        .await?
        .ok_or(ApiError::UnknownUser(user_id))?;
    let mut score = 0;
    for given in completion.answers {
        let correct: String = sqlx::query_scalar(include_str!("sql/correct_answer.sql"))
            .bind(quiz)
            .bind(given.question_id)
            .fetch_optional(&app.db)
            .await?
            .ok_or(ApiError::UnknownQuestion {
                quiz,
                question: given.question_id,
            })?;
        let points = i64::from(given.answer == correct);
        sqlx::query(include_str!("sql/insert_answer.sql"))
            .bind(quiz)
            .bind(user_id)
            .bind(given.question_id)
            .bind(given.answer)
            .bind(points)
            .execute(&app.db)
            .await?;
        score += points;
    }
    for message in messages_for(user_id, score) {
        app.outbox.send(message).map_err(anyhow::Error::from)?;
    }
    Ok(Json(Saved { score }))
}

async fn leaderboard(
    State(app): State<App>,
    Query(league): Query<League>,
) -> Result<Json<Vec<Standing>>, ApiError> {
    let standings = sqlx::query_as(include_str!("sql/leaderboard.sql"))
        .bind(league.quiz)
        .bind(league.league)
        .fetch_all(&app.db)
        .await?;
    Ok(Json(standings))
}

async fn send_messages(mut inbox: mpsc::UnboundedReceiver<Message>, bot: Bot) {
    while let Some(message) = inbox.recv().await {
        while let Err(error) = bot.send(&message).await {
            match error {
                SendError::TooMany(wait) => tokio::time::sleep(wait).await,
                SendError::Status(_) | SendError::Http(_) => {
                    eprintln!("message to {} lost: {error}", message.chat_id);
                    break;
                }
            }
        }
    }
}

#[derive(Debug)]
struct PoolGauges(SqlitePool);

impl Gauges for PoolGauges {
    fn connections_in_use(&self) -> u32 {
        self.0.size().saturating_sub(self.0.num_idle() as u32)
    }

    fn max_connections(&self) -> u32 {
        self.0.options().get_max_connections()
    }

    fn cache(&self) -> Option<CacheReads> {
        None
    }

    fn stop(&self) -> futures_core::future::BoxFuture<'_, ()> {
        Box::pin(self.0.close())
    }
}
