//! Hears what other processes invalidate, and knows when it may have missed something.
//!
//! Each invalidation gets the next sequence of the cache's state in Redis, and its message has it. So
//! a message that is missing shows at the next one, or at the next heartbeat, which compares the
//! sequence there with the last one heard.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{FromRedisValue, Msg, Value};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::error::NEEDED;
use super::journal::Token;
use super::keys::Keys;
use super::link::{CONNECT_WITHIN, is_forbidden};
use super::message::{self, Heard};
use super::script::READ;
use super::server::{Down, Server};
use super::tier::RedisBus;
use crate::clock::later;
use crate::remote::{Local, Target};

const RECONNECT_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

pub(super) struct Listener<K> {
    pub(super) server: Arc<Server>,
    pub(super) keys: Arc<Keys>,
    /// Who signs with it is this process.
    pub(super) origin: Token,
    pub(super) bus: RedisBus,
    pub(super) local: Weak<dyn Local<K>>,
    /// Told when there is a subscription for the first time.
    pub(super) heard: watch::Sender<bool>,
}

/// Why it does not go on like this.
enum End {
    /// Something was missed or cannot be heard: to begin again.
    Lost,
    /// The cache is gone.
    Gone,
}

impl<K: DeserializeOwned> Listener<K> {
    pub(super) async fn run(self) {
        let mut pause = RECONNECT_AFTER[0];
        let mut before = false;
        let mut forbidden = false;
        loop {
            let began = Instant::now();
            if let Ok(End::Gone) = self.listen(&mut before, &mut forbidden).await {
                return;
            }
            if began.elapsed() > RECONNECT_AFTER[1] {
                pause = RECONNECT_AFTER[0];
            }
            // Processes that lost the same server do not come back in step.
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(RECONNECT_AFTER[1]);
        }
    }

    /// `before`: whether there has been a subscription. `forbidden`: whether it is said that the user may
    /// not have one.
    async fn listen(&self, before: &mut bool, forbidden: &mut bool) -> Result<End, Down> {
        let subscribing = timeout(CONNECT_WITHIN, self.subscribe()).await;
        let connection = match subscribing {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                let cache = self.server.meters.cache();
                if is_forbidden(&error) && !std::mem::replace(forbidden, true) {
                    tracing::warn!(
                        cache,
                        %error,
                        needed = NEEDED,
                        "the user of the shared tier may not listen to other processes: what is in memory is not \
                         trusted until its ACL allows that"
                    );
                } else {
                    tracing::debug!(cache, %error, "other processes cannot be heard");
                }
                return Err(Down);
            }
            Err(_) => return Err(Down),
        };
        *forbidden = false;
        let (sink, messages) = connection.split();
        // What was loaded until there is a subscription may have been invalidated since. What is
        // loaded later, and is not heard of, is above this sequence.
        // Not for ever: messages wait in memory meanwhile.
        let up = timeout(CONNECT_WITHIN, self.server.up()).await;
        up.map_err(|_| Down)?;
        let began = Instant::now();
        let sequence = self.sequence().await?;
        self.told(sequence);
        let Some(local) = self.local.upgrade() else {
            return Ok(End::Gone);
        };
        local.gap();
        if std::mem::replace(before, true) {
            self.server.meters.gap();
        }
        local.trusted_until(later(began, self.bus.bound()));
        drop(local);
        self.heard.send_replace(true);
        let ears = Ears {
            listener: self,
            sequence,
        };
        Ok(ears
            .hear(sink, messages, later(began, self.bus.heartbeat))
            .await)
    }

    async fn subscribe(&self) -> redis::RedisResult<PubSub> {
        let mut connection = self.server.client.get_async_pubsub().await?;
        connection.subscribe(self.keys.bus()).await?;
        Ok(connection)
    }

    /// Before anybody hears of it: no read by any connection is to be from before this invalidation.
    fn told(&self, sequence: u64) {
        if let Some(link) = self.server.link() {
            link.told(sequence);
        }
    }

    /// The sequence of the last invalidation.
    async fn sequence(&self) -> Result<u64, Down> {
        let mut call = redis::pipe();
        call.add_command(READ.call(self.keys.state().as_bytes(), std::iter::empty()));
        let answer = self.server.exchange(&call).await?.pop();
        let answer = answer.and_then(|answer| Vec::<String>::from_redis_value(answer).ok());
        let digits = answer.and_then(|answer| answer.into_iter().next());
        digits.and_then(|it| it.parse().ok()).ok_or(Down)
    }

    /// Whether everything that was said before is heard once this has returned: the answer to a
    /// ping comes behind the messages that were sent before it.
    async fn check(&self, mut sink: PubSubSink) -> Result<u64, Down> {
        let checking = async {
            let sequence = self.sequence().await?;
            sink.ping::<Value>().await.map_err(|_| Down)?;
            Ok(sequence)
        };
        timeout(self.bus.timeout, checking)
            .await
            .unwrap_or(Err(Down))
    }
}

