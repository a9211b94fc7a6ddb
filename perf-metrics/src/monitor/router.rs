use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use super::Monitor;

impl Monitor {
    /// The monitor's endpoints:
    ///
    /// | path | answer |
    /// |---|---|
    /// | `GET /metrics` | all metrics in the Prometheus text format |
    /// | `GET /health` | JSON `status`, `service`, `uptime_seconds`, `checks`; 503 when a check fails |
    /// | `GET /monitoring/stats` | the [`Snapshot`](crate::Snapshot) as JSON |
    ///
    /// Merge it after the [layer](Self::layer), so that scrapes are not timed. A router with a
    /// state takes it after `with_state`.
    ///
    /// Of two routers, axum keeps the answer to unmatched requests (404) of the one that is merged
    /// into the other. So this one's is timed: else the application's unmatched requests would no
    /// longer be counted.
    pub fn router(&self) -> Router {
        let fallback = Router::new().layer(self.layer());
        Router::new()
            .route("/metrics", get(metrics))
            .route("/health", get(health))
            .route("/monitoring/stats", get(stats))
            .with_state(self.clone())
            .merge(fallback)
    }
}

async fn metrics(State(monitor): State<Monitor>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], monitor.render())
}

async fn health(State(monitor): State<Monitor>) -> impl IntoResponse {
    let report = monitor.health().await;
    let status = if report.healthy() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}

async fn stats(State(monitor): State<Monitor>) -> impl IntoResponse {
    Json(monitor.snapshot())
}
