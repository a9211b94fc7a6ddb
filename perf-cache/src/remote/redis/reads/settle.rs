//! What becomes of the answers of a round trip.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{Ask, Inner, Of, One};
use crate::remote::redis::lookup::{Answers, Found};

/// A longer value, in bytes, is decoded in a task of its own: others have come with it.
const LONG: usize = 16 * 1024;

impl<V: DeserializeOwned + Send + Sync + 'static> Inner<V> {
    /// Says what was found, to each of those who asked. Those whom that does not settle come back, for the
    /// script; with them the part of the keys that plain reads did not settle.
    pub(super) fn settle_all(
        self: &Arc<Self>,
        asks: &mut Vec<Ask<V>>,
        mut plain: Answers<'_>,
        mut script: Answers<'_>,
    ) -> (Vec<Ask<V>>, f32) {
        let (mut keys, mut open, mut again) = (0, 0, Vec::new());
        for ask in asks.drain(..) {
            keys += ask.names().len();
            again.extend(match ask.by_script {
                true => self.settle(ask, &mut script, &mut open),
                false => self.settle(ask, &mut plain, &mut open),
            });
        }
        (again, open as f32 / keys as f32)
    }

    /// The same of one; counts the keys that are not settled by plain reads.
    fn settle(
        self: &Arc<Self>,
        mut ask: Ask<V>,
        found: &mut Answers<'_>,
        open: &mut usize,
    ) -> Option<Ask<V>> {
        let lease = ask.lease;
        let settles = |found: &Option<Found<'_>>| {
            let settled = |(when, value): &Found<'_>| when.settles(*value, lease);
            found.as_ref().is_some_and(settled)
        };
        match ask.of {
            Of::One(one) => {
                let found = found.next().flatten();
                let unsettled = !settles(&found);
                *open += usize::from(unsettled);
                if unsettled && !ask.by_script {
                    ask.of = Of::One(one);
                    ask.by_script = true;
                    return Some(ask);
                }
                // Or the script does not say what it was to.
                if let Some(found) = found {
                    self.tell(one, found, lease);
                }
            }
            Of::Many(names, answer) => {
                let found: Vec<Option<Found<'_>>> = found.take(names.len()).collect();
                let unsettled = found.iter().filter(|found| !settles(found)).count();
                *open += unsettled;
                if unsettled > 0 && !ask.by_script {
                    ask.of = Of::Many(names, answer);
                    ask.by_script = true;
                    return Some(ask);
                }
                let copied = |found: Option<Found<'_>>| {
                    found.map(|(when, value)| (when, value.map(<[u8]>::to_vec)))
                };
                let found: Option<Vec<_>> = found.into_iter().map(copied).collect();
                // Or the caller is gone.
                let _ = found.map(|found| answer.send((names, found)));
            }
        }
        None
    }

    fn tell(self: &Arc<Self>, mut one: One<V>, found: Found<'_>, lease: bool) {
        let (when, value) = found;
        let Some(value) = value.filter(|value| value.len() > LONG) else {
            let read = self.reader.found(&one.name, found, &one.before, lease);
            return one.tell(read);
        };
        let (value, reader) = (value.to_vec(), Arc::clone(&self.reader));
        let tell = async move {
            let found = (when, Some(value.as_slice()));
            let read = reader.found(&one.name, found, &one.before, lease);
            one.tell(read);
        };
        self.tasks.spawn_on(tell, &self.runtime);
    }
}
