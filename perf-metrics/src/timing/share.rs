use std::iter;
use std::sync::{Arc, OnceLock, Weak};

use super::table::Table;
use crate::shard::{SHARDS, Shard};

/// All shares of a table, which it keeps alive.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    first: Arc<Share>,
    all: Arc<[Arc<Share>]>,
}

/// A reference to a table whose count is one thread's.
///
/// Services are cloned for each request (by axum), and each request holds on to its table until
/// the end of its body. Were these clones of one `Arc`, all threads would write to one counter,
/// and wait for each other; so each shard has an `Arc` of its own. On cache lines of its own, as
/// the counter is beside it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Share {
    table: Arc<Table>,
    shard: usize,
    /// By shard; weak, as shares would keep each other alive for ever.
    all: OnceLock<Arc<[Weak<Share>]>>,
}

impl Share {
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The share of this thread; another one where that is gone, as are those of a layer that is
    /// dropped with the service it made first: slower, not wrong.
    pub(super) fn here(self: &Arc<Self>, shard: Shard) -> Arc<Self> {
        if self.shard == shard.index() {
            return Arc::clone(self);
        }
        let all = self.all.get();
        let here = all.and_then(|all| all.get(shard.index())?.upgrade());
        here.unwrap_or_else(|| Arc::clone(self))
    }

    /// Whether both are of one table.
    pub(super) fn same_table(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}

impl Shares {
    pub(super) fn new(table: Table) -> Self {
        let table = Arc::new(table);
        let share = |shard| {
            Arc::new(Share {
                table: Arc::clone(&table),
                shard,
                all: OnceLock::new(),
            })
        };
        let first = share(0);
        let others = (1..SHARDS).map(share);
        let all: Arc<[_]> = iter::once(Arc::clone(&first)).chain(others).collect();
        let weak: Arc<[_]> = all.iter().map(Arc::downgrade).collect();
        for share in all.iter() {
            share.all.get_or_init(|| Arc::clone(&weak));
        }
        Self { first, all }
    }

    pub(super) fn table(&self) -> &Table {
        &self.first.table
    }

    /// What a service that the layer makes holds.
    pub(super) fn handle(&self) -> Handle {
        Handle {
            share: Arc::clone(&self.first),
            _all: Some(Arc::clone(&self.all)),
        }
    }
}

/// What a service holds of its table. The one that the layer made keeps all shares alive; its
/// clones have that of the thread that cloned it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) share: Arc<Share>,
    _all: Option<Arc<[Arc<Share>]>>,
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self {
            share: self.share.here(Shard::current()),
            _all: None,
        }
    }
}
