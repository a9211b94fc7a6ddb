use metrics::{Level, Metadata, Recorder, Unit};

pub(crate) const REQUEST_DURATION: &str = "http_server_request_duration_seconds";
pub(crate) const RESPONSE_DURATION: &str = "http_server_response_duration_seconds";
pub(crate) const ACTIVE_REQUESTS: &str = "http_server_active_requests";
pub(crate) const REQUEST_BODY_SIZE: &str = "http_server_request_body_size_bytes";
pub(crate) const RESPONSE_BODY_SIZE: &str = "http_server_response_body_size_bytes";
pub(crate) const REQUESTS_ABORTED: &str = "http_server_requests_aborted_total";
pub(crate) const SLOW_REQUESTS: &str = "http_server_slow_requests_total";
pub(crate) const UPGRADED_CONNECTIONS: &str = "http_server_upgraded_connections";
pub(crate) const GRPC_RESPONSES: &str = "http_server_grpc_responses_total";
pub(crate) const UNTRACKED_REQUESTS: &str = "http_server_untracked_requests_total";

pub(crate) const METHOD: &str = "http_request_method";
pub(crate) const ROUTE: &str = "http_route";
pub(crate) const STATUS: &str = "http_response_status_code";
pub(crate) const GRPC_STATUS: &str = "rpc_grpc_status_code";
pub(crate) const PHASE: &str = "phase";
pub(crate) const REASON: &str = "reason";

pub(super) static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Tells `recorder` what the metrics of the layer mean.
pub(super) fn describe(recorder: &dyn Recorder) {
    let histogram = |name: &'static str, unit, text: &'static str| {
        recorder.describe_histogram(name.into(), Some(unit), text.into());
    };
    histogram(
        REQUEST_DURATION,
        Unit::Seconds,
        "Time from the request to the response headers.",
    );
    histogram(
        RESPONSE_DURATION,
        Unit::Seconds,
        "Time from the request to the end of the response body.",
    );
    histogram(
        REQUEST_BODY_SIZE,
        Unit::Bytes,
        "Size of the request bodies whose length was declared.",
    );
    histogram(
        RESPONSE_BODY_SIZE,
        Unit::Bytes,
        "Size of the response bodies that were sent to their end.",
    );
    recorder.describe_gauge(
        ACTIVE_REQUESTS.into(),
        Some(Unit::Count),
        "Requests in flight, until the end of the response body.".into(),
    );
    recorder.describe_gauge(
        UPGRADED_CONNECTIONS.into(),
        Some(Unit::Count),
        "Connections that were upgraded, such as to WebSockets, and are open.".into(),
    );
    let counter = |name: &'static str, text: &'static str| {
        recorder.describe_counter(name.into(), Some(Unit::Count), text.into());
    };
    counter(
        REQUESTS_ABORTED,
        "Requests that ended before the end of their response body.",
    );
    counter(
        SLOW_REQUESTS,
        "Requests that took longer to their response headers than the slow log allows.",
    );
    counter(
        GRPC_RESPONSES,
        "Responses of gRPC that were sent to their end.",
    );
    counter(
        UNTRACKED_REQUESTS,
        "Requests that too many others ran beside to be listed while they run.",
    );
}
