use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::LoadError;

/// All values of a key, in the order of the query.
pub(super) type Group<V> = Arc<[Arc<V>]>;

/// The groups of all keys of a batch.
pub(super) type Outcome<K, V> = Result<Arc<HashMap<K, Group<V>>>, LoadError>;

/// Keys that one query is asked for, and the place where its callers wait for it.
pub(super) struct Batch<K, V> {
    pub(super) id: u64,
    pub(super) outcome: watch::Sender<Option<Outcome<K, V>>>,
    pub(super) full: Notify,
    /// Whether the task that opened it has had another turn, and so all that it joined with.
    pub(super) turned: watch::Sender<bool>,
}

/// What is known of a key.
struct Slot<K, V> {
    kept: Option<Group<V>>,
    /// The batch that later callers join. Not forgotten before it is sent, so that no batch has a
    /// key twice.
    coming: Option<Arc<Batch<K, V>>>,
}

/// Where the answer for a key comes from.
pub(super) enum Answer<K, V> {
    Kept(Group<V>),
    Coming(Arc<Batch<K, V>>),
}

/// What a loader keeps and waits for; only ever touched under the loader's lock.
///
/// No destructor of a value runs in here: what is removed is given back, to be dropped after the
/// lock.
pub(super) struct Table<K, V> {
    slots: HashMap<K, Slot<K, V>>,
    /// The keys of the batches that are not sent yet.
    unsent: HashMap<u64, Vec<K>>,
    /// The batch that takes further keys; one of those not sent.
    open: Option<Arc<Batch<K, V>>>,
    next_id: u64,
    /// What the kept groups weigh together.
    weight: usize,
    max_kept: usize,
}

