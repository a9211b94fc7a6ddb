//! The proxy in front of plain TCP servers.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::{Proxy, contains, nth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A server that sends everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// A server that never answers, and gives what each connection sent until it ended.
async fn sink() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            sender.send(bytes).await.unwrap();
        }
    });
    (address, received)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

/// Sends `text` and waits until it is back.
async fn round_trip(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    expect(stream, text).await;
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text.as_bytes());
}

async fn expect_reset(stream: &mut TcpStream) {
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn without_a_fault_bytes_pass_and_are_counted() {
    let proxy = Proxy::start(echo().await).await;
    let mut one = connect(&proxy).await;
    let mut two = connect(&proxy).await;
    round_trip(&mut one, "hello").await;
    round_trip(&mut two, "you").await;
    let counts = proxy.until(|it| it.to_clients == 8).await;
    assert_eq!((counts.connections, counts.open, counts.cuts), (2, 2, 0));
    assert_eq!(counts.to_server, 8);

    one.shutdown().await.unwrap();
    assert_eq!(one.read(&mut [0]).await.unwrap(), 0);
    proxy.until(|it| it.open == 1).await;
    assert_eq!((proxy.connections(), proxy.open()), (2, 1));
}

#[tokio::test]
async fn a_delay_holds_in_each_direction_and_for_open_connections() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "a").await;
    proxy.delay(Duration::from_millis(60));
    let start = Instant::now();
    round_trip(&mut stream, "b").await;
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_delay_does_not_lower_the_throughput() {
    const CHUNKS: usize = 256;
    let (server, mut received) = sink().await;
    let proxy = Proxy::start(server).await;
    let delay = Duration::from_millis(100);
    proxy.delay(delay);
    let mut stream = connect(&proxy).await;
    let start = Instant::now();
    // More than one read each, so at least as many delays when they add up.
    for _ in 0..CHUNKS {
        stream.write_all(&[7; 17 * 1024]).await.unwrap();
    }
    drop(stream);
    let bytes = received.recv().await.unwrap();
    assert_eq!(bytes.len(), CHUNKS * 17 * 1024);
    assert!(start.elapsed() >= delay);
    assert!(start.elapsed() < delay * CHUNKS as u32 / 4);
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_nothing_after_it() {
    let proxy = Proxy::start(echo().await).await;
    let mut one = connect(&proxy).await;
    let mut two = connect(&proxy).await;
    proxy.until(|it| it.open == 2).await;
    proxy.cut();
    expect_reset(&mut one).await;
    expect_reset(&mut two).await;
    let counts = proxy.until(|it| it.open == 0).await;
    assert_eq!(counts.cuts, 2);
    round_trip(&mut connect(&proxy).await, "new").await;
}

#[tokio::test]
async fn refused_connections_are_reset_and_open_ones_stay() {
    let proxy = Proxy::start(echo().await).await;
    let mut open = connect(&proxy).await;
    round_trip(&mut open, "a").await;
    proxy.refuse(true);
    expect_reset(&mut connect(&proxy).await).await;
    round_trip(&mut open, "b").await;
    assert_eq!((proxy.connections(), proxy.open()), (2, 1));
    proxy.refuse(false);
    round_trip(&mut connect(&proxy).await, "c").await;
}

#[tokio::test]
async fn a_black_hole_holds_bytes_until_it_is_switched_off() {
    let proxy = Proxy::start(echo().await).await;
    let mut old = connect(&proxy).await;
    round_trip(&mut old, "a").await;
    proxy.black_hole(true);
    let mut new = connect(&proxy).await;
    old.write_all(b"old").await.unwrap();
    new.write_all(b"new").await.unwrap();
    // The end of a client is held too.
    new.shutdown().await.unwrap();
    proxy.until(|it| it.open == 2).await;
    let silence = Duration::from_millis(100);
    timeout(silence, old.read_u8()).await.unwrap_err();
    timeout(silence, new.read_u8()).await.unwrap_err();
    assert_eq!(proxy.counts().to_server, 1);

    proxy.black_hole(false);
    expect(&mut old, "old").await;
    expect(&mut new, "new").await;
    assert_eq!(new.read(&mut [0]).await.unwrap(), 0);
    round_trip(&mut old, "b").await;
}

#[tokio::test]
async fn a_black_hole_swallows_replies_on_their_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let mut client = connect(&proxy).await;
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.black_hole(true);
    server.write_all(b"reply").await.unwrap();
    timeout(Duration::from_millis(100), client.read_u8())
        .await
        .unwrap_err();
    assert_eq!(proxy.counts().to_clients, 0);
    proxy.black_hole(false);
    expect(&mut client, "reply").await;
}

