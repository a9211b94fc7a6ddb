//! The layer with a recorder that is not the monitor's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use perf_metrics::{Monitor, MonitorRecorder, TimingLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::log::Lines;

async fn answer(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let mut response = Response::new(Full::from("hello"));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method("POST").uri(path);
    request.body(Full::from(body)).unwrap()
}

pub(crate) fn values(
    snapshotter: &Snapshotter,
    name: &str,
) -> Vec<(BTreeSet<(String, String)>, DebugValue)> {
    let all = snapshotter.snapshot().into_vec();
    let of_name = all.into_iter().filter(|(key, ..)| key.key().name() == name);
    let values = of_name.map(|(key, _, _, value)| {
        let labels = key.key().labels();
        let labels = labels.map(|l| (l.key().to_owned(), l.value().to_owned()));
        (labels.collect(), value)
    });
    values.collect()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

#[tokio::test]
async fn any_recorder_gets_the_metrics_of_the_contract() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let layer = TimingLayer::with_recorder(recorder).route_label(|head| {
        assert_eq!((head.method().as_str(), head.headers().len()), ("POST", 0));
        head.uri()
            .path()
            .starts_with("/users/")
            .then(|| "/users/{id}".into())
    });
    let service = layer.layer(service_fn(answer));
    let response = service.oneshot(post("/users/7", "seven")).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );

    let route = [
        ("http_request_method", "POST"),
        ("http_route", "/users/{id}"),
    ];
    let with_status = labels(&[route[0], route[1], ("http_response_status_code", "201")]);
    let body = DebugValue::Histogram(vec![5.0.into()]);
    let snapshot = snapshotter.snapshot().into_vec();
    let mut names = BTreeSet::new();
    for (key, unit, description, value) in snapshot {
        let name = key.key().name().to_owned();
        assert!(
            unit.is_some() && description.is_some(),
            "{name} is described"
        );
        let found = key
            .key()
            .labels()
            .map(|l| (l.key().to_owned(), l.value().to_owned()));
        let found: BTreeSet<_> = found.collect();
        match name.as_str() {
            "http_server_active_requests" => {
                assert_eq!(
                    (found, value),
                    (labels(&route), DebugValue::Gauge(0.0.into()))
                );
            }
            "http_server_request_body_size_bytes" | "http_server_response_body_size_bytes" => {
                assert_eq!((found, &value), (with_status.clone(), &body), "{name}");
            }
            _ => {
                let DebugValue::Histogram(times) = &value else {
                    panic!("{name}: {value:?}")
                };
                assert!(times.len() == 1 && times[0] > 0.0.into() && times[0] < 10.0.into());
                assert_eq!(found, with_status, "{name}");
            }
        }
        names.insert(name);
    }
    let expected = [
        "http_server_active_requests",
        "http_server_request_body_size_bytes",
        "http_server_request_duration_seconds",
        "http_server_response_body_size_bytes",
        "http_server_response_duration_seconds",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn an_abort_is_counted_with_its_phase_and_reason() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let service = TimingLayer::with_recorder(recorder).layer(service_fn(|_| async {
        Err::<Response<Empty<Bytes>>, _>(std::io::Error::other("broken"))
    }));
    let result = service.oneshot(post("/", "")).await;
    assert!(result.is_err(), "the service's error comes through");
    let expected = labels(&[
        ("http_request_method", "POST"),
        ("http_route", "_UNMATCHED"),
        ("phase", "headers"),
        ("reason", "error"),
    ]);
    let aborted = values(&snapshotter, "http_server_requests_aborted_total");
    assert_eq!(aborted, [(expected, DebugValue::Counter(1))]);
}

#[test]
fn the_local_recorder_of_a_thread_is_used_while_it_is_there() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let service = TimingLayer::new().layer(service_fn(answer));
    metrics::with_local_recorder(&recorder, || {
        let response = runtime
            .block_on(service.oneshot(post("/", "seven")))
            .unwrap();
        runtime.block_on(response.into_body().collect()).unwrap();
    });
    let sizes = values(&snapshotter, "http_server_response_body_size_bytes");
    assert_eq!(sizes.len(), 1);
    assert_eq!(sizes[0].1, DebugValue::Histogram(vec![5.0.into()]));
}

/// Notes what is recorded, in its order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Noted(Log, String);

impl Noted {
    fn note(&self, what: &str) {
        self.0.0.lock().unwrap().push(format!("{} {what}", self.1));
    }
}

