//! Clients that hang up over real TCP, and handlers that panic.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::map_request;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use perf_metrics::Monitor;
use perf_metrics::snapshot::Requests;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::endpoints::serve;
use crate::exposition::Exposition;
use crate::script::panic_quietly;

struct Server {
    monitor: Monitor,
    address: String,
    started: Arc<AtomicU64>,
    reached: Arc<Notify>,
}

/// A server whose layer's requests are also counted from outside, one by one.
async fn server() -> Server {
    let monitor = Monitor::builder().build().unwrap();
    let started = Arc::new(AtomicU64::new(0));
    let reached = Arc::new(Notify::new());
    let (count, notify, notify_body) = (started.clone(), reached.clone(), reached.clone());
    let app = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/chunks", get(|| async { chunks(64) }))
        .route("/panic", get(|| async { panic_quietly() as &'static str }))
        .route(
            "/hang",
            get(move || async move {
                notify.notify_one();
                std::future::pending::<&'static str>().await
            }),
        )
        .route(
            "/endless",
            get(move || async move {
                notify_body.notify_one();
                endless()
            }),
        )
        .route(
            "/endless/503",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, endless()) }),
        )
        .route(
            "/fails/503",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, failing()) }),
        )
        .route("/fails", get(|| async { failing() }))
        .layer(monitor.layer())
        .layer(map_request(move |request: Request| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(request)
        }));
    let url = serve(app).await;
    let address = url.trim_start_matches("http://").to_owned();
    Server {
        monitor,
        address,
        started,
        reached,
    }
}

fn chunks(n: usize) -> Body {
    let chunk = |_| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1000]));
    Body::from_stream(stream::iter((0..n).map(chunk)))
}

fn endless() -> Body {
    let chunk = Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16_384]));
    Body::from_stream(stream::repeat(chunk))
}

fn failing() -> Body {
    let data = Ok(Bytes::from_static(b"some"));
    Body::from_stream(stream::iter([data, Err(std::io::Error::other("broken"))]))
}