#[tokio::test]
async fn a_cut_gets_through_a_black_hole() {
    let proxy = Proxy::start(echo().await).await;
    proxy.black_hole(true);
    let mut stream = connect(&proxy).await;
    proxy.until(|it| it.open == 1).await;
    proxy.cut();
    expect_reset(&mut stream).await;
}

#[tokio::test]
async fn a_request_reaches_the_server_before_the_cut_after_it_and_its_reply_nobody() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    let mut other = connect(&proxy).await;
    round_trip(&mut stream, "a").await;
    proxy.cut_after_request(nth(2, contains("ask")));
    round_trip(&mut stream, "ask one").await;
    stream.write_all(b"ask two").await.unwrap();
    expect_reset(&mut stream).await;
    let counts = proxy.counts();
    assert_eq!(
        (counts.cuts, counts.to_server, counts.to_clients),
        (1, 15, 8)
    );
    // It happens once, and to one connection.
    round_trip(&mut other, "ask three").await;
}

#[tokio::test]
async fn the_server_of_a_cut_connection_has_what_was_sent() {
    for (after, expected) in [(true, "one two"), (false, "one ")] {
        let (server, mut received) = sink().await;
        let proxy = Proxy::start(server).await;
        let mut stream = connect(&proxy).await;
        stream.write_all(b"one ").await.unwrap();
        proxy.until(|it| it.to_server == 4).await;
        if after {
            proxy.cut_after_request(contains("two"));
        } else {
            proxy.cut_before_request(contains("two"));
        }
        stream.write_all(b"two").await.unwrap();
        expect_reset(&mut stream).await;
        assert_eq!(received.recv().await.unwrap(), expected.as_bytes());
    }
}

#[tokio::test]
async fn a_cut_after_bytes_sends_just_as_many() {
    for n in [0, 1, 9_999, 50_000] {
        let (server, mut received) = sink().await;
        let proxy = Proxy::start(server).await;
        proxy.cut_after_bytes(n);
        let mut stream = connect(&proxy).await;
        // The reset may come in the middle of it.
        let _ = stream.write_all(&[7; 100_000]).await;
        assert_eq!(received.recv().await.unwrap().len() as u64, n);
        let counts = proxy.until(|it| it.open == 0).await;
        assert_eq!((counts.cuts, counts.to_server), (1, n));
    }
}

#[tokio::test]
async fn a_healed_proxy_has_no_fault_and_plans_none() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "a").await;
    proxy.black_hole(true);
    proxy.refuse(true);
    proxy.delay(Duration::from_secs(3600));
    proxy.cut_after_bytes(1);
    proxy.cut_before_request(|_| true);
    proxy.heal();
    round_trip(&mut stream, "bc").await;
    round_trip(&mut connect(&proxy).await, "de").await;
    assert_eq!(proxy.counts().cuts, 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_the_client() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Proxy::start(address).await;
    expect_reset(&mut connect(&proxy).await).await;
    proxy.until(|it| it.open == 0).await;
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_connections_and_its_port() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = connect(&proxy).await;
    round_trip(&mut stream, "a").await;
    let address = proxy.addr();
    assert_eq!(address.port(), proxy.port());
    drop(proxy);
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    TcpStream::connect(address).await.unwrap_err();
}

#[test]
fn a_proxy_is_send_sync_and_debug() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    check::<Proxy>();
    check::<testkit::Counts>();
}
