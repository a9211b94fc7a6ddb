//! Endpoints behind a token, and on a port of their own.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use perf_metrics::{Monitor, Readiness};
use reqwest::{Client, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::endpoints::serve;
use crate::exposition::Exposition;

const TOKEN: &str = "s3cret-0123456789";

fn guarded() -> Monitor {
    Monitor::builder()
        .admin_token(TOKEN)
        .check("db", Readiness, || async {
            Err("password of the database")
        })
        .build()
        .unwrap()
}

async fn ask(url: &str, path: &str, authorization: Option<&str>) -> Response {
    let request = Client::new().get(format!("{url}{path}"));
    let request = match authorization {
        Some(value) => request.header("authorization", value),
        None => request,
    };
    request.send().await.unwrap()
}

#[tokio::test]
async fn internals_are_shown_to_who_has_the_token() {
    let url = serve(guarded().router()).await;
    for path in ["/metrics", "/monitoring/stats", "/health"] {
        for scheme in ["Bearer", "bearer"] {
            let response = ask(&url, path, Some(&format!("{scheme} {TOKEN}"))).await;
            assert_ne!(response.status(), 401, "{path}");
        }
        for wrong in [
            None,
            Some(TOKEN),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer s3cret"),
            Some("Bearer s3cret-0123456780"),
            Some("Bearer s3cret-01234567890"),
            Some("Basic s3cret-0123456789"),
        ] {
            let response = ask(&url, path, wrong).await;
            assert_eq!(response.status(), 401, "{path} {wrong:?}");
            let challenge = response.headers()["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert_eq!(response.text().await.unwrap(), "");
        }
    }
}

#[tokio::test]
async fn probes_need_no_token_and_see_no_errors_without() {
    let url = serve(guarded().router()).await;
    let response = ask(&url, "/health/live", None).await;
    assert_eq!(response.status(), 200);
    let response = ask(&url, "/health/ready", None).await;
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(
        text.contains("\"db\"") && !text.contains("password"),
        "{text}"
    );
    let response = ask(&url, "/health/ready", Some(&format!("Bearer {TOKEN}"))).await;
    let text = response.text().await.unwrap();
    assert!(text.contains("password of the database"), "{text}");
}

#[tokio::test]
async fn the_token_does_not_guard_the_application() {
    let monitor = guarded();
    let app = Router::new().route("/hello", get(|| async { "hello" }));
    let url = serve(app.layer(monitor.layer()).merge(monitor.router())).await;
    assert_eq!(ask(&url, "/hello", None).await.status(), 200);
    assert_eq!(ask(&url, "/nothing", None).await.status(), 404);
    assert_eq!(monitor.snapshot().requests.count, 2);
}

#[test]
fn the_token_is_in_no_debug_output() {
    let builder = Monitor::builder().admin_token(TOKEN);
    assert!(!format!("{builder:?}").contains("s3cret"));
    assert!(!format!("{:?}", builder.build().unwrap()).contains("s3cret"));
    let refused = Monitor::builder().admin_token("s3cret and more").build();
    let error = refused.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("s3cret"));
}

#[tokio::test]
async fn the_endpoints_are_served_on_another_port_until_they_are_to_stop() {
    let monitor = Monitor::builder().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    let (stop, stopped) = oneshot::channel::<()>();
    let served = monitor.clone();
    let server = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        served.serve(listener, stopped).await
    });
    let text = ask(&url, "/metrics", None).await.text().await.unwrap();
    assert!(Exposition::parse(&text).sum("process_threads") > 0.0);
    assert_eq!(ask(&url, "/health/ready", None).await.status(), 200);
    assert_eq!(ask(&url, "/nothing", None).await.status(), 404);
    // What scanners ask there is not the application's.
    assert_eq!(monitor.snapshot().requests.count, 0);
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), server).await;
    ended.unwrap().unwrap().unwrap();
    let refused = TcpListener::bind(address).await;
    assert!(refused.is_ok(), "the port is free again");
}
