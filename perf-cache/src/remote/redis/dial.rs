//! Sockets to where a server is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long an address is waited for before the next of the same name is tried beside it.
const STAGGER: Duration = Duration::from_millis(50);

pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A socket, and where it leads. `None`: the client alone knows how to talk to this server, as by TLS.
pub(super) async fn dial(
    info: &ConnectionInfo,
) -> io::Result<Option<(Box<dyn Socket>, ConnectionInfo)>> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let addresses = lookup_host((host.as_str(), *port)).await?.collect();
            let socket = first_of(addresses, TcpStream::connect).await?;
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

/// What comes first of the addresses, each of which is tried a moment after the one before, or as soon as
/// that has failed.
async fn first_of<S, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<S>
where
    S: Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut left = addresses.into_iter().peekable();
    // They end with this.
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        match left.next() {
            Some(address) => drop(attempts.spawn(connect(address))),
            None if attempts.is_empty() => return Err(failure),
            None => (),
        }
        let next = Instant::now() + STAGGER;
        tokio::select! {
            Some(done) = attempts.join_next() => match done.map_err(io::Error::from).flatten() {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            },
            () = sleep_until(next), if left.peek().is_some() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const ADDRESSES: [u16; 3] = [1, 2, 3];

    fn addresses() -> Vec<SocketAddr> {
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        ADDRESSES.map(address).to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_costs_a_moment() {
        let began = Instant::now();
        let connect = |address: SocketAddr| async move {
            match address.port() {
                3 => Ok(address.port()),
                _ => pending().await,
            }
        };
        let connecting = first_of(addresses(), connect);
        let connected = tokio::time::timeout(Duration::from_secs(1), connecting).await;
        assert_eq!(connected.expect("it waits for ever").unwrap(), 3);
        assert_eq!(began.elapsed(), 2 * STAGGER);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_costs_nothing_and_the_first_that_answers_is_taken() {
        let began = Instant::now();
        let connect = |address: SocketAddr| async move {
            match address.port() {
                1 => Err(io::ErrorKind::ConnectionRefused.into()),
                // After the last is tried, which would answer later.
                port => {
                    tokio::time::sleep(STAGGER * 3 / 2).await;
                    Ok(port)
                }
            }
        };
        assert_eq!(first_of(addresses(), connect).await.unwrap(), 2);
        assert_eq!(began.elapsed(), STAGGER * 3 / 2);
        let refused = |_| async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let error = first_of(addresses(), refused).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = first_of(Vec::new(), refused).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// As where packets are dropped: a listener takes no more than it has room for.
    #[tokio::test]
    async fn a_host_whose_first_address_is_a_black_hole_is_reached_by_the_second() {
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let full = full.listen(1).unwrap();
        let hole = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(socket)) = tokio::time::timeout(STAGGER, TcpStream::connect(hole)).await {
            waiting.push(socket);
        }
        let answers = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = answers.local_addr().unwrap();
        let connecting = first_of(vec![hole, there], TcpStream::connect);
        let within = Duration::from_secs(10);
        let socket = tokio::time::timeout(within, connecting).await.unwrap();
        assert_eq!(socket.unwrap().peer_addr().unwrap(), there);
    }
}
