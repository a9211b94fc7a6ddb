//! cargo run --release --bin quiz_server
//!
//! The five crates in one service: answers of many users in shared commits (perf-batch), a cached leaderboard
//! (perf-cache), a messenger with a limit of its own behind a durable queue (perf-queue), a writer and readers
//! on a SQLite file (perf-pool), and all of it at `/metrics` and `/monitoring/stats` on a second port
//! (perf-metrics). Ctrl-C, or SIGTERM, ends it with nothing lost.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use perf_batch::{AddError, Batcher, BulkInsert, BulkRow, OnConflict};
use perf_cache::Cache;
use perf_metrics::{Budget, Monitor, Readiness};
use perf_pool::SqlitePools;
use perf_queue::{Backoff, JobContext, JobError, Queue, Rate, Scope, Sqlite, Workers};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A quiz service with all five crates.
#[derive(Debug, Parser)]
struct Args {
    /// Where the users come in.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the monitor is asked; not for the public.
    #[arg(long, default_value = "127.0.0.1:9100")]
    admin: SocketAddr,
    /// The directory of the database and the queue; without it, a temporary one.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The URL of the messenger; without it, messages are only logged.
    #[arg(long)]
    messenger: Option<String>,
}

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS answers (
        quiz_id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        question_id INTEGER NOT NULL,
        answer TEXT NOT NULL CHECK (answer <> ''),
        points INTEGER NOT NULL,
        PRIMARY KEY (quiz_id, user_id, question_id)
    ) WITHOUT ROWID;";

#[derive(Debug, Clone, BulkRow)]
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

/// The body of `POST /quizzes/{id}/answers`, and an element of that of `../completions`.
#[derive(Debug, Deserialize)]
struct Given {
    user_id: i64,
    question_id: i64,
    answer: String,
}

#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
struct Standing {
    user_id: i64,
    score: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Message {
    chat: i64,
    text: String,
}

#[derive(Debug, Clone)]
struct App {
    db: SqlitePools,
    answers: Batcher<Answer>,
    leaderboards: Cache<i64, Vec<Standing>>,
    outbox: Queue<Message>,
}

impl App {
    async fn open(dir: &Path) -> Result<Self> {
        let db = SqlitePools::builder(dir.join("quiz.db"))
            .name("quiz")
            .open()
            .await?;
        sqlx::raw_sql(TABLES).execute(db.write()).await?;
        let insert = BulkInsert::<Answer>::new()
            .name("answers")
            .on_conflict(OnConflict::Update);
        let outbox = Queue::<Message>::builder("messenger")
            .backend(Sqlite::open(dir.join("queue.db")))
            .key(|m: &Message| m.chat)
            .rate_limit(Rate::per_second(30))
            .rate_limit_per_key(Rate::per_second(1))
            .concurrency_per_key(1)
            .retry(
                Backoff::exponential(Duration::from_secs(1)..Duration::from_secs(300))
                    .max_attempts(10),
            )
            .build()
            .await?;
        Ok(Self {
            // The batcher is given sqlx's own pool, which is beneath the writer.
            answers: Batcher::builder((**db.write()).clone(), insert).spawn(),
            leaderboards: Cache::builder("leaderboards")
                .time_to_live(Duration::from_secs(60))
                .build()
                .await?,
            outbox,
            db,
        })
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/quizzes/{id}/answers", post(answer))
            .route("/quizzes/{id}/completions", post(complete))
            .route("/quizzes/{id}/leaderboard", get(leaderboard))
            .with_state(self)
    }

    /// Sends the messages of the queue until it is shut down.
    fn messenger(&self, url: Option<String>) -> Workers {
        let client = reqwest::Client::new();
        let send = move |message: Message, cx: JobContext| {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let Some(url) = url else {
                    tracing::info!(chat = message.chat, text = message.text, job = %cx.id(), "sent");
                    return Ok(());
                };
                let response = client.post(url).json(&message).send().await;
                let response = response.map_err(JobError::retry)?;
                match response.status() {
                    StatusCode::TOO_MANY_REQUESTS => {
                        let wait = response.headers().get("retry-after");
                        let wait = wait.and_then(|v| v.to_str().ok()?.parse().ok());
                        let wait = Duration::from_secs(wait.unwrap_or(1));
                        Err(JobError::retry_after(wait).penalize(Scope::Queue))
                    }
                    StatusCode::FORBIDDEN => Err(JobError::discard("the chat has blocked the bot")),
                    status if status.is_success() => Ok(()),
                    status => Err(JobError::retry(format!("the messenger answered {status}"))),
                }
            }
        };
        self.outbox.workers(16, send).spawn()
    }
}

/// Right is what says so: the point is in the saving.
fn points(answer: &str) -> i64 {
    i64::from(answer == "right")
}

