//! Plays the Telegram API: 50 ms a call, a limit over all calls, 429 with `retry_after` above it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::oneshot;

use super::limit::Limit;
use crate::api::{MESSAGES, Message, RetryAfter, TooManyRequests};

/// What a call takes.
const CALL: Duration = Duration::from_millis(50);

/// What the messenger has seen.
#[derive(Debug, Default)]
pub(crate) struct Messenger {
    state: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    limit: Limit,
    arrivals: Vec<(Instant, Message)>,
    /// Who waits for the last message to a chat, and how many messages the chat has yet to get.
    waiting: HashMap<i64, (u32, oneshot::Sender<Instant>)>,
    refused: u64,
}

impl Messenger {
    /// Resolves to the arrival of the last of the messages that the chat gets from now on.
    pub(crate) fn last_message(&self, chat_id: i64) -> oneshot::Receiver<Instant> {
        let (tx, rx) = oneshot::channel();
        self.inbox().waiting.insert(chat_id, (MESSAGES, tx));
        rx
    }

    /// Forgets what has arrived so far.
    pub(crate) fn clear(&self) {
        let mut inbox = self.inbox();
        inbox.arrivals.clear();
        inbox.refused = 0;
    }

    /// The messages that have arrived, in order of arrival.
    pub(crate) fn arrivals(&self) -> Vec<(Instant, Message)> {
        self.inbox().arrivals.clone()
    }

    /// How many messages have arrived, and how many calls were refused.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let inbox = self.inbox();
        (inbox.arrivals.len(), inbox.refused)
    }

    /// Whether nothing has arrived for so long.
    pub(crate) fn silent_for(&self, time: Duration) -> bool {
        self.inbox()
            .arrivals
            .last()
            .is_none_or(|(at, _)| at.elapsed() >= time)
    }

    fn receive(&self, now: Instant, message: Message) -> Result<(), Duration> {
        let mut inbox = self.inbox();
        if let Err(wait) = inbox.limit.take(now) {
            inbox.refused += 1;
            return Err(wait);
        }
        if let Some((missing, _)) = inbox.waiting.get_mut(&message.chat_id) {
            *missing -= 1;
            if *missing == 0
                && let Some((_, told)) = inbox.waiting.remove(&message.chat_id)
            {
                // A user who has given up waiting no longer listens.
                let _ = told.send(now);
            }
        }
        inbox.arrivals.push((now, message));
        Ok(())
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messenger's API.
pub(crate) fn router(messenger: Arc<Messenger>) -> Router {
    Router::new()
        .route("/sendMessage", post(send_message))
        .with_state(messenger)
}

async fn send_message(
    State(messenger): State<Arc<Messenger>>,
    Json(message): Json<Message>,
) -> Response {
    match messenger.receive(Instant::now(), message) {
        Ok(()) => {
            tokio::time::sleep(CALL).await;
            Json(json!({ "ok": true })).into_response()
        }
        Err(wait) => too_many(wait),
    }
}

fn too_many(wait: Duration) -> Response {
    let retry_after = wait.as_secs_f64().ceil() as u64;
    let header: (HeaderName, String) = (header::RETRY_AFTER, retry_after.to_string());
    let parameters = RetryAfter { retry_after };
    let body = TooManyRequests {
        ok: false,
        error_code: 429,
        parameters,
    };
    (StatusCode::TOO_MANY_REQUESTS, [header], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::messages_for;
    use crate::crowd::limit::CAPACITY;

    #[test]
    fn the_last_message_is_told_and_only_the_last() {
        let messenger = Messenger::default();
        let mut last = messenger.last_message(7);
        let now = Instant::now();
        for message in messages_for(7, 10) {
            assert!(last.try_recv().is_err());
            messenger.receive(now, message).unwrap();
        }
        assert_eq!(last.try_recv().unwrap(), now);
        assert_eq!(messenger.counts(), (MESSAGES as usize, 0));
    }

    #[test]
    fn a_refused_call_has_not_arrived() {
        let messenger = Messenger::default();
        let now = Instant::now();
        let message = messages_for(7, 10).remove(0);
        for _ in 0..CAPACITY {
            messenger.receive(now, message.clone()).unwrap();
        }
        messenger.receive(now, message).unwrap_err();
        assert_eq!(messenger.counts(), (CAPACITY, 1));
    }
}
