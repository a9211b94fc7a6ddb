mod accept;
mod serve;
mod token;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::health::CheckKind;
use super::{Monitor, MonitorBuilder};
use crate::recorder::Format;

pub(super) use token::AdminToken;

impl MonitorBuilder {
    /// Asks for `Authorization: Bearer <token>` at `/metrics`, `/health` and `/monitoring/stats`;
    /// the answer is 401 without. The token is compared in constant time (its length may show),
    /// and is in no debug output. Defaults to none: all endpoints are open.
    ///
    /// `/health/live` and `/health/ready` stay open, since load balancers and orchestrators probe
    /// them without credentials; the texts of errors are left out there for who has no token.
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(AdminToken::new(token.into()));
        self
    }
}

impl Monitor {
    /// The monitor's endpoints:
    ///
    /// | path | answer |
    /// |---|---|
    /// | `GET /metrics` | all metrics, as OpenMetrics 1.0 for who prefers that in `Accept`, else in the Prometheus text format 0.0.4 |
    /// | `GET /health/live` | JSON `status`, `service`, `uptime_seconds`, and the liveness `checks`; 503 when one fails |
    /// | `GET /health/ready` | the same with the readiness checks |
    /// | `GET /health` | the same with all checks |
    /// | `GET /monitoring/stats` | the [`Snapshot`](crate::Snapshot) as JSON |
    ///
    /// Merge it after the [layer](Self::layer), so that scrapes are not timed. A router with a
    /// state takes it after `with_state`. Nest it (`nest("/internal", monitor.router())`) where the
    /// application has one of these paths itself, and [`serve`](Self::serve) it where the
    /// endpoints belong on another port.
    ///
    /// Of two routers, axum keeps the answer to unmatched requests (404) of the one that is merged
    /// into the other. So this one's is timed: else the application's unmatched requests would no
    /// longer be counted.
    pub fn router(&self) -> Router {
        self.endpoints().merge(Router::new().layer(self.layer()))
    }

    fn endpoints(&self) -> Router {
        let admin = Router::new()
            .route("/metrics", get(metrics))
            .route("/health", get(health))
            .route("/monitoring/stats", get(stats))
            .route_layer(from_fn_with_state(self.clone(), authorize));
        Router::new()
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .merge(admin)
            .with_state(self.clone())
    }

    fn authorized(&self, headers: &HeaderMap) -> bool {
        let token = self.inner.token.as_ref();
        token.is_none_or(|token| token.allows(headers))
    }
}

async fn authorize(State(monitor): State<Monitor>, request: Request, next: Next) -> Response {
    if monitor.authorized(request.headers()) {
        next.run(request).await
    } else {
        AdminToken::refusal()
    }
}

async fn metrics(State(monitor): State<Monitor>, headers: HeaderMap) -> impl IntoResponse {
    let format = accept::format(headers.get_all(ACCEPT).iter());
    let kind = match format {
        Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    };
    (
        [(CONTENT_TYPE, kind), (VARY, "accept")],
        monitor.render_as(format),
    )
}

async fn health(State(monitor): State<Monitor>) -> Response {
    answer(&monitor, None, true).await
}

async fn live(State(monitor): State<Monitor>, headers: HeaderMap) -> Response {
    let authorized = monitor.authorized(&headers);
    answer(&monitor, Some(CheckKind::Liveness), authorized).await
}

async fn ready(State(monitor): State<Monitor>, headers: HeaderMap) -> Response {
    let authorized = monitor.authorized(&headers);
    answer(&monitor, Some(CheckKind::Readiness), authorized).await
}

async fn answer(monitor: &Monitor, kind: Option<CheckKind>, errors: bool) -> Response {
    let report = monitor.health(kind).await;
    let status = if report.healthy() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let report = if errors {
        report
    } else {
        report.without_errors()
    };
    (status, [(CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

async fn stats(State(monitor): State<Monitor>) -> impl IntoResponse {
    Json(monitor.snapshot())
}