fn row(quiz_id: i64, given: Given) -> Answer {
    Answer {
        quiz_id,
        user_id: given.user_id,
        question_id: given.question_id,
        points: points(&given.answer),
        answer: given.answer,
    }
}

/// One answer, in a commit shared with those of other users.
async fn answer(
    State(app): State<App>,
    UrlPath(quiz): UrlPath<i64>,
    Json(given): Json<Given>,
) -> Result<StatusCode, ApiError> {
    match app.answers.add(row(quiz, given)).await {
        Ok(()) => {}
        Err(AddError::Refused(failure)) => return Err(ApiError::Refused(failure.message)),
        Err(error) => return Err(ApiError::Internal(error.into())),
    }
    app.leaderboards.invalidate(&quiz).await?;
    Ok(StatusCode::CREATED)
}

/// All answers of a user in one commit, then a message to the user.
async fn complete(
    State(app): State<App>,
    UrlPath(quiz): UrlPath<i64>,
    Json(given): Json<Vec<Given>>,
) -> Result<Json<i64>, ApiError> {
    let Some(chat) = given.first().map(|first| first.user_id) else {
        return Err(ApiError::Refused("there is no answer".to_owned()));
    };
    let rows: Vec<_> = given.into_iter().map(|given| row(quiz, given)).collect();
    let score = rows.iter().map(|row| row.points).sum();
    let insert = BulkInsert::<Answer>::new().name("completions");
    let insert = insert.on_conflict(OnConflict::Update);
    insert.execute(app.db.write(), rows).await?;
    app.leaderboards.invalidate(&quiz).await?;
    let text = format!("You scored {score} points.");
    app.outbox.enqueue(Message { chat, text }).await?;
    Ok(Json(score))
}

/// The ten best; one query for all who ask at once, and none while nobody answers.
async fn leaderboard(
    State(app): State<App>,
    UrlPath(quiz): UrlPath<i64>,
) -> Result<Json<Vec<Standing>>, ApiError> {
    let db = app.db.clone();
    let load = move |quiz| async move {
        sqlx::query_as(
            "SELECT user_id, sum(points) AS score FROM answers WHERE quiz_id = ?
             GROUP BY user_id ORDER BY score DESC, user_id LIMIT 10",
        )
        .bind(quiz)
        .fetch_all(db.read())
        .await
    };
    let standings = app.leaderboards.get_or_load(&quiz, load).await?;
    Ok(Json(standings.to_vec()))
}

/// Why a request got no answer.
enum ApiError {
    /// The client's fault, and why.
    Refused(String),
    /// Something behind the service failed; the client may try again.
    Internal(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::Internal(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(why) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
            Self::Internal(error) => {
                tracing::error!("{error:#}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Installed before anything else is built, so that all record into it.
fn monitor() -> Result<Monitor> {
    let ms = Duration::from_millis;
    let monitor = Monitor::builder()
        .service("quiz")
        .budget(Budget::route("GET /quizzes/{id}/leaderboard").p95(ms(50)))
        .budget(
            Budget::route("POST /quizzes/{id}/completions")
                .p95(ms(200))
                .p99(ms(500)),
        )
        .default_budget(Budget::any().p95(ms(100)).errors(0.01))
        .build()?;
    monitor.install()?;
    Ok(monitor)
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let args = Args::parse();
    let monitor = monitor()?;
    let temporary = tempfile::tempdir()?;
    let dir = args.data.as_deref().unwrap_or(temporary.path());
    let app = App::open(dir).await?;
    for (name, pool) in [("writer", app.db.write()), ("readers", app.db.read())] {
        let pool = pool.clone();
        monitor.add_check(name, Readiness, move || {
            let pool = pool.clone();
            async move {
                let health = pool.health_check().await;
                health.error.map_or(Ok(()), Err)
            }
        })?;
    }
    let workers = app.messenger(args.messenger);

    let users = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {} for the users", args.listen))?;
    let admin = TcpListener::bind(args.admin)
        .await
        .with_context(|| format!("listen on {} for the monitor", args.admin))?;
    println!("users   http://{}", users.local_addr()?);
    println!("monitor http://{}/monitoring/stats", admin.local_addr()?);

    let stop = CancellationToken::new();
    let routes = app.clone().routes().layer(monitor.layer());
    let users = axum::serve(users, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let admin = monitor.serve(admin, stop.clone().cancelled_owned());
    let end = async {
        let ended = asked_to_end().await;
        stop.cancel();
        ended
    };
    tokio::try_join!(end, async { users.await }, admin)?;

    // No request is left: what they handed over is finished, and what is not sent stays in the file.
    let drain = workers.shutdown(Duration::from_secs(10)).await;
    app.answers.shutdown().await?;
    app.db.close().await;
    println!("ended: {} messages given back to the queue", drain.released);
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
async fn asked_to_end() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
