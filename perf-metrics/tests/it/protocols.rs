//! The layer on a real hyper server, over upgraded connections, and for gRPC.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use perf_metrics::Monitor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::exposition::Exposition;

/// Echoes bodies; `/upgrade` goes on to echo what comes over the connection.
async fn answer(
    monitor: Monitor,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.uri().path() == "/upgrade" {
        let connection = monitor.upgraded("/upgrade");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let _connection = connection;
            let Ok(upgraded) = upgrade.await else { return };
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert("upgrade", "echo".parse().unwrap());
        return Ok(response);
    }
    let body = request.into_body().collect().await?;
    Ok(Response::new(Full::new(body.to_bytes())))
}

async fn serve(monitor: &Monitor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let owner = monitor.clone();
    let service = ServiceBuilder::new()
        .layer(monitor.layer())
        .service_fn(move |request| answer(owner.clone(), request));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn upgraded(monitor: &Monitor) -> f64 {
    Exposition::parse(&monitor.render()).sum("http_server_upgraded_connections")
}

#[tokio::test]
async fn requests_to_a_hyper_server_are_counted_each() {
    let monitor = Monitor::builder().build().unwrap();
    let address = serve(&monitor).await;
    let client = reqwest::Client::new();
    for i in 0..20usize {
        let request = client
            .post(format!("http://{address}/{i}"))
            .body("x".repeat(i * 1000));
        let body = request.send().await.unwrap().bytes().await.unwrap();
        assert_eq!(body.len(), i * 1000);
    }
    until("all are over", || monitor.running().is_empty()).await;
    let requests = monitor.snapshot().requests;
    assert_eq!(
        (requests.count, requests.aborted, requests.in_flight),
        (20, 0, 0)
    );
    let text = Exposition::parse(&monitor.render());
    for size in ["request", "response"] {
        let sum = text.sum(&format!("http_server_{size}_body_size_bytes_sum"));
        assert_eq!(sum, 190_000.0, "{size}");
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_counted_as_long_as_it_lasts() {
    let monitor = Monitor::builder().build().unwrap();
    let address = serve(&monitor).await;
    let mut streams = Vec::new();
    for n in 1..=3u32 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head =
            "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        stream.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"hello");
        streams.push(stream);
        assert_eq!(upgraded(&monitor), f64::from(n));
    }
    // The requests themselves are over.
    let requests = monitor.snapshot().requests;
    assert_eq!(
        (requests.count, requests.aborted, requests.in_flight),
        (3, 0, 0)
    );
    streams.pop();
    until("one is gone", || upgraded(&monitor) == 2.0).await;
    drop(streams);
    until("all are gone", || upgraded(&monitor) == 0.0).await;
    let text = Exposition::parse(&monitor.render());
    let routes: Vec<_> = text.samples("http_server_upgraded_connections").collect();
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].labels["http_route"], "/upgrade");
}

#[test]
fn upgraded_connections_have_no_more_routes_than_requests() {
    let monitor = Monitor::builder().max_routes(2).build().unwrap();
    let all: Vec<_> = (0..10)
        .map(|i| monitor.upgraded(&format!("/{i}")))
        .collect();
    let text = Exposition::parse(&monitor.render());
    let mut routes: Vec<_> = text
        .samples("http_server_upgraded_connections")
        .map(|sample| (sample.labels["http_route"].clone(), sample.value))
        .collect();
    routes.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("/0", 1.0), ("/1", 1.0), ("_OVERFLOW", 8.0)];
    assert_eq!(routes, expected.map(|(route, n)| (route.to_owned(), n)));
    drop(all);
    assert_eq!(upgraded(&monitor), 0.0);
}

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs
        .iter()
        .map(|(k, v)| (http::HeaderName::from_static(k), v.parse().unwrap()));
    pairs.collect()
}

/// What is counted for a call that is answered with these headers, and trailers after a message.
fn grpc(
    method: &str,
    headers: &[(&'static str, &str)],
    trailers: Option<HeaderMap>,
) -> Vec<String> {
    let monitor = Monitor::builder().build().unwrap();
    let headers = map(headers);
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let frames = trailers.clone().map(|trailers| {
            [
                Frame::data(Bytes::from_static(b"message")),
                Frame::trailers(trailers),
            ]
        });
        let frames = frames.into_iter().flatten().map(Ok::<_, Infallible>);
        let mut response = Response::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())));
        *response.headers_mut() = headers.clone();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut service = monitor.layer().layer(service);
    let request = Request::builder().method(method).body(Full::default());
    let response = service
        .call(request.unwrap())
        .now_or_never()
        .unwrap()
        .unwrap();
    let mut body = response.into_body();
    // As servers do, which do not poll beyond trailers.
    while let Some(frame) = body.frame().now_or_never().unwrap() {
        if frame.unwrap().is_trailers() {
            break;
        }
    }
    drop(body);
    let requests = monitor.snapshot().requests;
    assert_eq!(
        (requests.count, requests.aborted, requests.in_flight),
        (1, 0, 0)
    );
    let text = Exposition::parse(&monitor.render());
    let counted = text.samples("http_server_grpc_responses_total");
    counted
        .map(|sample| sample.labels["rpc_grpc_status_code"].clone())
        .collect()
}

#[test]
fn calls_of_grpc_count_by_their_status() {
    let kind = ("content-type", "application/grpc+proto");
    let trailers = |status| Some(map(&[("grpc-status", status)]));
    assert_eq!(grpc("POST", &[kind], trailers("0")), ["0"]);
    assert_eq!(grpc("POST", &[kind], trailers("16")), ["16"]);
    // Where there is no message, it is in the headers.
    assert_eq!(grpc("POST", &[kind, ("grpc-status", "5")], None), ["5"]);
    // Whatever a server sends, the series are few.
    for status in ["17", "-1", "many", ""] {
        assert_eq!(
            grpc("POST", &[kind], trailers(status)),
            ["_OTHER"],
            "{status}"
        );
    }
    assert_eq!(grpc("POST", &[kind], None), ["_OTHER"]);
    assert!(grpc("POST", &[("content-type", "text/plain")], trailers("0")).is_empty());
    assert!(grpc("GET", &[kind], trailers("0")).is_empty());
}
