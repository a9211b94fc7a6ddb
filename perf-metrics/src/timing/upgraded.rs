use std::sync::Arc;

use metrics::Key;

use super::cells::Present;
use super::names::{ROUTE, UPGRADED_CONNECTIONS};
use super::routes::Route;
use super::source::Source;
use crate::shard::Shard;

/// A connection that was upgraded, such as to a WebSocket; counted in
/// `http_server_upgraded_connections` until this is dropped. Made by
/// [`TimingLayer::upgraded`](super::TimingLayer::upgraded).
#[derive(Debug)]
#[must_use = "the connection is counted as long as this is kept"]
pub struct UpgradedConnection(Count);

#[derive(Debug)]
enum Count {
    Kept(&'static Present),
    /// There was no recorder to count for.
    Unkept(Present),
}

impl UpgradedConnection {
    pub(super) fn new(route: &'static Route, source: &Source) -> Self {
        let fetch = || {
            let route = metrics::Label::new(ROUTE, Arc::clone(&route.name));
            let key = Key::from_parts(UPGRADED_CONNECTIONS, vec![route]);
            Present::fetch(source, &key)
        };
        let count = match route.upgraded.get() {
            Some(kept) => Count::Kept(kept),
            None => match fetch() {
                (present, true) => Count::Kept(route.upgraded.get_or_init(|| present)),
                (present, false) => Count::Unkept(present),
            },
        };
        count.present().enter(Shard::current());
        Self(count)
    }
}

impl Count {
    fn present(&self) -> &Present {
        match self {
            Self::Kept(present) => present,
            Self::Unkept(present) => present,
        }
    }
}

impl Drop for UpgradedConnection {
    fn drop(&mut self) {
        self.0.present().leave(Shard::current());
    }
}
