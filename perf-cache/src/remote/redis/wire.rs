//! Connections for reads, each of which is read by the task that waits for the answer.
//!
//! The client's own connection has a task that reads it, through which each request and each answer
//! goes: for who waits for one answer at a time, as a round trip of reads does, that is two hand-overs
//! between threads for nothing, and it makes a value of every part of an answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, ProtocolVersion, RedisResult};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::{Socket, dial};
use super::reply::Replies;
use super::request::Request;

/// What is read at once at least: the answer to a hundred reads of small values.
const ROOM: usize = 16 * 1024;

/// Not to be used any more once an exchange was dropped or failed: answers may still come.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
}

impl Wire {
    /// One that leads there. `None`: there can be none.
    pub(super) async fn open(to: &ConnectionInfo) -> RedisResult<Option<Self>> {
        match dial(to).await? {
            Some((socket, _)) => Self::log_in(socket, to).await,
            None => Ok(None),
        }
    }

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

    #[cfg(test)]
    pub(super) fn socket(&mut self) -> &mut (dyn Socket + 'static) {
        &mut *self.socket
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
