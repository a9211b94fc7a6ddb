use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Pipeline};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::error::NEEDED;
use super::journal::{How, Journal, Targets, Token};
use super::link::{CONNECT_WITHIN, Failure, Link, Why};
use super::links::Links;
use super::message::{self, Item};
use super::script::{INVALIDATE, MOST_KEYS};
use super::server::{Down, Server};

/// How long a lease is good for: longer than nearly all loads. One that takes longer is not put
/// into Redis.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How many tags Redis keeps the last invalidations of.
const MOST_TAGS: usize = 10_000;
const RECONNECT_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// The same where the server does not let the user do what the cache needs: only a person changes that.
const FORBIDDEN_FOR: Duration = Duration::from_secs(30);

/// Connects, again whenever the link is lost, and tells the server what is invalidated.
pub(super) struct Keeper {
    /// Held until its end: where nobody else has them, the connections end with it.
    pub(super) links: Arc<Links>,
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
        let mut next = first.ok_or(None);
        let mut pause = RECONNECT_AFTER[0];
        // What the user may not do, from when it is said to when something else goes wrong.
        let mut forbidden = None;
        loop {
            let came_up = Instant::now();
            match &next {
                Ok(link) => {
                    self.keep(link, &mut forbidden).await;
                    if !self.stop.is_cancelled() {
                        self.lost(link.why(), &mut forbidden);
                    }
                }
                Err(Some(Why::Forbidden(what))) => self.say_forbidden(what, &mut forbidden),
                Err(_) => (),
            }
            if self.stop.is_cancelled() {
                break;
            }
            // A link that is lost again and again costs somebody a timeout each time.
            if came_up.elapsed() > RECONNECT_AFTER[1] {
                pause = RECONNECT_AFTER[0];
            }
            let longest = forbidden.as_ref().map_or(pause, |_| FORBIDDEN_FOR);
            // Processes that lost the same server do not come back in step.
            let wait = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
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
    async fn keep(&self, link: &Link, forbidden: &mut Option<String>) {
        // What waits goes before what is read.
        let mut told = self.tell(link).await;
        if let Ok(deferred) = told
            && (deferred == 0 || !self.stop.is_cancelled())
        {
            // Where the user lacks a permission, that shows when it is used.
            if forbidden.is_none() {
                self.say_up(deferred);
            }
            self.server.set_link(Some(link.clone()));
        }
        let good = Instant::now() + FORBIDDEN_FOR;
        let telling = async {
            while told.is_ok() {
                tokio::select! {
                    biased;
                    () = link.broken.cancelled() => break,
                    () = self.stop.cancelled() => break,
                    () = sleep_until(good), if forbidden.is_some() => {
                        *forbidden = None;
                        self.say_up(0);
                    }
                    () = self.journal.added() => told = self.tell(link).await,
                }
            }
        };
        tokio::select! {
            biased;
            () = telling => (),
            () = link.maintain(&self.state, self.server.timeout) => (),
        }
        if self.stop.is_cancelled() {
            return;
        }
        self.server.set_link(None);
        // Whoever still waits for an answer on it need not.
        link.give_up();
        // The tier holds it no longer than that.
        drop(self.links.current());
        self.journal.defer();
    }

    fn say_up(&self, deferred: usize) {
        let cache = self.server.meters.cache();
        tracing::info!(cache, deferred, "the shared tier can be used");
    }

    fn lost(&self, why: Option<&Why>, forbidden: &mut Option<String>) {
        let reason = match why {
            Some(Why::Forbidden(what)) => return self.say_forbidden(what, forbidden),
            Some(Why::Other(what)) => what.as_str(),
            None => "the connection was lost",
        };
        *forbidden = None;
        let cache = self.server.meters.cache();
        tracing::warn!(
            cache,
            reason,
            "the shared tier cannot be used: going on without it"
        );
    }

    /// Once.
    fn say_forbidden(&self, what: &str, forbidden: &mut Option<String>) {
        if forbidden.as_deref() != Some(what) {
            let cache = self.server.meters.cache();
            tracing::warn!(
                cache,
                reason = what,
                needed = NEEDED,
                "the user of the shared tier may not do what the cache needs: going on without it until its \
                 ACL allows that"
            );
            *forbidden = Some(what.to_owned());
        }
    }

    async fn connect(&self) -> Result<Link, Option<Why>> {
        let within = self.server.timeout;
        let opened = async {
            let link = self.links.connect(within).await?;
            link.check(&self.state, within).await?;
            Ok::<_, Failure>(link)
        };
        opened.await.map_err(|failure| {
            self.server.failed(&failure);
            Why::of(&failure)
        })
    }

    /// One attempt to tell the rest.
    async fn end(&self) {
        let left = self.journal.close();
        if left > 0 {
            let link = match self.server.link() {
                Some(link) => Some(link),
                None => {
                    let within = CONNECT_WITHIN.max(self.server.timeout);
                    timeout(within, self.connect())
                        .await
                        .ok()
                        .and_then(Result::ok)
                }
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
            // Before whoever waits hears of it.
            link.told(sequence);
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
