use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::Redis;

/// Sends one command and compares the reply.
fn replies(url: &str, command: &str, expected: &[u8]) {
    let address = url.strip_prefix("redis://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    let mut reply = vec![0; expected.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, expected);
}

fn refuses(url: &str) -> bool {
    let address = url.strip_prefix("redis://").unwrap().trim_end_matches('/');
    TcpStream::connect(address).is_err()
}

#[tokio::test]
async fn the_shared_server_keeps_keys_under_different_prefixes() {
    let Some(redis) = Redis::shared().await else {
        return;
    };
    let key = redis.prefix() + "key";
    assert_ne!(redis.prefix(), redis.prefix());
    let set_and_get = format!("SET {key} 1\r\nGET {key}\r\n");
    replies(&redis.url(), &set_and_get, b"+OK\r\n$1\r\n1\r\n");
}

#[tokio::test]
async fn a_server_of_its_own_stops_crashes_and_restarts_on_its_port_with_what_it_had() {
    let Some(own) = Redis::start().await else {
        return;
    };
    let url = own.url();
    replies(&url, "SET kept 1\r\n", b"+OK\r\n");
    own.stop().await;
    assert!(refuses(&url));
    own.stop().await;

    own.restart().await;
    replies(&url, "INCR kept\r\n", b":2\r\n");
    let before = own.pid();
    own.crash().await;
    assert!(refuses(&url));
    own.restart().await;
    assert_ne!(own.pid(), before);
    replies(&url, "GET kept\r\n", b"$1\r\n2\r\n");

    let dir = own.dir().to_owned();
    assert!(dir.exists());
    drop(own);
    assert!(!dir.exists());
    assert!(refuses(&url));
}
