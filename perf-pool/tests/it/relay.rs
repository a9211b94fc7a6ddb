//! A TCP relay in front of Postgres that reads along and can fall silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    pings: AtomicUsize,
    silent: AtomicBool,
    /// Connections of a lower number are silent for good.
    silent_below: AtomicUsize,
}

/// Ends its connections when dropped.
pub(crate) struct Relay {
    pub(crate) url: String,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// In front of the server at `url`, whose connections must not be encrypted.
    pub(crate) async fn to(url: &str) -> Self {
        let (head, tail) = url.split_once('@').unwrap();
        let (server, rest) = tail.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("{head}@127.0.0.1:{port}/{rest}");
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server.to_owned(), Arc::clone(&seen)));
        Self {
            url,
            seen,
            _tasks: tasks,
        }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Pings so far: Sync messages that follow no query.
    pub(crate) fn pings(&self) -> usize {
        self.seen.pings.load(Ordering::SeqCst)
    }

    /// From now on nothing passes on the connections there are; new ones work.
    pub(crate) fn silence_those_there_are(&self) {
        self.seen
            .silent_below
            .store(self.connections(), Ordering::SeqCst);
    }

    /// From now on nothing passes on the connections there are, and they stay open; with `false`
    /// new ones work again.
    pub(crate) fn silence(&self, silent: bool) {
        self.seen.silent.store(silent, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, server: String, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&server).await else {
            continue;
        };
        let number = seen.connections.fetch_add(1, Ordering::SeqCst);
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        connections.spawn(requests(from_client, to_server, Arc::clone(&seen), number));
        connections.spawn(replies(from_server, to_client, Arc::clone(&seen), number));
    }
}

/// Passes whole messages on and counts the pings among them.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Arc<Seen>, number: usize) {
    let mut between_queries = false;
    let mut started = false;
    loop {
        // The first message has no kind.
        let kind = if started {
            from.read_u8().await.ok()
        } else {
            Some(0)
        };
        let (Some(kind), Ok(length)) = (kind, from.read_u32().await) else {
            return;
        };
        let mut body = vec![0; length as usize - 4];
        if from.read_exact(&mut body).await.is_err() {
            return;
        }
        silence(&seen, number).await;
        if kind == b'S' && between_queries {
            seen.pings.fetch_add(1, Ordering::SeqCst);
        }
        // After the startup, a Sync or a simple query the server owes nothing.
        between_queries = matches!(kind, 0 | b'S' | b'Q');
        let mut message = Vec::with_capacity(body.len() + 5);
        if started {
            message.push(kind);
        }
        started = true;
        message.extend(length.to_be_bytes());
        message.extend(body);
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Arc<Seen>, number: usize) {
    let mut buffer = vec![0; 8192];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        silence(&seen, number).await;
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Never returns for a connection on which something was to pass in silence.
async fn silence(seen: &Seen, number: usize) {
    if seen.silent.load(Ordering::SeqCst) || number < seen.silent_below.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}
