use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::Redis;

#[tokio::test]
async fn the_shared_server_keeps_keys_under_different_prefixes() {
    let Some(redis) = Redis::shared().await else {
        return;
    };
    let key = redis.prefix() + "key";
    assert_ne!(redis.prefix(), redis.prefix());
    let url = redis.url();
    let address = url.strip_prefix("redis://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("SET {key} 1\r\nGET {key}\r\n").as_bytes())
        .unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n$1\r\n1\r\n");
}
