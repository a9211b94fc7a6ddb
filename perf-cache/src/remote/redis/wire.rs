//! Connections for reads, each of which is read by the task that waits for the answer.
//!
//! The client's own connection has a task that reads it, through which each request and each answer
//! goes: for who waits for one answer at a time, as a round trip of reads does, that is two hand-overs
//! between threads for nothing, and it makes a value of every part of an answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisResult,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::reply::Replies;
use super::request::Request;

/// What is read at once at least: the answer to a hundred reads of small values.
const ROOM: usize = 16 * 1024;
/// How long a connection beside the wires may be without use while these are used. Servers and networks
/// close what is idle, after a minute at the earliest.
const IDLE: Duration = Duration::from_secs(10);

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Not to be used any more once an exchange was dropped or failed: answers may still come.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
}

impl Wire {
    /// The client logs in and chooses the database; then the socket is ours again.
    async fn log_in(socket: Box<dyn Socket>, info: &ConnectionInfo) -> RedisResult<Option<Self>> {
        let lent = Lent(Arc::new(Mutex::new(Some(socket))));
        let settings = info.redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP2);
        let config = AsyncConnectionConfig::new();
        drop(MultiplexedConnection::new_with_config(&settings, lent.clone(), config).await?);
        let socket = lent.socket().take();
        Ok(socket.map(|socket| Self { socket }))
    }

    #[cfg(test)]
    pub(super) fn over(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let socket = Box::new(socket);
        Self { socket }
    }

    /// Sends all calls at once and waits for their answers, one for each.
    pub(super) async fn exchange(
        &mut self,
        request: &Request,
        replies: &mut Replies,
    ) -> RedisResult<()> {
        poll_fn(|cx| Poll::Ready(self.is_silent(cx))).await?;
        replies.expect(request.calls());
        let mut unsent = request.bytes();
        poll_fn(|cx| {
            // Both at a time: a server may not read on before its answers are read.
            if let Poll::Ready(Err(error)) = self.poll_send(cx, &mut unsent) {
                return Poll::Ready(Err(error.into()));
            }
            self.poll_receive(cx, replies)
        })
        .await
    }

    /// What comes before anything was asked would be taken for an answer to what is asked now.
    fn is_silent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        match Pin::new(&mut self.socket).poll_read(cx, &mut byte) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) if byte.filled().is_empty() => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Poll::Ready(Ok(())) => Err(io::ErrorKind::InvalidData.into()),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, unsent: &mut &[u8]) -> Poll<io::Result<()>> {
        while !unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, unsent))?;
            match unsent.get(sent..) {
                Some(rest) if sent > 0 => *unsent = rest,
                _ => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        replies: &mut Replies,
    ) -> Poll<RedisResult<()>> {
        loop {
            let mut room = ReadBuf::new(replies.room(ROOM));
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room))?;
            let came = room.filled().len();
            if came == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            if replies.came(came)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// The wires that nobody waits at.
pub(super) struct Wires {
    free: VecDeque<Wire>,
    /// When the connection beside them was last used for a read.
    beside: Instant,
}

/// A connection of the client's, with so many wires beside it, if the server can be reached by them. All
/// lead to one address, wherever the server's name may lead the next time: what was invalidated at one
/// server and read from another would be stale.
pub(super) async fn open(
    client: &Client,
    count: usize,
    config: &AsyncConnectionConfig,
) -> RedisResult<(MultiplexedConnection, Wires)> {
    let mut free = VecDeque::with_capacity(count);
    let first = match count {
        0 => None,
        _ => connect(client.get_connection_info()).await?,
    };
    let connection = match first {
        None => {
            client
                .get_multiplexed_async_connection_with_config(config)
                .await?
        }
        Some((first, info)) => {
            // They end with this.
            let mut others = JoinSet::new();
            for _ in 1..count {
                let info = info.clone();
                others.spawn(async move {
                    match connect(&info).await? {
                        Some((socket, _)) => Wire::log_in(socket, &info).await,
                        None => Ok(None),
                    }
                });
            }
            let client = Client::open(info.clone())?;
            let (connection, first) = tokio::try_join!(
                client.get_multiplexed_async_connection_with_config(config),
                Wire::log_in(first, &info),
            )?;
            free.extend(first);
            while let Some(other) = others.join_next().await {
                free.extend(other.map_err(io::Error::from)??);
            }
            connection
        }
    };
    let beside = Instant::now();
    Ok((connection, Wires { free, beside }))
}

impl Wires {
    /// `None`: take the connection beside them. All are used in turn, and so is that connection now and
    /// then, so that none is idle for long while there are reads.
    pub(super) fn take(&mut self) -> Option<Wire> {
        let now = Instant::now();
        let wire = (now - self.beside < IDLE).then(|| self.free.pop_front());
        let wire = wire.flatten();
        if wire.is_none() {
            self.beside = now;
        }
        wire
    }

    /// All that was asked on it has been answered.
    pub(super) fn give_back(&mut self, wire: Wire) {
        self.free.push_back(wire);
    }

    #[cfg(test)]
    pub(super) fn clear(&mut self) {
        self.free.clear();
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }
}

/// A socket, and where it leads. `None`: the client alone knows how to talk to this server, as by TLS.
async fn connect(info: &ConnectionInfo) -> io::Result<Option<(Box<dyn Socket>, ConnectionInfo)>> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let socket = TcpStream::connect((host.as_str(), *port)).await?;
            socket.set_nodelay(true)?;
            let peer = socket.peer_addr()?;
            let address = ConnectionAddr::Tcp(peer.ip().to_string(), peer.port());
            Ok(Some((Box::new(socket), info.clone().set_addr(address))))
        }
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => {
            let socket = tokio::net::UnixStream::connect(path).await?;
            Ok(Some((Box::new(socket), info.clone())))
        }
        _ => Ok(None),
    }
}

/// A socket that can be taken back from who has it.
#[derive(Clone)]
struct Lent(Arc<Mutex<Option<Box<dyn Socket>>>>);

impl Lent {
    fn socket(&self) -> MutexGuard<'_, Option<Box<dyn Socket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll<T>(
        &self,
        poll: impl FnOnce(Pin<&mut Box<dyn Socket>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.socket().as_mut() {
            Some(socket) => poll(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_read(cx, room))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|socket| socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests;
