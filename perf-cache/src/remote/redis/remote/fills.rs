//! Puts what was loaded into Redis.

use serde::Serialize;

use super::RedisRemote;
use crate::remote::Fill;
use crate::remote::redis::frame::About;
use crate::remote::redis::journal::Token;
use crate::remote::redis::script::{FILL, MOST_KEYS};

impl<K: Serialize, V: Serialize> RedisRemote<K, V> {
    pub(super) async fn fill_all(&self, fills: Vec<Fill<K, V>>) {
        if self.is_closed() || !self.server.is_up() {
            return;
        }
        let ready = fills.iter().filter_map(|fill| self.ready(fill));
        let ready: Vec<Ready> = ready.collect();
        if ready.is_empty() {
            return;
        }
        let mut calls = redis::pipe();
        for some in ready.chunks(MOST_KEYS) {
            let names = some.iter().map(|fill| fill.name.as_slice());
            let mut call = FILL.call(self.keys.state().as_bytes(), names);
            for fill in some {
                call.arg(fill.token.as_slice()).arg(&fill.frame);
                call.arg(fill.stays);
            }
            calls.add_command(call);
        }
        // It is counted, and a miss.
        let _ = self.server.exchange(&calls).await;
    }

    /// `None`: it is not to be put there.
    fn ready(&self, fill: &Fill<K, V>) -> Option<Ready> {
        let lease = fill.lease?;
        let longest = self.reader.ttl;
        let stays = fill.ttl.map_or(longest, |ttl| ttl.min(longest));
        // Redis does not take less than a millisecond, nor more than its clock has.
        let stays = u64::try_from(stays.as_millis()).unwrap_or(u64::MAX);
        let stays = stays.min(LONGEST_MS);
        if stays == 0 {
            return None;
        }
        let name = self.keys.value(&fill.key).ok()?;
        let about = About {
            stamp: lease.stamp,
            tags: fill.tags.clone(),
            etag: fill.etag.clone(),
            load_time: fill.load_time,
        };
        match self.reader.format.write(&*fill.value, &about) {
            Ok(frame) => Some(Ready {
                name,
                token: lease.token,
                frame,
                stays,
            }),
            Err(error) => {
                let cache = self.server.meters.cache();
                tracing::warn!(cache, %error, "a value cannot be put into the shared tier");
                self.server.meters.error();
                None
            }
        }
    }
}

/// What Redis takes.
struct Ready {
    name: Vec<u8>,
    token: Token,
    frame: Vec<u8>,
    stays: u64,
}

/// A hundred years.
const LONGEST_MS: u64 = 100 * 365 * 24 * 3_600 * 1_000;