impl<K: Hash + Eq + Clone, V> Table<K, V> {
    pub(super) fn new(max_kept: usize) -> Self {
        Self {
            slots: HashMap::new(),
            unsent: HashMap::new(),
            open: None,
            next_id: 0,
            weight: 0,
            max_kept,
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.weight
    }

    /// The answer for a key; one that is neither kept nor coming is put into a batch, which is
    /// `opened` if it is a new one.
    pub(super) fn ask(
        &mut self,
        key: &K,
        max_batch_size: usize,
        opened: &mut Vec<Arc<Batch<K, V>>>,
    ) -> Answer<K, V> {
        match self.slots.get(key) {
            Some(Slot {
                kept: Some(group), ..
            }) => return Answer::Kept(Arc::clone(group)),
            Some(Slot {
                coming: Some(batch),
                ..
            }) => return Answer::Coming(Arc::clone(batch)),
            _ => {}
        }
        let batch = match &self.open {
            Some(batch) => Arc::clone(batch),
            None => {
                let batch = self.open_batch();
                opened.push(Arc::clone(&batch));
                batch
            }
        };
        let slot = Slot {
            kept: None,
            coming: Some(Arc::clone(&batch)),
        };
        self.slots.insert(key.clone(), slot);
        let keys = self.unsent.entry(batch.id).or_default();
        keys.push(key.clone());
        if keys.len() >= max_batch_size {
            self.open = None;
            batch.full.notify_one();
        }
        Answer::Coming(batch)
    }

    fn open_batch(&mut self) -> Arc<Batch<K, V>> {
        let batch = Arc::new(Batch {
            id: self.next_id,
            outcome: watch::Sender::new(None),
            full: Notify::new(),
            turned: watch::Sender::new(false),
        });
        self.next_id += 1;
        self.open = Some(Arc::clone(&batch));
        batch
    }

    /// How many keys an open batch has; `None` where it takes no more.
    pub(super) fn gathered(&self, batch: &Batch<K, V>) -> Option<usize> {
        let open = self.open.as_ref().is_some_and(|open| open.id == batch.id);
        open.then(|| self.unsent.get(&batch.id).map_or(0, Vec::len))
    }

    /// Takes the keys of a batch that is to be sent now; `None` where nobody waits for it.
    pub(super) fn send(&mut self, batch: &Batch<K, V>) -> Option<Vec<K>> {
        let waited_for = batch.outcome.receiver_count() > 0;
        waited_for.then(|| self.close(batch))
    }

    /// Ends a batch that nobody waits for before it is sent; false where somebody does.
    pub(super) fn abandon(&mut self, batch: &Batch<K, V>) -> bool {
        let abandoned = batch.outcome.receiver_count() == 0;
        if abandoned {
            let keys = self.close(batch);
            self.settle(batch, keys, &Err(LoadError::Closed));
        }
        abandoned
    }

    /// Takes the keys of a batch; from now on no key is added to it.
    pub(super) fn close(&mut self, batch: &Batch<K, V>) -> Vec<K> {
        if self.open.as_ref().is_some_and(|open| open.id == batch.id) {
            self.open = None;
        }
        self.unsent.remove(&batch.id).unwrap_or_default()
    }

    /// Keeps what a batch loaded for those of its keys that still wait for it.
    pub(super) fn settle(&mut self, batch: &Batch<K, V>, keys: Vec<K>, outcome: &Outcome<K, V>) {
        for key in keys {
            let Some(slot) = self.slots.get_mut(&key) else {
                continue;
            };
            if slot.coming.as_ref().is_none_or(|it| it.id != batch.id) {
                continue;
            }
            slot.coming = None;
            if slot.kept.is_some() {
                continue;
            }
            let group = outcome.as_ref().ok().and_then(|groups| groups.get(&key));
            match group {
                Some(group) if self.weight + weight(group) <= self.max_kept => {
                    self.weight += weight(group);
                    slot.kept = Some(Arc::clone(group));
                }
                _ => {
                    self.slots.remove(&key);
                }
            }
        }
    }

    /// Forgets a key: who asks from now on gets nothing from before.
    #[must_use = "drop it after the lock"]
    pub(super) fn clear(&mut self, key: &K) -> Option<Group<V>> {
        let slot = self.slots.get_mut(key)?;
        let kept = slot.kept.take();
        self.weight -= kept.as_ref().map_or(0, weight);
        // A batch that is not sent yet sees all that happened until now: later callers may join.
        slot.coming
            .take_if(|batch| !self.unsent.contains_key(&batch.id));
        if slot.coming.is_none() {
            self.slots.remove(key);
        }
        kept
    }

    /// Keeps a group that its caller has. Returns what is not kept: the former group, or, where
    /// the table is full, both.
    #[must_use = "drop it after the lock"]
    pub(super) fn prime(&mut self, key: K, group: Group<V>) -> [Option<Group<V>>; 2] {
        let former = self.clear(&key);
        if self.weight + weight(&group) > self.max_kept {
            return [former, Some(group)];
        }
        self.weight += weight(&group);
        let slot = self.slots.entry(key).or_insert(Slot {
            kept: None,
            coming: None,
        });
        slot.kept = Some(group);
        [former, None]
    }
}

fn weight<V>(group: &Group<V>) -> usize {
    group.len().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(values: &[u8]) -> Group<u8> {
        values.iter().copied().map(Arc::new).collect()
    }

    fn coming(table: &mut Table<u8, u8>, key: u8) -> Arc<Batch<u8, u8>> {
        match table.ask(&key, 2, &mut Vec::new()) {
            Answer::Coming(batch) => batch,
            Answer::Kept(group) => panic!("{key} is kept: {group:?}"),
        }
    }

    fn kept(table: &mut Table<u8, u8>, key: u8) -> Option<Group<u8>> {
        table.slots.get(&key).and_then(|slot| slot.kept.clone())
    }

    #[test]
    fn a_full_batch_takes_no_more_keys() {
        let mut table = Table::new(10);
        let first = coming(&mut table, 1);
        assert_eq!(coming(&mut table, 1).id, first.id);
        assert_eq!(table.gathered(&first), Some(1));
        assert_eq!(coming(&mut table, 2).id, first.id);
        assert_eq!(table.gathered(&first), None);
        let second = coming(&mut table, 3);
        assert_ne!(second.id, first.id);
        assert_eq!(coming(&mut table, 2).id, first.id);
        assert_eq!(table.close(&first), [1, 2]);
        assert_eq!(table.close(&second), [3]);
    }

    #[test]
    fn a_key_cleared_while_its_query_runs_is_not_kept_and_asked_for_anew() {
        let mut table = Table::new(10);
        let old = coming(&mut table, 1);
        assert!(table.clear(&1).is_none());
        assert_eq!(coming(&mut table, 1).id, old.id, "it is not sent yet");
        let keys = table.close(&old);
        assert!(table.clear(&1).is_none());
        let new = coming(&mut table, 1);
        assert_ne!(new.id, old.id);
        let groups = |value| Ok(Arc::new(HashMap::from([(1, group(&[value]))])));
        table.settle(&old, keys, &groups(1));
        assert_eq!(coming(&mut table, 1).id, new.id);
        let keys = table.close(&new);
        table.settle(&new, keys, &groups(2));
        assert_eq!(kept(&mut table, 1), Some(group(&[2])));
    }

    #[test]
    fn a_primed_key_is_neither_overwritten_nor_asked_for_twice_in_a_batch() {
        let mut table = Table::new(10);
        let batch = coming(&mut table, 1);
        assert_eq!(table.prime(1, group(&[7])), [None, None]);
        assert_eq!(table.clear(&1), Some(group(&[7])));
        assert_eq!(coming(&mut table, 1).id, batch.id);
        let keys = table.close(&batch);
        assert_eq!(keys, [1]);
        assert_eq!(table.prime(1, group(&[8])), [None, None]);
        let loaded = Ok(Arc::new(HashMap::from([(1, group(&[1]))])));
        table.settle(&batch, keys, &loaded);
        assert_eq!(kept(&mut table, 1), Some(group(&[8])));
    }

    #[test]
    fn what_is_kept_never_weighs_more_than_it_may() {
        let mut table = Table::new(3);
        assert_eq!(table.prime(1, group(&[])), [None, None]);
        assert_eq!(table.prime(2, group(&[1, 2])), [None, None]);
        assert_eq!(table.kept(), 3);
        assert_eq!(table.prime(3, group(&[])), [None, Some(group(&[]))]);
        assert_eq!(
            table.prime(2, group(&[1, 2, 3])),
            [Some(group(&[1, 2])), Some(group(&[1, 2, 3]))]
        );
        assert_eq!((table.kept(), kept(&mut table, 2)), (1, None));
        let batch = coming(&mut table, 2);
        coming(&mut table, 4);
        let keys = table.close(&batch);
        let groups = HashMap::from([(2, group(&[1, 2])), (4, group(&[]))]);
        table.settle(&batch, keys, &Ok(Arc::new(groups)));
        assert_eq!((table.kept(), kept(&mut table, 4)), (3, None));
        assert_eq!(table.slots.len(), 2);
        assert!(table.unsent.is_empty());
    }

    #[test]
    fn a_batch_that_nobody_waits_for_leaves_nothing() {
        let mut table = Table::new(10);
        let batch = coming(&mut table, 1);
        let receiver = batch.outcome.subscribe();
        assert!(!table.abandon(&batch));
        drop(receiver);
        assert_eq!(table.send(&batch), None);
        assert!(table.abandon(&batch));
        assert!(table.slots.is_empty() && table.unsent.is_empty() && table.open.is_none());
    }
}
