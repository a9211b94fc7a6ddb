//! The node as the tier of a cache.

use super::*;

impl<K, V> Remote<K, V> for Node<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn read<'a>(&'a self, keys: &'a [K], lease: bool) -> BoxFuture<'a, Vec<Read<V>>> {
        Box::pin(async move {
            let unavailable = || keys.iter().map(|_| Read::Unavailable).collect();
            if self.is_down() {
                return unavailable();
            }
            self.reads.lock().unwrap().push(keys.to_vec());
            // What is invalidated after this line may still be served by this read.
            let pending: Vec<_> = self.mine().pending.iter().map(|(_, s)| s.clone()).collect();
            self.travel().await;
            let read: Vec<_> = {
                let mut state = self.server.state();
                keys.iter().map(|key| state.read(key, lease)).collect()
            };
            self.travel().await;
            if self.is_down() {
                return unavailable();
            }
            let blocked = |key: &K, tags: &[Arc<str>]| {
                pending.iter().any(|said| match said {
                    Said::Key(said) | Said::Expire(said) => said == key,
                    Said::Tag(tag) => tags.contains(tag),
                    Said::All => true,
                })
            };
            let allowed = keys.iter().zip(read).map(|(key, read)| match read {
                Read::Value(shared) if blocked(key, &shared.tags) => Read::Unavailable,
                Read::Missing(_) if blocked(key, &[]) => Read::Unavailable,
                read => read,
            });
            allowed.collect()
        })
    }

    fn read_then(self: Arc<Self>, key: &K, lease: bool, then: Then<V>) {
        let key = key.clone();
        tokio::spawn(async move {
            let read = self.read(&[key], lease).await.pop();
            then(read.unwrap_or(Read::Unavailable));
        });
    }

    fn fill(&self, fills: Vec<Fill<K, V>>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.travel().await;
            if !self.is_down() {
                for fill in fills {
                    self.fills.fetch_add(1, SeqCst);
                    self.server.state().fill(fill);
                }
                self.travel().await;
            }
        })
    }

    fn insert(&self, insert: Fill<K, V>) -> BoxFuture<'_, Result<Invalidation, CacheError>> {
        Box::pin(async move {
            let key = insert.key.clone();
            let store = |state: &mut State<K, V>, stamp| {
                let slot = Slot {
                    token: token(),
                    stored: Some(stored(insert, stamp)),
                };
                state.slots.insert(key.clone(), slot);
            };
            if !self.tell(Said::Key(key.clone()), store).await {
                return Ok(Invalidation::Deferred);
            }
            Ok(Invalidation::Applied)
        })
    }

    fn invalidate<'a>(
        &'a self,
        target: Target<'a, K>,
    ) -> BoxFuture<'a, Result<Invalidation, CacheError>> {
        Box::pin(async move {
            Ok(match self.tell(Said::of(target), |_, _| ()).await {
                true => Invalidation::Applied,
                false => Invalidation::Deferred,
            })
        })
    }

    fn listen(&self, local: Weak<dyn Local<K>>) {
        let mut mine = self.mine();
        assert!(mine.local.replace(local).is_none(), "it listens already");
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.tell_deferred() })
    }
}
