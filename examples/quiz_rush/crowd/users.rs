//! The users: each completes the quiz, polls the leaderboard while it waits, and is done when its
//! last message has arrived.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};

use super::messenger::Messenger;
use crate::api::{Completion, QUIET_QUIZ, QUIET_USERS, QUIZ, answers_of, league_of};
use crate::args::Size;
use crate::causes;
use crate::protocol::{Arrival, CrowdFigures, Progress, Request, UserFigures};

const POLL_EVERY: Duration = Duration::from_millis(250);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A service that refuses a completion this often will not take it.
const ATTEMPTS: u32 = 30;
/// A user gives up when the messenger has received nothing from anybody for so long, so that a
/// service that loses messages is reported, not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The users, and what they have seen so far.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    client: reqwest::Client,
    service: Arc<str>,
    size: Size,
    messenger: Arc<Messenger>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    began: OnceLock<Instant>,
    saved: AtomicUsize,
    completion_failures: AtomicU64,
    leaderboards: AtomicU64,
    leaderboard_failures: AtomicU64,
    leaderboard_times: Mutex<Vec<Request>>,
}

impl Crowd {
    pub(crate) fn new(service: String, size: Size, messenger: Arc<Messenger>) -> Result<Self> {
        let client = reqwest::Client::builder()
            .build()
            .context("make the users' HTTP client")?;
        Ok(Self {
            client,
            service: service.into(),
            size,
            messenger,
            seen: Arc::default(),
        })
    }

    /// Completes the quiet quiz a few times, one user after another, each with all its messages.
    /// Returns the seconds that each completion took.
    pub(crate) async fn quiet(&self) -> Result<Vec<f64>> {
        let mut seconds = Vec::new();
        for user_id in QUIET_USERS {
            let last_message = self.messenger.last_message(user_id);
            let sent = Instant::now();
            self.complete(QUIET_QUIZ, user_id)
                .await
                .context("complete the quiet quiz")?;
            seconds.push(sent.elapsed().as_secs_f64());
            self.await_last(last_message)
                .await
                .context("a quiet message is lost")?;
        }
        // A second later none of these messages counts in the messenger's window.
        sleep(Duration::from_secs(1)).await;
        self.messenger.clear();
        Ok(seconds)
    }

    /// All users at the same time; returns when each has its last message or has given up.
    pub(crate) async fn rush(&self) -> CrowdFigures {
        let began = *self.seen.began.get_or_init(Instant::now);
        let mut users = JoinSet::new();
        for n in 0..self.size.users {
            let crowd = self.clone();
            // The polls of the users are spread over the interval, as those of people are.
            let first_poll = POLL_EVERY * n / self.size.users;
            users.spawn(async move { crowd.user(began, i64::from(n) + 1, first_poll).await });
        }
        let mut users = users.join_all().await;
        users.sort_by_key(|user| user.user_id);
        let seen = &self.seen;
        CrowdFigures {
            users,
            refused: self.messenger.counts().1,
            leaderboards: std::mem::take(
                &mut *seen
                    .leaderboard_times
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            ),
            leaderboard_failures: seen.leaderboard_failures.load(Relaxed),
            completion_failures: seen.completion_failures.load(Relaxed),
        }
    }

    /// Every message that has arrived since the rush began.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        let began = *self.seen.began.get_or_init(Instant::now);
        let arrived = self.messenger.arrivals().into_iter();
        arrived
            .map(|(at, message)| Arrival {
                at: since(began, at),
                message,
            })
            .collect()
    }

    /// How far the rush is.
    pub(crate) fn progress(&self) -> Progress {
        let (messages, refused) = self.messenger.counts();
        Progress {
            seconds: self
                .seen
                .began
                .get()
                .map_or(0.0, |began| since(*began, Instant::now())),
            saved: self.seen.saved.load(Relaxed),
            messages,
            refused,
            leaderboards: self.seen.leaderboards.load(Relaxed),
        }
    }

    async fn user(&self, began: Instant, user_id: i64, first_poll: Duration) -> UserFigures {
        let last_message = self.messenger.last_message(user_id);
        let sent = Instant::now();
        let mut saved = None;
        let completes = async {
            saved = self
                .complete_with_retries(user_id)
                .await
                .map(|at| since(began, at));
            saved?;
            self.await_last(last_message).await
        };
        let last_message = tokio::select! {
            last_message = completes => last_message,
            () = self.poll_leaderboard(began, league_of(user_id), first_poll) => None,
        };
        UserFigures {
            user_id,
            sent: since(began, sent),
            saved,
            last_message: last_message.map(|at| since(began, at)),
        }
    }

    /// The arrival of the last message, unless the user gives up.
    async fn await_last(&self, mut last_message: oneshot::Receiver<Instant>) -> Option<Instant> {
        loop {
            match timeout(PATIENCE, &mut last_message).await {
                Ok(told) => return told.ok(),
                Err(_) if self.messenger.silent_for(PATIENCE) => return None,
                Err(_) => {}
            }
        }
    }

    /// Sends the completion until the service confirms it, as an application on a phone does.
    async fn complete_with_retries(&self, user_id: i64) -> Option<Instant> {
        for _ in 0..ATTEMPTS {
            match self.complete(QUIZ, user_id).await {
                Ok(()) => {
                    self.seen.saved.fetch_add(1, Relaxed);
                    return Some(Instant::now());
                }
                Err(error) => {
                    if self.seen.completion_failures.fetch_add(1, Relaxed) == 0 {
                        eprintln!(
                            "a completion failed and is sent again: {}",
                            causes::of(&error)
                        );
                    }
                    sleep(RETRY_AFTER).await;
                }
            }
        }
        None
    }

    async fn complete(&self, quiz: i64, user_id: i64) -> Result<()> {
        let answers = answers_of(user_id, self.size.answers);
        let url = format!("{}/quizzes/{quiz}/completions", self.service);
        let response = self
            .client
            .post(url)
            .json(&Completion { user_id, answers })
            .send()
            .await?;
        if let Err(error) = response.error_for_status_ref() {
            let body = response.text().await.unwrap_or_default();
            return Err(anyhow::Error::new(error).context(body));
        }
        response.bytes().await?;
        Ok(())
    }

    /// Polls for ever.
    async fn poll_leaderboard(&self, began: Instant, league: i64, first: Duration) {
        let url = format!("{}/leaderboard?quiz={QUIZ}&league={league}", self.service);
        let mut ticks = interval_at(tokio::time::Instant::now() + first, POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let start = Instant::now();
            let answered = async {
                self.client
                    .get(&url)
                    .send()
                    .await?
                    .error_for_status()?
                    .bytes()
                    .await
            };
            match answered.await {
                Ok(_) => {
                    let seconds = start.elapsed().as_secs_f64();
                    self.seen.leaderboards.fetch_add(1, Relaxed);
                    self.seen
                        .leaderboard_times
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Request {
                            at: since(began, start),
                            seconds,
                        });
                }
                Err(_) => {
                    self.seen.leaderboard_failures.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

fn since(began: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(began).as_secs_f64()
}