/// A subscription.
struct Ears<'a, K> {
    listener: &'a Listener<K>,
    /// The last that was heard without a gap.
    sequence: u64,
}

impl<K: DeserializeOwned> Ears<'_, K> {
    async fn hear(
        mut self,
        sink: PubSubSink,
        mut messages: PubSubStream,
        mut next_check: Instant,
    ) -> End {
        loop {
            tokio::select! {
                // First, so that it takes place however many messages there are.
                biased;
                () = sleep_until(next_check) => {
                    let began = Instant::now();
                    let known = self.sequence;
                    let end = match self.checked(sink.clone(), &mut messages).await {
                        Ok(sequence) if (known..=self.sequence).contains(&sequence) => None,
                        Ok(sequence) => {
                            let heard = self.sequence;
                            let cache = self.listener.server.meters.cache();
                            tracing::debug!(cache, heard, sequence, "invalidations were missed");
                            Some(End::Lost)
                        }
                        Err(end) => Some(end),
                    };
                    if let Some(end) = end {
                        return end;
                    }
                    let Some(local) = self.listener.local.upgrade() else {
                        return End::Gone;
                    };
                    local.trusted_until(later(began, self.listener.bus.bound()));
                    next_check = later(began, self.listener.bus.heartbeat);
                }
                message = next(&mut messages) => match message {
                    Some(message) => if self.take(&message).is_none() { return End::Gone },
                    None => return End::Lost,
                },
            }
        }
    }

    /// The sequence there, when all is heard that was said before.
    async fn checked(&mut self, sink: PubSubSink, messages: &mut PubSubStream) -> Result<u64, End> {
        let listener = self.listener;
        let mut checking = pin!(listener.check(sink));
        let sequence = loop {
            tokio::select! {
                biased;
                sequence = &mut checking => break sequence.map_err(|Down| End::Lost)?,
                message = next(messages) => {
                    let message = message.ok_or(End::Lost)?;
                    self.take(&message).ok_or(End::Gone)?;
                }
            }
        };
        // Those that came with the answer.
        while let Some(message) = next_now(messages).await {
            let message = message.ok_or(End::Lost)?;
            self.take(&message).ok_or(End::Gone)?;
        }
        Ok(sequence)
    }

    /// `None`: the cache is gone.
    fn take(&mut self, message: &Msg) -> Option<()> {
        let local = self.listener.local.upgrade()?;
        let missed = match message::read(message.get_payload_bytes()) {
            Some((sequence, origin, heard)) => {
                self.listener.told(sequence);
                let missed = sequence > self.sequence.saturating_add(1);
                self.sequence = self.sequence.max(sequence);
                // The code of a key may panic.
                let told = catch_unwind(AssertUnwindSafe(|| {
                    if origin != self.listener.origin {
                        heard.iter().for_each(|heard| self.tell(&*local, *heard));
                    }
                }));
                missed || told.is_err()
            }
            // Of a version to come.
            None => true,
        };
        if missed {
            local.gap();
            self.listener.server.meters.gap();
        }
        Some(())
    }

    fn tell(&self, local: &dyn Local<K>, heard: Heard<'_>) {
        let key = |name| serde_json::from_slice::<K>(self.listener.keys.json(name));
        match heard {
            Heard::Tag(tag) => local.invalidated(Target::Tag(tag)),
            Heard::All => local.invalidated(Target::All),
            Heard::Gone(name) => match key(name) {
                Ok(key) => local.invalidated(Target::Key(&key)),
                Err(_) => local.invalidated(Target::All),
            },
            Heard::Expired(name) => match key(name) {
                Ok(key) => local.invalidated(Target::Expire(&key)),
                Err(_) => local.invalidated(Target::All),
            },
        }
    }
}

/// `None` when the connection is lost.
async fn next(messages: &mut PubSubStream) -> Option<Msg> {
    poll_fn(|cx| Pin::new(&mut *messages).poll_next(cx)).await
}

/// `None` when there is no other now.
async fn next_now(messages: &mut PubSubStream) -> Option<Option<Msg>> {
    // Unconstrained: else there could seem to be none because the task has run for long.
    tokio::task::unconstrained(poll_fn(|cx| match Pin::new(&mut *messages).poll_next(cx) {
        Poll::Ready(message) => Poll::Ready(Some(message)),
        Poll::Pending => Poll::Ready(None),
    }))
    .await
}