impl CounterFn for Noted {
    fn increment(&self, _: u64) {
        self.note("+");
    }
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Noted {
    fn increment(&self, _: f64) {
        self.note("+");
    }
    fn decrement(&self, _: f64) {
        self.note("-");
    }
    fn set(&self, _: f64) {}
}

impl HistogramFn for Noted {
    fn record(&self, _: f64) {
        self.note("+");
    }
}

impl Log {
    fn noted(&self, key: &Key) -> Arc<Noted> {
        Arc::new(Noted(self.clone(), key.name().to_owned()))
    }
}

impl Recorder for Log {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.noted(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.noted(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.noted(key))
    }
}

#[tokio::test]
async fn a_request_is_in_flight_until_all_else_of_it_is_recorded() {
    let log = Log::default();
    let mut service = TimingLayer::with_recorder(log.clone()).layer(service_fn(answer));
    let response = service.clone().oneshot(post("/", "seven")).await.unwrap();
    response.into_body().collect().await.unwrap();
    drop(service.clone().oneshot(post("/", "seven")).await.unwrap());
    drop(service.call(post("/", "seven")));

    let log = log.0.lock().unwrap();
    let active = "http_server_active_requests";
    let requests: Vec<_> = log
        .split_inclusive(|n| *n == format!("{active} -"))
        .collect();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request[0], format!("{active} +"), "{request:?}");
        assert_eq!(
            request[request.len() - 1],
            format!("{active} -"),
            "{request:?}"
        );
        assert!(request.len() > 2, "{request:?}");
    }
}

/// A monitor's recorder as the facade sees it: the layer cannot tell what is behind it.
struct Hidden(MonitorRecorder);

impl Recorder for Hidden {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_counter(key, unit, text);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_gauge(key, unit, text);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_histogram(key, unit, text);
    }
    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.register_counter(key, metadata)
    }
    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }
    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

/// What a monitor shows of some requests that ended and one that runs, but for the times.
async fn shown(layer: impl Fn(MonitorRecorder) -> TimingLayer) -> Vec<String> {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = layer(monitor.recorder()).layer(service_fn(answer));
    for body in ["", "seven", "a longer body"] {
        let response = service.clone().oneshot(post("/", body)).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    drop(service.clone().oneshot(post("/", "seven")).await.unwrap());
    drop(service.call(post("/", "seven")));
    let running = service.call(post("/", "seven"));
    let text = monitor.render();
    drop(running);
    let times = |line: &&str| {
        line.contains("duration_seconds_sum") || line.contains("duration_seconds_bucket")
    };
    let lines = text.lines().filter(|line| line.contains("http_server"));
    lines
        .filter(|line| !times(line))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_monitors_own_cells_and_the_facade_show_the_same() {
    let own = shown(TimingLayer::with_recorder).await;
    let facade = shown(|recorder| TimingLayer::with_recorder(Hidden(recorder))).await;
    assert_eq!(own, facade);
    assert!(
        own.iter()
            .any(|line| line.starts_with("http_server_active_requests{") && line.ends_with(" 1")),
        "{own:#?}"
    );
}

#[test]
fn a_name_that_is_recorded_as_two_kinds_is_told_of_once() {
    let (lines, _guard) = Lines::of_this_thread();
    let monitor = Monitor::builder().build().unwrap();
    let message = "a metric is recorded as two kinds, of which scrapes show one: rename the other";
    metrics::with_local_recorder(&monitor.recorder(), || {
        metrics::gauge!("jobs").set(1.0);
        metrics::counter!("orders_total").increment(1);
        monitor.render();
        assert!(lines.with(message).is_empty());
        metrics::counter!("jobs", "queue" => "mail").increment(1);
        metrics::counter!("jobs", "queue" => "sms").increment(1);
    });
    let shown = monitor.render();
    assert!(shown.contains("\njobs 1\n") && !shown.contains("mail"));
    monitor.render_openmetrics();
    let told = lines.with(message);
    assert_eq!(told.len(), 1, "{told:?}");
    let fields = ["level", "metric", "shown", "left_out"].map(|name| told[0][name].as_str());
    assert_eq!(fields, ["WARN", "jobs", "gauge", "counter"]);
}

#[test]
fn quantiles_are_within_five_percent_of_hdrhistograms() {
    let monitor = Monitor::builder().build().unwrap();
    let mut exact = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        let times = metrics::histogram!("http_server_request_duration_seconds",
            "http_request_method" => "GET", "http_route" => "/", "http_response_status_code" => "200");
        let mut state = 42u64;
        for _ in 0..200_000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            // 20 microseconds to 20 seconds, each decade as often: a long tail.
            let nanos = 2e4 * 1e6f64.powf((state >> 11) as f64 / (1u64 << 53) as f64);
            exact.record(nanos as u64).unwrap();
            times.record(nanos * 1e-9);
        }
    });
    let quantiles = monitor.snapshot().requests.quantiles;
    for (q, estimate) in [
        (0.5, quantiles.p50_seconds),
        (0.95, quantiles.p95_seconds),
        (0.99, quantiles.p99_seconds),
    ] {
        let exact = exact.value_at_quantile(q) as f64 * 1e-9;
        let estimate = estimate.unwrap();
        assert!(
            (estimate - exact).abs() <= 0.05 * exact,
            "p{q}: {estimate} for {exact}"
        );
    }
}
