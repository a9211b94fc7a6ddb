//! How loads end: what is kept, counted and told.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::LoadError;
use crate::entry::TagList;
use crate::flight::{Landing, Outcome};
use crate::load::Env;
use crate::policy::Times;
use crate::remote::{Fill, Lease, Shared};
use crate::table::{Kept, Table};
use crate::value::{Previous, Value};

/// A value that a loader brought.
pub(crate) struct Loaded<V> {
    pub(crate) value: Value<V>,
    pub(crate) load_time: Duration,
    /// By which the shared tier takes it.
    pub(crate) lease: Option<Lease>,
}

/// What becomes of a value that the shared tier has.
pub(crate) enum Raised<K, V> {
    /// The load has ended with it; the table, unless that is gone.
    Kept(Option<Arc<Table<K, V>>>),
    /// The load is not to end by that: it is a refresh, and the value there is about to expire as well.
    Refused(Previous<V>),
}

/// Ends the load with a value that the shared tier has.
pub(crate) fn raise<K, V>(
    landing: &mut Landing<K, V>,
    shared: Shared<V>,
    refresh: bool,
) -> Raised<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let times = Times {
        own: None,
        at_most: Some(shared.ttl),
        load: shared.load_time,
    };
    // Once: whoever upgrades fights with all others for one counter.
    let Some(table) = landing.table() else {
        return Raised::Kept(None);
    };
    if refresh && !table.would_renew(landing.key(), times) {
        return Raised::Refused(Previous {
            value: shared.value,
            tags: shared.tags,
            etag: shared.etag,
        });
    }
    landing.env().meters.remote_hit();
    let tags = table.tags(&shared.tags);
    let kept = Kept {
        value: Arc::clone(&shared.value),
        tags: tags.clone(),
        etag: shared.etag,
        times,
        began: landing.began,
    };
    landing.end_in(
        Some(&table),
        Outcome::Loaded(shared.value, tags),
        |table, ticket, _| table.is_some_and(|table| table.keep(ticket, kept)),
    );
    Raised::Kept(Some(table))
}

/// Ends a load; what is then to be put into the shared tier.
pub(crate) fn end<K, V>(
    landing: &mut Landing<K, V>,
    loaded: Result<Loaded<V>, LoadError>,
    env: &Env<K, V>,
) -> Option<Fill<K, V>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let took = landing.began;
    match loaded {
        Ok(loaded) => {
            let Value {
                value,
                ttl,
                tags,
                etag,
            } = loaded.value;
            let names = tags;
            let tags = landing
                .table()
                .map_or_else(TagList::default, |table| table.tags(&names));
            let kept = Kept {
                value: Arc::clone(&value),
                tags: tags.clone(),
                etag: etag.clone(),
                times: Times {
                    own: ttl,
                    at_most: None,
                    load: loaded.load_time,
                },
                began: landing.began,
            };
            let stamp = landing.stamp();
            let outcome = Outcome::Loaded(Arc::clone(&value), tags.clone());
            let listed = landing.end(outcome, |table, ticket, _| {
                let listed = table.is_some_and(|table| {
                    table.keep(ticket, kept) && table.are_current(stamp, &tags)
                });
                env.meters.load_succeeded(listed, loaded.load_time);
                listed
            });
            // No lease, no fill.
            let lease = loaded.lease.filter(|_| listed)?;
            Some(Fill {
                key: landing.key().clone(),
                value,
                tags: names,
                etag,
                ttl,
                load_time: loaded.load_time,
                lease: Some(lease),
            })
        }
        Err(error) => {
            let outcome = Outcome::Failed(error.clone());
            landing.end(outcome, |table, ticket, heard| {
                let now = table.map(|table| {
                    table.keep_failure(ticket, &error);
                    table.now()
                });
                let took = now.map_or(Duration::ZERO, |now| now.since(took));
                env.meters.load_failed(&error, heard, took);
            });
            None
        }
    }
}
