//! Loads of many keys by one call.

use std::collections::HashMap;
use std::hash::Hash;

use crate::LoadError;
use crate::flight::{Landing, Outcome};
use crate::guard::{caught, timed};
use crate::land::{Loaded, Raised, end, raise};
use crate::load::{BulkLoader, Cause, Env, place, sweep};
use crate::remote::{Fill, Read};
use crate::value::Value;

/// Loads many keys by one call.
pub(crate) async fn load_many<K, V>(
    mut landings: Vec<Landing<K, V>>,
    cause: Cause,
    loader: BulkLoader<K, V>,
    env: Env<K, V>,
) where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let stop = env.stop.clone();
    // Those that end by what the shared tier has are gone at the end.
    let table = landings.first().map(Landing::weak_table);
    let fills = tokio::select! {
        biased;
        () = stop.cancelled() => {
            for landing in &mut landings {
                end(landing, Err(LoadError::Closed), &env);
            }
            return;
        }
        fills = many(&mut landings, cause, loader, &env) => fills,
    };
    if let Some(remote) = env.remote.clone().filter(|_| !fills.is_empty()) {
        tokio::select! {
            biased;
            () = stop.cancelled() => (),
            () = remote.fill(fills) => (),
        }
    }
    let table = table.and_then(|table| table.upgrade());
    if let Some(table) = table.filter(|table| table.is_sweep_due()) {
        sweep(table).await;
    }
}

async fn many<K, V>(
    landings: &mut Vec<Landing<K, V>>,
    cause: Cause,
    loader: BulkLoader<K, V>,
    env: &Env<K, V>,
) -> Vec<Fill<K, V>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let mut leases = HashMap::new();
    if let Some(remote) = &env.remote {
        let keys: Vec<K> = landings.iter().map(|l| l.key().clone()).collect();
        let behind = matches!(cause, Cause::Behind(_));
        let mut reads = remote.read(&keys, true).await.into_iter();
        landings.retain_mut(|landing| match reads.next() {
            Some(Read::Value(shared)) => {
                leases.insert(landing.key().clone(), shared.lease);
                matches!(raise(landing, shared, behind), Raised::Refused(_))
            }
            Some(Read::Missing(lease)) => {
                env.meters.remote_miss();
                leases.extend(lease.map(|lease| (landing.key().clone(), lease)));
                true
            }
            Some(Read::Unavailable) | None => {
                env.meters.remote_error();
                true
            }
        });
        if landings.is_empty() {
            return Vec::new();
        }
    }
    let place = match cause {
        Cause::Behind(place) => Ok(place),
        Cause::Missing => match place(landings, env).await {
            Some(place) => place,
            None => return Vec::new(),
        },
    };
    // Who wants these now loads them by another load.
    landings.retain(|landing| !landing.is_over());
    let began = tokio::time::Instant::now();
    let loaded = match place {
        Ok(place) => {
            env.meters.load_started();
            let keys = landings.iter().map(|l| l.key().clone()).collect();
            let loaded = timed(caught(move || loader(keys)), env.load_timeout).await;
            drop(place);
            loaded
        }
        Err(error) => Err(error),
    };
    let load_time = began.elapsed();
    let mut loaded = match loaded {
        Ok(loaded) => loaded.into_iter().collect::<HashMap<K, Value<V>>>(),
        Err(error) => {
            for landing in landings {
                end(landing, Err(error.clone()), env);
            }
            return Vec::new();
        }
    };
    let mut fills = Vec::with_capacity(landings.len());
    for landing in landings {
        let Some(value) = loaded.remove(landing.key()) else {
            landing.end(Outcome::Absent, |table, ticket, _| {
                table.is_some_and(|table| table.unlist(ticket))
            });
            continue;
        };
        let lease = leases.remove(landing.key());
        let loaded = Loaded {
            value,
            load_time,
            lease,
        };
        fills.extend(end(landing, Ok(loaded), env));
    }
    fills
}
