//! `cargo run --release --manifest-path benches/metrics-peers/Cargo.toml [-- --only metrics/axum/1-thread]`
//!
//! The groups of perf-metrics with the peers that bring OpenTelemetry, interleaved with the other
//! entries. Each peer has its defaults, an SDK whose reader nobody reads, and does less: times to
//! the headers, nothing about clients that hang up.
//!
//! | entry | what it records |
//! |---|---|
//! | `axum-otel-metrics` | count, time to the headers, in flight, body sizes |
//! | `opentelemetry-instrumentation-tower` | time to the headers, in flight, body sizes; no spans |
//! | `tower-http` | `TraceLayer` without a subscriber: nothing |

use std::process::ExitCode;

use axum_otel_metrics::HttpMetricsLayerBuilder;
use opentelemetry_instrumentation_tower::http::extractors::AxumMatchedPathExtractor;
use opentelemetry_instrumentation_tower::http::server::LayerBuilder;
use perf_benches::metrics::{Timed, app, groups_with};
use perf_benches::ratios_main;
use tower_http::trace::TraceLayer;

fn main() -> ExitCode {
    let reader = opentelemetry_sdk::metrics::ManualReader::builder().build();
    let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder();
    opentelemetry::global::set_meter_provider(provider.with_reader(reader).build());
    ratios_main(&[("metrics", |_| groups_with(peers))])
}

fn peers() -> Vec<Timed> {
    let mut peers = vec![
        axum_otel_metrics(),
        Timed::new("tower-http", app().layer(TraceLayer::new_for_http())),
    ];
    peers.extend(tower_otel());
    peers
}

fn axum_otel_metrics() -> Timed {
    let reader = opentelemetry_sdk_032::metrics::ManualReader::builder().build();
    let provider = opentelemetry_sdk_032::metrics::SdkMeterProvider::builder();
    let provider = provider.with_reader(reader).build();
    let layer = HttpMetricsLayerBuilder::new()
        .with_provider(provider)
        .build();
    Timed::new("axum-otel-metrics", app().layer(layer))
}

fn tower_otel() -> Option<Timed> {
    let layer = LayerBuilder::builder()
        .with_route_extractor(AxumMatchedPathExtractor)
        .with_tracing(false)
        .build();
    let layer = layer
        .inspect_err(|error| eprintln!("opentelemetry-instrumentation-tower is left out: {error}"))
        .ok()?;
    Some(Timed::new(
        "opentelemetry-instrumentation-tower",
        app().layer(layer),
    ))
}
