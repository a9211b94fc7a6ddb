mod counts;
mod faults;
mod messages;
mod relay;
mod requests;
mod url;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::faults::{Faults, PlannedCut};

pub use self::counts::Counts;
pub use self::requests::{contains, nth};
pub(crate) use self::url::through;

/// A TCP proxy in front of a server, for what goes wrong between a client and its server.
///
/// It starts without any fault. A fault holds for the connections that are open and for those
/// that come, until it is switched off; [`Proxy::heal`] switches all off. Planned cuts
/// (`cut_after_request` and its siblings) are for one connection, the first one they fit.
///
/// A cut resets the connection on the client's side, and closes it on the server's side after
/// the bytes that were forwarded, so that the server does get those.
///
/// Its tasks run on the runtime that called [`Proxy::start`] and end with the proxy; connections
/// that are open then are closed. A paused clock is not for it.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    counts: Arc<watch::Sender<Counts>>,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and connects each client to `target`, such as
    /// `postgres.address()`.
    ///
    /// # Panics
    ///
    /// If `target` cannot be resolved, and if there is no free port.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is left.
    #[expect(clippy::panic, reason = "a test without its proxy has to fail")]
    pub async fn start(target: impl ToSocketAddrs) -> Self {
        let target: Vec<SocketAddr> = match lookup_host(target).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => panic!("the target of a proxy cannot be resolved: {error}"),
        };
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let (listener, address) = match listening.and_then(|it| Ok((it.local_addr()?, it))) {
            Ok((address, listener)) => (listener, address),
            Err(error) => panic!("a proxy cannot listen on 127.0.0.1: {error}"),
        };
        let faults = Arc::new(Faults::default());
        let counts = Arc::new(watch::Sender::default());
        let accept = relay::accept(listener, target, Arc::clone(&faults), Arc::clone(&counts));
        Self {
            address,
            faults,
            counts,
            task: tokio::spawn(accept).abort_handle(),
        }
    }

    /// Where the proxy listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The port on which the proxy listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `url` with the proxy's host and port in place of its own.
    ///
    /// # Panics
    ///
    /// If `url` is not a URL with a host.
    pub fn url(&self, url: &str) -> String {
        url::through(self.address, url)
    }

    /// Delays all bytes by `one_way` in each direction, so a round trip takes twice that. Bytes
    /// that were on their way already keep their time, and none overtake others. Throughput stays.
    /// Defaults to zero.
    pub fn delay(&self, one_way: Duration) {
        self.faults.change(|modes| modes.delay = one_way);
    }

    /// Whether new connections are reset as soon as they are accepted. Defaults to `false`.
    pub fn refuse(&self, on: bool) {
        self.faults.change(|modes| modes.refuse = on);
    }

    /// Whether all bytes are held, in both directions, while connections stay open and new ones
    /// are accepted; the ends of connections are held too. Switched off, all goes on from where
    /// it was. Defaults to `false`.
    pub fn black_hole(&self, on: bool) {
        self.faults.change(|modes| modes.black_hole = on);
    }

    /// Loses each message that a Redis server sends to a subscriber with the probability `share`, from
    /// 0.0 to 1.0, one by one and for ever; all else passes, and the connection stays. Counted as
    /// [`Counts::lost_messages`].
    ///
    /// For connections that are made after the first call; on these, only whole replies are passed on.
    /// Defaults to 0.0.
    pub fn lose_messages(&self, share: f64) {
        self.faults.change(|modes| modes.lose = Some(share));
    }

    /// Cuts all connections that are open now; bytes on their way are lost. A connection is open
    /// once it is counted ([`Counts::open`]), a moment after its client has connected.
    pub fn cut(&self) {
        self.faults.change(|modes| modes.cuts += 1);
    }

    /// Cuts one connection as soon as a request that `matches` was sent to the server: the server
    /// gets it, and its reply never arrives. See [`contains`] and [`nth`].
    ///
    /// A request is what one read of the client's bytes returned, up to 16 KiB: a statement and
    /// whatever the client sent along with it. So a long request comes in several pieces.
    pub fn cut_after_request(&self, matches: impl FnMut(&[u8]) -> bool + Send + 'static) {
        self.faults.plan(PlannedCut::After(Box::new(matches)));
    }

    /// Cuts one connection in place of sending a request that `matches`, as in
    /// [`Proxy::cut_after_request`]: the server never gets it.
    pub fn cut_before_request(&self, matches: impl FnMut(&[u8]) -> bool + Send + 'static) {
        self.faults.plan(PlannedCut::Before(Box::new(matches)));
    }

    /// Cuts one connection when `n` more bytes were sent to the server, counted over all
    /// connections: the one whose byte was the last. With random `n`, a cut at a random moment.
    /// With `n` zero, the next byte is not sent.
    pub fn cut_after_bytes(&self, n: u64) {
        self.faults.plan(PlannedCut::AfterBytes(n));
    }

    /// Switches all faults off and forgets the planned cuts that did not happen yet.
    pub fn heal(&self) {
        self.faults.heal();
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Connections accepted so far, with those that were refused.
    pub fn connections(&self) -> u64 {
        self.counts().connections
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.counts().open
    }

    /// Waits until the counts are such that `done` is true, and returns them.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has no effect.
    pub async fn until(&self, mut done: impl FnMut(&Counts) -> bool) -> Counts {
        let mut changes = self.counts.subscribe();
        // An error would mean that the sender is gone, which `self` holds.
        let reached = changes.wait_for(|counts| done(counts)).await;
        reached.map_or_else(|_| self.counts(), |counts| *counts)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("addr", &self.address)
            .field("counts", &self.counts())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}
