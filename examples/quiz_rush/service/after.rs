//! The same API with the five perf crates: a writer and readers, a completion in one commit, many
//! workers at the messenger's limit, cached reads, and a monitor.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Path as UrlPath, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use perf_batch::{BulkInsert, BulkRow, OnConflict};
use perf_cache::Cache;
use perf_metrics::Monitor;
use perf_pool::SqlitePools;
use perf_queue::{Backoff, JobContext, JobError, Memory, Queue, Rate, Scope, Workers};
use sqlx::sqlite::SqliteSynchronous;

use super::bot::{Bot, SendError};
use super::error::ApiError;
use super::meter::Meter;
use super::{Gauges, Service};
use crate::api::{CALLS_PER_SECOND, Completion, League, Message, Saved, Standing, messages_for};
use crate::protocol::CacheReads;

/// 200 calls of 50 ms a second keep 10 workers busy; three times that rides out slow calls.
const WORKERS: usize = 32;
const READERS: u32 = 4;

type AnswerKey = HashMap<i64, String>;

#[derive(Debug, BulkRow)]
#[bulk(table = "answers")]
struct Answer {
    #[bulk(key)]
    quiz_id: i64,
    #[bulk(key)]
    user_id: i64,
    #[bulk(key)]
    question_id: i64,
    answer: String,
    points: i64,
}

#[derive(Debug, Clone)]
struct App {
    db: SqlitePools,
    outbox: Queue<Message>,
    answer_keys: Cache<i64, AnswerKey>,
    leaderboards: Cache<League, Vec<Standing>>,
}

pub(crate) async fn build(path: &Path, bot: Bot, meter: &Meter) -> anyhow::Result<Service> {
    let monitor = Monitor::builder().service("quiz").build()?;
    monitor.install()?;

    let meter = meter.clone();
    let db = SqlitePools::builder(path)
        .name("quiz")
        .synchronous(SqliteSynchronous::Full)
        .readers(READERS)
        .after_connect(move |connection| {
            let meter = meter.clone();
            Box::pin(async move { meter.count_commits(connection).await })
        })
        .open()
        .await?;
    let outbox = Queue::<Message>::builder("messenger")
        .backend(Memory::bounded(100_000))
        .key(|message: &Message| message.chat_id)
        .rate_limit(Rate::per_second(CALLS_PER_SECOND))
        .concurrency_per_key(1)
        .retry(
            Backoff::exponential(Duration::from_millis(200)..Duration::from_secs(30))
                .max_attempts(10),
        )
        .build()
        .await?;
    let workers = outbox
        .workers(WORKERS, move |message: Message, _: JobContext| {
            let bot = bot.clone();
            async move {
                bot.send(&message).await.map_err(|error| match error {
                    SendError::TooMany(wait) => JobError::retry_after(wait).penalize(Scope::Queue),
                    SendError::Status(_) | SendError::Http(_) => JobError::retry(error),
                })
            }
        })
        .spawn();
    let app = App {
        db,
        outbox,
        answer_keys: Cache::builder("answer_keys")
            .time_to_live(Duration::from_secs(300))
            .build()
            .await?,
        leaderboards: Cache::builder("leaderboards")
            .time_to_live(Duration::from_secs(5))
            .build()
            .await?,
    };
    let router = Router::new()
        .route("/quizzes/{id}/completions", post(complete))
        .route("/leaderboard", get(leaderboard))
        .with_state(app.clone())
        .layer(monitor.layer())
        .merge(monitor.router());
    Ok(Service {
        router,
        gauges: Arc::new(AppGauges { app, workers }),
    })
}

async fn complete(
    State(app): State<App>,
    UrlPath(quiz): UrlPath<i64>,
    Json(completion): Json<Completion>,
) -> Result<Json<Saved>, ApiError> {
    let user_id = completion.user_id;
    let league = sqlx::query_scalar(include_str!("sql/league_of_user.sql"))
        .bind(user_id)
        .fetch_optional(app.db.read())
        .await?
        .ok_or(ApiError::UnknownUser(user_id))?;
    let key = app.answer_key(quiz).await?;
    let mut score = 0;
    let mut rows = Vec::with_capacity(completion.answers.len());
    for given in completion.answers {
        let correct = key
            .get(&given.question_id)
            .ok_or(ApiError::UnknownQuestion {
                quiz,
                question: given.question_id,
            })?;
        let points = i64::from(given.answer == *correct);
        score += points;
        rows.push(Answer {
            quiz_id: quiz,
            user_id,
            question_id: given.question_id,
            answer: given.answer,
            points,
        });
    }
    BulkInsert::<Answer>::new()
        .on_conflict(OnConflict::Update)
        .execute(app.db.write(), rows)
        .await
        .context("save the answers")?;
    let changed = League { quiz, league };
    (app.leaderboards.invalidate(&changed).await).context("forget the leaderboard")?;
    app.outbox
        .enqueue_batch(messages_for(user_id, score))
        .await
        .context("queue the messages")?;
    Ok(Json(Saved { score }))
}

async fn leaderboard(
    State(app): State<App>,
    Query(league): Query<League>,
) -> Result<Json<Vec<Standing>>, ApiError> {
    let db = app.db.clone();
    let standings = app
        .leaderboards
        .get_or_load(&league, move |league| async move {
            sqlx::query_as(include_str!("sql/leaderboard.sql"))
                .bind(league.quiz)
                .bind(league.league)
                .fetch_all(db.read())
                .await
        })
        .await
        .context("read the leaderboard")?;
    Ok(Json(standings.to_vec()))
}

impl App {
    async fn answer_key(&self, quiz: i64) -> anyhow::Result<Arc<AnswerKey>> {
        let db = self.db.clone();
        self.answer_keys
            .get_or_load(&quiz, move |quiz| async move {
                let rows: Vec<(i64, String)> =
                    sqlx::query_as(include_str!("sql/correct_answers.sql"))
                        .bind(quiz)
                        .fetch_all(db.read())
                        .await?;
                Ok::<_, sqlx::Error>(rows.into_iter().collect())
            })
            .await
            .context("read the questions")
    }
}

#[derive(Debug)]
struct AppGauges {
    app: App,
    workers: Workers,
}

impl Gauges for AppGauges {
    fn connections_in_use(&self) -> u32 {
        self.app.db.read().status().in_use + self.app.db.write().status().in_use
    }

    fn max_connections(&self) -> u32 {
        self.app.db.read().status().max + self.app.db.write().status().max
    }

    fn cache(&self) -> Option<CacheReads> {
        let stats = [self.app.answer_keys.stats(), self.app.leaderboards.stats()];
        Some(CacheReads {
            hits: stats.iter().map(|s| s.hits).sum(),
            reads: stats.iter().map(|s| s.hits + s.misses).sum(),
        })
    }

    fn stop(&self) -> futures_core::future::BoxFuture<'_, ()> {
        Box::pin(async {
            self.workers.shutdown(Duration::from_secs(10)).await;
            self.app.db.close().await;
        })
    }
}