impl Server {
    async fn send(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a request and reads whatever comes until the server closes.
    async fn read(&self, method: &str, path: &str) -> usize {
        let mut stream = self.send(method, path).await;
        let mut answer = Vec::new();
        // A server that panics may reset the connection.
        stream.read_to_end(&mut answer).await.unwrap_or(0)
    }

    /// Waits until the server has noticed that all clients are gone.
    async fn settled(&self) -> Requests {
        let wait = async {
            loop {
                let requests = self.monitor.snapshot().requests;
                let started = self.started.load(Ordering::Relaxed);
                if requests.in_flight == 0 && requests.count >= started {
                    return requests;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(60), wait).await;
        settled.unwrap_or_else(|_| panic!("{:?}", self.monitor.snapshot().requests))
    }

    fn aborted(&self, phase: &str, reason: &str) -> u64 {
        let text = Exposition::parse(&self.monitor.render());
        let aborted = text.samples("http_server_requests_aborted_total");
        let of_kind =
            aborted.filter(|s| s.labels["phase"] == phase && s.labels["reason"] == reason);
        of_kind.map(|sample| sample.value as u64).sum()
    }
}

#[tokio::test]
async fn a_client_gone_before_the_headers_is_one_abort() {
    let server = server().await;
    let stream = server.send("GET", "/hang").await;
    server.reached.notified().await;
    assert_eq!(server.monitor.snapshot().requests.in_flight, 1);
    drop(stream);
    let requests = server.settled().await;
    assert_eq!(
        (requests.count, requests.aborted, requests.errors),
        (1, 1, 0)
    );
    assert_eq!(server.aborted("headers", "dropped"), 1);
}

#[tokio::test]
async fn a_client_gone_in_the_body_is_one_abort() {
    let server = server().await;
    let mut stream = server.send("GET", "/endless").await;
    stream.read_exact(&mut [0; 40_000]).await.unwrap();
    assert_eq!(server.monitor.snapshot().requests.in_flight, 1);
    drop(stream);
    let requests = server.settled().await;
    assert_eq!(
        (requests.count, requests.aborted, requests.errors),
        (1, 1, 0)
    );
    assert_eq!(server.aborted("body", "dropped"), 1);
}

/// It was once no error at all, as its request ends by an abort.
#[tokio::test]
async fn a_client_gone_in_the_body_of_a_5xx_is_an_abort_and_an_error() {
    let server = server().await;
    let mut stream = server.send("GET", "/endless/503").await;
    stream.read_exact(&mut [0; 40_000]).await.unwrap();
    drop(stream);
    let requests = server.settled().await;
    assert_eq!(
        (requests.count, requests.aborted, requests.errors),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn there_are_no_more_errors_than_requests() {
    let server = server().await;
    server.read("GET", "/fails/503").await;
    let requests = server.settled().await;
    assert_eq!((requests.count, requests.errors), (1, 1));
}

#[tokio::test]
async fn a_panic_is_counted_as_a_panic() {
    let server = server().await;
    server.read("GET", "/panic").await;
    let requests = server.settled().await;
    assert_eq!(
        (requests.count, requests.aborted, requests.errors),
        (1, 0, 1)
    );
    assert_eq!(server.aborted("headers", "panic"), 1);
}

#[tokio::test]
async fn a_body_that_fails_is_an_error() {
    let server = server().await;
    server.read("GET", "/fails").await;
    let requests = server.settled().await;
    assert_eq!(
        (requests.count, requests.aborted, requests.errors),
        (1, 0, 1)
    );
    assert_eq!(server.aborted("body", "error"), 1);
}

#[tokio::test]
async fn bodies_read_to_their_end_are_complete() {
    let server = server().await;
    for (method, path) in [
        ("GET", "/hello"),
        ("HEAD", "/hello"),
        ("GET", "/chunks"),
        ("HEAD", "/chunks"),
        ("GET", "/nothing"),
        ("POST", "/hello"),
        ("BREW", "/hello"),
    ] {
        assert!(server.read(method, path).await > 0, "{method} {path}");
    }
    let requests = server.settled().await;
    assert_eq!(
        (requests.count, requests.aborted, requests.errors),
        (7, 0, 0)
    );
    let text = Exposition::parse(&server.monitor.render());
    let sizes = text.samples("http_server_response_body_size_bytes_sum");
    let sent: f64 = sizes
        .filter(|s| s.labels["http_route"] == "/chunks")
        .map(|s| s.value)
        .sum();
    assert_eq!(sent, 64_000.0);
}

#[tokio::test]
async fn requests_on_one_connection_are_counted_each() {
    let server = server().await;
    let client = reqwest::Client::new();
    for _ in 0..50 {
        let url = format!("http://{}/chunks", server.address);
        let body = client.get(url).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(body.len(), 64_000);
    }
    let requests = server.settled().await;
    assert_eq!((requests.count, requests.aborted), (50, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_balance_when_ten_thousand_clients_hang_up_at_random() {
    let server = Arc::new(server().await);
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..10_000u64 {
        let server = Arc::clone(&server);
        if clients.len() >= 50 {
            clients.join_next().await.unwrap().unwrap();
        }
        clients.spawn(async move {
            let random = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let paths = [
                "/hello", "/chunks", "/hang", "/endless", "/panic", "/fails", "/no",
            ];
            let path = paths[random as usize % paths.len()];
            let mut stream = server
                .send(if i % 11 == 0 { "HEAD" } else { "GET" }, path)
                .await;
            // Up to 128 KB of the answer, perhaps none; a request that hangs is left at once.
            if path != "/hang" && i % 3 > 0 {
                let mut part = vec![0; (random >> 8) as usize % 131_072];
                let mut read = 0;
                while let Ok(n @ 1..) = stream.read(&mut part[read..]).await {
                    read += n;
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let requests = server.settled().await;
    assert_eq!(requests.count, server.started.load(Ordering::Relaxed));
    assert!(
        requests.count > 5000,
        "most clients were served: {requests:?}"
    );
    assert!(requests.aborted > 0 && requests.errors > 0, "{requests:?}");
    assert!(server.monitor.running().is_empty());
}
