use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Pipeline};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::journal::{How, Journal, Targets, Token};
use super::link::Link;
use super::message::{self, Item};
use super::script::{INVALIDATE, MOST_KEYS};
use super::server::{Down, Server};

/// How long a lease is good for: longer than nearly all loads. One that takes longer is not put
/// into Redis.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How many tags Redis keeps the last invalidations of.
const MOST_TAGS: usize = 10_000;
const RECONNECT_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// Connects, again whenever the link is lost, and tells the server what is invalidated.
pub(super) struct Keeper {
    pub(super) server: Arc<Server>,
    pub(super) journal: Arc<Journal>,
    pub(super) state: String,
    pub(super) bus: String,
    /// What this process says is signed with it.
    pub(super) origin: Token,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    pub(super) async fn run(self, first: Option<Link>) {
        let mut next = first;
        let mut pause = RECONNECT_AFTER[0];
        loop {
            let came_up = Instant::now();
            if let Some(link) = next.take() {
                self.keep(&link).await;
            }
            if self.stop.is_cancelled() {
                break;
            }
            // A link that is lost again and again costs somebody a timeout each time.
            if came_up.elapsed() > RECONNECT_AFTER[1] {
                pause = RECONNECT_AFTER[0];
            }
            // Processes that lost the same server do not come back in step.
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            pause = (pause * 2).min(RECONNECT_AFTER[1]);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                link = async { sleep(wait).await; self.connect().await } => next = link,
            }
        }
        self.end().await;
    }

    /// Returns when the link is lost or all is to end.
    async fn keep(&self, link: &Link) {
        // What waits goes before what is read.
        let mut told = self.tell(link).await;
        if told == Ok(0) || told.is_ok() && !self.stop.is_cancelled() {
            self.report(told);
            self.server.set_link(Some(link.clone()));
        }
        while told.is_ok() {
            tokio::select! {
                biased;
                () = link.broken.cancelled() => break,
                () = self.stop.cancelled() => break,
                () = self.journal.added() => told = self.tell(link).await,
            }
        }
        if self.stop.is_cancelled() {
            return;
        }
        self.server.set_link(None);
        // Whoever still waits for an answer on it need not.
        link.broken.cancel();
        self.journal.defer();
        let cache = self.server.meters.cache();
        tracing::warn!(cache, "the shared tier cannot be used: going on without it");
    }

    fn report(&self, told: Result<usize, Down>) {
        let cache = self.server.meters.cache();
        let deferred = told.unwrap_or(0);
        tracing::info!(cache, deferred, "the shared tier can be used");
    }

    async fn connect(&self) -> Option<Link> {
        let opened = Link::open(&self.server.client, self.server.timeout, Some(&self.state)).await;
        opened
            .inspect_err(|failure| self.server.failed(failure))
            .ok()
    }

    /// One attempt to tell the rest.
    async fn end(&self) {
        let left = self.journal.close();
        if left > 0 {
            let link = match self.server.link() {
                Some(link) => Some(link),
                None => self.connect().await,
            };
            let told = match &link {
                Some(link) => self.tell(link).await,
                None => Err(Down),
            };
            if told.is_err() {
                let cache = self.server.meters.cache();
                tracing::warn!(
                    cache,
                    left,
                    "invalidations are lost to the shared tier: it cannot be used at the end"
                );
            }
        }
        self.server.set_link(None);
        self.journal.defer();
    }

    /// Tells the server all that waits, and what comes meanwhile; returns how many there were.
    async fn tell(&self, link: &Link) -> Result<usize, Down> {
        let mut told = 0;
        while let Some(calls) = self.journal.send(|targets| self.calls(targets)) {
            let answers = self.server.exchange_on(link, &calls).await?;
            let first = answers.into_iter().next();
            let sequence = first.and_then(|answer| String::from_redis_value(answer).ok());
            let sequence = sequence
                .and_then(|digits| digits.parse().ok())
                .ok_or(Down)?;
            told += self.journal.done(sequence);
        }
        Ok(told)
    }

    fn calls(&self, targets: &Targets) -> Pipeline {
        let all = targets.all.then_some(Item::All);
        let tags = targets.tags.iter().map(|tag| Item::Tag(tag));
        let keys = targets.keys.iter();
        let keys = keys.map(|(name, how)| Item::Key(name, *how));
        let items: Vec<Item<'_>> = all.into_iter().chain(tags).chain(keys).collect();
        let mut calls = redis::pipe();
        for items in items.chunks(MOST_KEYS) {
            let keys = items.iter().filter_map(|item| match *item {
                Item::Key(name, how) => Some((name, how)),
                _ => None,
            });
            let keys: Vec<_> = keys.collect();
            let names = keys.iter().map(|(name, _)| *name);
            let mut call = INVALIDATE.call(self.state.as_bytes(), names);
            call.arg(LEASE.as_millis() as u64).arg(MOST_TAGS);
            call.arg(&self.bus).arg(message::write(self.origin, items));
            call.arg(u8::from(items.contains(&Item::All)));
            for (_, how) in &keys {
                match how {
                    How::Replaced(lease) => call.arg(lease.as_slice()),
                    How::Gone | How::Expired => call.arg(""),
                };
            }
            for item in items {
                if let Item::Tag(tag) = item {
                    call.arg(tag);
                }
            }
            calls.add_command(call);
        }
        calls
    }
}
