//! What becomes of an answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::frame::{About, Format, Unread};
use super::journal::{Before, Journal};
use super::lookup::{Found, TOKEN};
use super::server::Server;
use crate::remote::{Lease, Read, Shared};

/// Decides whether what was found may be served, and decodes it.
pub(super) struct Reader {
    pub(super) server: Arc<Server>,
    pub(super) journal: Arc<Journal>,
    pub(super) format: Format,
    /// How long a value is kept there at most.
    pub(super) ttl: Duration,
}

impl Reader {
    pub(super) fn found<V: DeserializeOwned>(
        &self,
        name: &[u8],
        found: Found<'_>,
        before: &Before,
        lease: bool,
    ) -> Read<V> {
        match self.found_with_lease(name, found, before) {
            Read::Missing(_) if !lease => Read::Missing(None),
            read => read,
        }
    }

    fn found_with_lease<V: DeserializeOwned>(
        &self,
        name: &[u8],
        (when, value): Found<'_>,
        before: &Before,
    ) -> Read<V> {
        let Some((token, value)) = value.and_then(|value| value.split_first_chunk::<TOKEN>())
        else {
            return Read::Missing(None);
        };
        let lease = Lease {
            token: *token,
            stamp: when.sequence,
        };
        let missing = || {
            if self.journal.blocks(name, &[], before) {
                Read::Unavailable
            } else {
                Read::Missing(Some(lease))
            }
        };
        let Some((expires, frame)) = value.split_first_chunk() else {
            return missing();
        };
        let stays = u64::from_be_bytes(*expires).saturating_sub(when.now);
        // Not worth decoding if everything was invalidated since.
        let stamp = frame.first_chunk().map(|stamp| u64::from_be_bytes(*stamp));
        if stamp.is_some_and(|stamp| !(when.all..=when.sequence).contains(&stamp)) {
            return missing();
        }
        match self.decode(frame) {
            Ok((_, about)) if self.journal.blocks(name, &about.tags, before) => Read::Unavailable,
            Ok((value, about)) => Read::Value(Shared {
                value: Arc::new(value),
                tags: about.tags,
                etag: about.etag,
                // Not longer than here, whoever put it there.
                ttl: Duration::from_millis(stays).min(self.ttl),
                load_time: about.load_time,
                lease,
            }),
            Err(unread) => {
                if unread == Unread::Corrupt {
                    let cache = self.server.meters.cache();
                    tracing::debug!(cache, "a value of the shared tier cannot be read");
                    self.server.meters.error();
                }
                missing()
            }
        }
    }

    /// A `Deserialize` that panics does not know what it reads: the panic hook has reported it, and for the
    /// cache it is a value that cannot be read.
    fn decode<V: DeserializeOwned>(&self, frame: &[u8]) -> Result<(V, About), Unread> {
        // Unwind safe: what it was reading is only dropped.
        let read = catch_unwind(AssertUnwindSafe(|| self.format.read(frame)));
        read.unwrap_or(Err(Unread::Corrupt))
    }
}
