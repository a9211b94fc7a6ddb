use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::remote::redis::reply::Item;

fn get(name: &[u8]) -> Request {
    let mut request = Request::default();
    request.begin(2);
    request.word(b"GET");
    request.word(name);
    request
}

/// A wire, and its other end.
fn wire(buffer: usize) -> (Wire, DuplexStream) {
    let (here, there) = duplex(buffer);
    (Wire::over(here), there)
}

fn only(replies: &Replies) -> Option<&[u8]> {
    match replies.values().next() {
        Some(Item::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_before_it_reads_on_is_not_waited_for() {
    let (mut wire, mut server) = wire(64);
    let request = get(&[b'x'; 100_000]);
    let sent = request.bytes().to_vec();
    let serve = tokio::spawn(async move {
        let mut came = vec![0; sent.len()];
        server.read_exact(&mut came[..100]).await.unwrap();
        let value = vec![b'y'; 100_000];
        server.write_all(b"$100000\r\n").await.unwrap();
        server.write_all(&value).await.unwrap();
        server.read_exact(&mut came[100..]).await.unwrap();
        server.write_all(b"\r\n").await.unwrap();
        assert!(came == sent);
        server
    });
    let mut replies = Replies::default();
    let exchange = wire.exchange(&request, &mut replies);
    let exchanged = tokio::time::timeout(Duration::from_secs(60), exchange).await;
    exchanged.expect("it hangs").unwrap();
    assert_eq!(only(&replies).map(<[u8]>::len), Some(100_000));
    // And the next on the same wire.
    let mut server = serve.await.unwrap();
    let answer = async {
        server.read_u8().await.unwrap();
        server.write_all(b"$1\r\n1\r\n").await.unwrap();
    };
    let request = get(b"1");
    let (exchanged, ()) = tokio::join!(wire.exchange(&request, &mut replies), answer);
    exchanged.unwrap();
    assert_eq!(only(&replies), Some(b"1".as_slice()));
}

#[tokio::test]
async fn a_connection_that_ends_is_an_error_at_any_point() {
    let answer = b"$5\r\nabcde\r\n";
    for length in 0..answer.len() {
        let (mut wire, mut server) = wire(1_000);
        let ends = async {
            server.read_u8().await.unwrap();
            server.write_all(&answer[..length]).await.unwrap();
            drop(server);
        };
        let mut replies = Replies::default();
        let request = get(b"1");
        let (exchanged, ()) = tokio::join!(wire.exchange(&request, &mut replies), ends);
        let error = exchanged.unwrap_err();
        assert!(error.is_io_error(), "{length}: {error}");
        assert!(error.is_connection_dropped(), "{length}: {error}");
    }
}

#[tokio::test]
async fn what_comes_unasked_is_not_taken_for_an_answer() {
    let mut replies = Replies::default();
    let (mut wire, mut server) = wire(1_000);
    server.write_all(b"+OK\r\n").await.unwrap();
    wire.exchange(&get(b"1"), &mut replies).await.unwrap_err();
    let (mut ended, server) = self::wire(1_000);
    drop(server);
    let error = ended.exchange(&get(b"1"), &mut replies).await.unwrap_err();
    assert!(error.is_connection_dropped(), "{error}");
}
