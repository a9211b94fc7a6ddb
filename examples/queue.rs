//! cargo run -p perf-examples --bin queue
//!
//! A bot that sends messages to chats: 30 messages a second over all, one a second and chat, a server that
//! says "too many requests" now and then, a chat that has blocked the bot. The queue is in a file, so
//! what was not sent when the program ends is sent when it starts again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;
use perf_queue::{Backoff, EnqueueOptions, JobContext, JobError, Queue, Rate, Scope, Sqlite};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SendMessage {
    chat: i64,
    text: String,
}

/// What the messenger answers.
enum Refusal {
    TooMany(Duration),
    Blocked,
    Broken,
}

/// A messenger: refuses the tenth request, knows a chat that has blocked the bot, and one that is broken.
#[derive(Default)]
struct Messenger {
    requests: AtomicU32,
}

impl Messenger {
    async fn send(&self, message: &SendMessage) -> Result<(), Refusal> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match (message.chat, self.requests.fetch_add(1, Relaxed)) {
            (_, 9) => Err(Refusal::TooMany(Duration::from_millis(500))),
            (13, _) => Err(Refusal::Blocked),
            (14, _) => Err(Refusal::Broken),
            _ => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let queue = Queue::<SendMessage>::builder("telegram")
        .backend(Sqlite::open(dir.path().join("queue.db")))
        .key(|m: &SendMessage| m.chat)
        .rate_limit(Rate::per_second(30))
        // Groups, whose numbers are negative, get 20 a minute.
        .rate_limit_per_key(|m: &SendMessage| match m.chat {
            ..0 => Rate::per_minute(20).burst(20),
            _ => Rate::per_second(1),
        })
        .concurrency_per_key(1)
        .retry(
            Backoff::exponential(Duration::from_millis(50)..Duration::from_secs(1)).max_attempts(3),
        )
        .build()
        .await?;

    let message = |chat, text: &str| SendMessage {
        chat,
        text: text.to_owned(),
    };
    let welcome = || EnqueueOptions::new().unique("welcome:42", Duration::from_secs(60));
    let first = queue
        .enqueue_with(message(42, "welcome"), welcome())
        .await?;
    let again = queue
        .enqueue_with(message(42, "welcome"), welcome())
        .await?;
    println!("a welcome is sent once: {}", first == again);
    let all = (1..=20).map(|chat| message(chat, "hello"));
    let group = (0..5).map(|_| message(-7, "hello, all"));
    queue.enqueue_batch(all.chain(group).collect()).await?;

    let messenger = Arc::new(Messenger::default());
    let sent = Arc::new(AtomicU32::new(0));
    let start = Instant::now();
    let workers = {
        let (messenger, sent) = (Arc::clone(&messenger), Arc::clone(&sent));
        queue.workers(10, move |m: SendMessage, cx: JobContext| {
            let (messenger, sent) = (Arc::clone(&messenger), Arc::clone(&sent));
            async move {
                match messenger.send(&m).await {
                    Ok(()) => {
                        sent.fetch_add(1, Relaxed);
                        tracing::debug!(chat = m.chat, m.text, job = %cx.id(), "sent");
                        Ok(())
                    }
                    // Nothing is sent to anybody before.
                    Err(Refusal::TooMany(wait)) => {
                        Err(JobError::retry_after(wait).penalize(Scope::Queue))
                    }
                    Err(Refusal::Blocked) => Err(JobError::discard("the chat has blocked the bot")),
                    Err(Refusal::Broken) => Err(JobError::retry("the messenger is broken")),
                }
            }
        })
    }
    .spawn();
    queue.drain().await?;
    let took = start.elapsed().as_secs_f64();
    let stats = queue.stats().await?;
    println!(
        "{} sent in {took:.1} s, {} discarded, {} put off, {} dead",
        sent.load(Relaxed),
        stats.discarded,
        stats.snoozed,
        stats.dead
    );
    for letter in queue.dead_letters().list(10).await? {
        println!(
            "{:?} failed {} times: {}",
            letter.job,
            letter.attempts,
            letter.error()
        );
    }
    workers.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
