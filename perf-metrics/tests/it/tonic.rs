//! The layer on a real server of tonic's, called by a real client.

use std::time::Duration;

use perf_metrics::Monitor;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::exposition::Exposition;
use crate::protocols::until;

async fn serve(monitor: &Monitor) -> (HealthClient<Channel>, HealthReporter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reporter, service) = health_reporter();
    reporter
        .set_service_status("orders", ServingStatus::Serving)
        .await;
    let server = Server::builder()
        .layer(monitor.layer())
        .add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    (
        HealthClient::new(channel.connect().await.unwrap()),
        reporter,
    )
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// The calls of a method by their status.
fn calls(monitor: &Monitor, route: &str) -> Vec<(String, f64)> {
    let text = Exposition::parse(&monitor.render());
    let counted = text.samples("http_server_grpc_responses_total");
    let mut counted: Vec<_> = counted
        .filter(|sample| sample.labels["http_route"] == route)
        .map(|sample| (sample.labels["rpc_grpc_status_code"].clone(), sample.value))
        .collect();
    counted.sort_by(|a, b| a.0.cmp(&b.0));
    counted
}

#[tokio::test]
async fn calls_of_tonic_are_counted_by_method_and_status_and_streams_until_their_end() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    // tonic has no routes; its paths are the methods of services.
    let monitor = Monitor::builder()
        .route_label(|head| Some(head.uri().path().to_owned().into()))
        .build()
        .unwrap();
    let (mut client, reporter) = serve(&monitor).await;
    for _ in 0..3 {
        client.check(of("orders")).await.unwrap();
    }
    let unknown = client.check(of("nothing")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    until("all are over", || monitor.running().is_empty()).await;
    let expected = [("0".to_owned(), 3.0), ("5".to_owned(), 1.0)];
    assert_eq!(calls(&monitor, CHECK), expected);

    // A stream runs until it ends, here by its client.
    let mut watched = client.watch(of("orders")).await.unwrap().into_inner();
    for status in [ServingStatus::Serving, ServingStatus::NotServing] {
        let message = tokio::time::timeout(Duration::from_secs(20), watched.message());
        let message = message.await.unwrap().unwrap().unwrap();
        assert_eq!(message.status, status as i32);
        reporter
            .set_service_status("orders", ServingStatus::NotServing)
            .await;
    }
    assert_eq!(monitor.running().len(), 1);
    drop(watched);
    until("it is over", || monitor.running().is_empty()).await;
    let requests = monitor.snapshot().requests;
    assert_eq!(
        (requests.count, requests.aborted, requests.in_flight),
        (5, 1, 0)
    );
    assert_eq!(calls(&monitor, WATCH), []);
}
