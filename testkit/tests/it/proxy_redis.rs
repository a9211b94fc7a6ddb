//! The proxy in front of Redis.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::{Proxy, Redis, unique};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Reached only by what would never come.
const HANGS: Duration = Duration::from_secs(60);

/// A client that writes commands as lines and reads replies line by line.
struct Client(BufStream<TcpStream>);

impl Client {
    async fn to(address: SocketAddr) -> Self {
        Self(BufStream::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn send(&mut self, command: &str) {
        let line = format!("{command}\r\n");
        self.0.write_all(line.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        timeout(HANGS, read).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    async fn lines_until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }

    async fn publish(&mut self, channel: &str, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.send(&format!("PUBLISH {channel} number:{number}"))
                .await;
            assert_eq!(self.line().await, ":1");
        }
    }

    /// The numbers that have come, when the answer to a ping is there.
    async fn numbers(&mut self) -> Vec<u32> {
        self.send("PING").await;
        let lines = self.lines_until("pong").await;
        // The end of the pong.
        assert_eq!([self.line().await, self.line().await], ["$0", ""]);
        let numbers = lines.iter().filter_map(|line| line.strip_prefix("number:"));
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

fn address(server: &Redis) -> SocketAddr {
    let url = server.url();
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    address.parse().unwrap()
}

#[tokio::test]
async fn messages_are_lost_one_by_one_and_the_connection_stays() {
    let Some(server) = Redis::start().await else {
        return;
    };
    let proxy = Proxy::start(address(&server)).await;
    proxy.lose_messages(0.5);
    let mut here = Client::to(proxy.addr()).await;
    let mut there = Client::to(address(&server)).await;
    let channel = unique("channel");
    here.send(&format!("SUBSCRIBE {channel}")).await;
    here.lines_until(":1").await;
    there.publish(&channel, 0..400).await;
    let heard = here.numbers().await;
    println!("{} of 400 messages", heard.len());
    assert!((100..300).contains(&heard.len()), "{}", heard.len());
    assert!(heard.is_sorted(), "{heard:?}");
    assert_eq!(proxy.counts().lost_messages, 400 - heard.len() as u64);
    proxy.lose_messages(1.0);
    there.publish(&channel, 0..20).await;
    assert!(here.numbers().await.is_empty());
    proxy.heal();
    there.publish(&channel, 0..20).await;
    assert_eq!(here.numbers().await, (0..20).collect::<Vec<_>>());
    assert_eq!((proxy.connections(), proxy.counts().cuts), (1, 0));
}

#[tokio::test]
async fn who_has_not_subscribed_loses_nothing() {
    let Some(server) = Redis::start().await else {
        return;
    };
    let proxy = Proxy::start(address(&server)).await;
    proxy.lose_messages(1.0);
    let mut here = Client::to(proxy.addr()).await;
    here.send("RPUSH list message channel text").await;
    assert_eq!(here.line().await, ":3");
    here.send("LRANGE list 0 -1").await;
    let lines = here.lines_until("text").await;
    assert!(lines.contains(&"message".to_owned()), "{lines:?}");
    assert_eq!(proxy.counts().lost_messages, 0);
}
