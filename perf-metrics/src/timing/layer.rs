use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::Recorder;
use tower_layer::Layer;

use super::exclude::{Exclusions, InvalidPattern};
use super::label::{RequestHead, RouteLabel};
use super::patience::Patience;
use super::service::Timing;
use super::source::Source;
use super::table::{Settings, Table};
use super::upgraded::UpgradedConnection;
use super::watchdog::RunningRequest;
use crate::clock::{self, Instant};

/// Routes that a layer tells apart unless it is told otherwise: a large service has some hundred.
/// Each method and status of a route makes 54 lines of a scrape, and takes memory for each thread that
/// answers with it (16 at most: further ones share): 3 KB where its times lie close together, 11 KB
/// where they are spread from microseconds to minutes.
pub(crate) const DEFAULT_MAX_ROUTES: usize = 256;

/// Times every request of a tower HTTP service and counts it exactly once.
///
/// Works for every `Service<http::Request<_>>` that answers with `http::Response<_>`, and with any
/// recorder of the `metrics` facade. Its metrics are in the
/// [crate documentation](crate#metrics), how requests end is in the [module's](super).
///
/// The label `http_route` is the route that axum matched (feature `axum`: add the layer with
/// `Router::layer`, so that it runs after the routing), or what
/// [`route_label`](Self::route_label) says; it is `_UNMATCHED` where there is none, and `_OVERFLOW`
/// beyond [`max_routes`](Self::max_routes). Methods other than the nine of the HTTP standard are
/// `_OTHER`.
///
/// Handles are fetched at the first request of a method, route and status, and kept. While no
/// recorder is installed none is kept, so a layer that is built, or even used, before the recorder
/// is installed counts from then on.
///
/// The first layer of a process calibrates the clock, which keeps its thread busy for some
/// milliseconds, at most 200. Build it before the server serves.
///
/// What a layer counts with stays in memory until the process ends, as the number of routes is
/// bounded and requests are spared a reference count: build layers when the process starts, not for
/// each connection. Clones, and the services that they make, share it.
///
/// Clones share their routes, and so the limit. A request counts in each layer that it goes
/// through: add one layer around all routes, not one inside another.
#[derive(Debug, Clone)]
pub struct TimingLayer {
    settings: Settings,
    table: Arc<Shared>,
}

/// The table of a layer and its clones, made when it is needed, as it lives for ever.
#[derive(Debug, Default)]
struct Shared(OnceLock<&'static Table>);

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(table) = self.0.get() {
            table.slow_log.tell(None);
        }
    }
}

impl TimingLayer {
    /// A layer that records with the installed recorder.
    ///
    /// As for the macros of `metrics`, that is the thread's local recorder where there is one. The
    /// handles stay with the recorder that was there when they were fetched; for a recorder that
    /// is not installed for the whole process, prefer [`with_recorder`](Self::with_recorder).
    #[must_use]
    pub fn new() -> Self {
        Self::from_source(Source::Installed)
    }

    /// A layer that records with `recorder`, whether that is installed or not.
    #[must_use]
    pub fn with_recorder(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        Self::from_source(Source::of(recorder))
    }

    fn from_source(source: Source) -> Self {
        clock::calibrate();
        Self::from_settings(Settings {
            source,
            label: RouteLabel::default(),
            max_routes: DEFAULT_MAX_ROUTES,
            exclusions: None,
            slow_log: None,
            watchdog: None,
            process_time_header: false,
        })
    }

    fn from_settings(settings: Settings) -> Self {
        Self {
            settings,
            table: Arc::default(),
        }
    }

    /// A new layer of this one's settings with a change.
    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        Self::from_settings(self.settings)
    }

    fn table(&self) -> &'static Table {
        self.table
            .0
            .get_or_init(|| Box::leak(Box::new(Table::new(self.settings.clone()))))
    }

    /// How many routes are told apart; those that come later share the label `_OVERFLOW`.
    /// Defaults to 256; at most 65,536.
    ///
    /// This and all other settings return a layer that starts anew: it shares nothing with clones
    /// made before.
    #[must_use]
    pub fn max_routes(self, max_routes: usize) -> Self {
        self.with(|settings| settings.max_routes = max_routes)
    }

    /// Takes the label `http_route` from `label` instead of the framework; where it returns
    /// `None`, the label is `_UNMATCHED`.
    ///
    /// Return the pattern of a route (`/users/{id}`), never a path as the client sent it: each
    /// label is a set of series, and after [`max_routes`](Self::max_routes) of them the rest is
    /// lumped together.
    ///
    /// ```
    /// # use perf_metrics::TimingLayer;
    /// let layer = TimingLayer::new().route_label(|request| {
    ///     let path = request.uri().path();
    ///     path.starts_with("/users/").then(|| "/users/{id}".into())
    /// });
    /// ```
    #[must_use]
    pub fn route_label(
        self,
        label: impl for<'a> Fn(RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.label = RouteLabel::Custom(Arc::new(label)))
    }

    /// Leaves out the requests whose path, or whose route, matches one of the patterns: they read
    /// no clock, count nowhere and get no header. Defaults to none; more than one call adds up.
    ///
    /// Patterns are axum's: `/metrics`, `/users/{id}`, `/static/{*rest}` (which does not match
    /// `/static/` itself). The path is that which the layer sees: inside a nested router, axum has
    /// taken the prefix off it, but not off the route.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`] for what is no such pattern.
    ///
    /// ```
    /// # use perf_metrics::TimingLayer;
    /// # fn main() -> Result<(), perf_metrics::timing::InvalidPattern> {
    /// let layer = TimingLayer::new().exclude(["/static/{*rest}", "/metrics"])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn exclude(
        self,
        patterns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, InvalidPattern> {
        let before = self.settings.exclusions.as_ref();
        let exclusions = Exclusions::with(before, patterns)?;
        Ok(self.with(|settings| settings.exclusions = Some(exclusions)))
    }

    /// Logs and counts (`http_server_slow_requests_total`) requests that take `threshold` or longer
    /// to their response headers, or that end without headers after as long. Defaults to off.
    ///
    /// The line is a `tracing` event at the level WARN in the current span, with the fields
    /// `http.request.method`, `http.route`, `http.response.status_code` or `aborted` (`dropped`,
    /// `panic`, `error`), `seconds`, `trace_id` (of the request's `traceparent` header), `span_id`
    /// (`tracing`'s, of the current span) and `suppressed`: at most ten such lines are written a
    /// second, and the next says how many were not, unless a line of its own has (`slow requests were
    /// not logged`): that is written when a request starts or the monitor is read a second after the
    /// first that was left out, and when the last clone of the layer is dropped, of which a
    /// [`Monitor`](crate::Monitor) keeps one. A layer that is alone is often dropped once its service
    /// is made, so keep a clone of it until the end for what the last second left out. The time to the
    /// end of the body does not matter here, as streams may well be long.
    #[must_use]
    pub fn slow_log(self, threshold: Duration) -> Self {
        self.with(|settings| settings.slow_log = Some(threshold))
    }

    /// Logs requests that have been running for `threshold` or longer and have no response headers
    /// yet, such as those that hang for ever and so never come into a histogram. Defaults to off.
    ///
    /// The line is a `tracing` event at the level WARN, one for each method and route
    /// (`http.request.method`, `http.route`) with requests that were not told of before: the age of
    /// its oldest (`seconds`), the threshold (`limit_seconds`), how many are new (`found`) and how
    /// many exceed it in all (`running`). A look writes ten lines at most, those of the oldest
    /// requests, and says how many routes it left out (`unnamed_routes`), whose turn comes at the
    /// next looks. The layer has no task: it looks when a request starts, or when
    /// [`running`](Self::running) is called or the monitor rendered (by a scrape), at most once a
    /// second.
    #[must_use]
    pub fn watchdog(self, threshold: Duration) -> Self {
        self.watch_by(Patience::new(threshold))
    }

    /// The same with limits that differ by route.
    pub(crate) fn watch_by(self, patience: Patience) -> Self {
        self.with(|settings| settings.watchdog = Some(patience))
    }

    /// Adds the header `X-Process-Time` to responses: the time to the headers, in seconds with six
    /// digits after the point. Replaces one that is there. Defaults to `false`: a client can tell
    /// from it, say, whether a cache was hit.
    #[must_use]
    pub fn process_time_header(self, add: bool) -> Self {
        self.with(|settings| settings.process_time_header = add)
    }

    /// The requests that are running now, the oldest first: those that wait for headers, and those
    /// whose body is being sent.
    ///
    /// There is room for 65,472 on each of the first twelve threads where requests start, and for as
    /// many on each of four that all others share, in memory that grows as it is needed; requests beyond that are not listed, and counted in
    /// `http_server_untracked_requests_total`.
    #[must_use]
    pub fn running(&self) -> Vec<RunningRequest> {
        self.long_running(Duration::ZERO)
    }

    /// The requests that have been running for `min_age` or longer, the oldest first.
    #[must_use]
    pub fn long_running(&self, min_age: Duration) -> Vec<RunningRequest> {
        self.watch();
        let table = self.table.0.get();
        table.map_or_else(Vec::new, |table| table.long_running(min_age))
    }

    /// Counts an upgraded connection, such as a WebSocket, in `http_server_upgraded_connections` of
    /// this route until what is returned is dropped.
    ///
    /// To the layer, a request that is answered with 101 ends there, as its body does; what becomes
    /// of the connection only the code that was handed it knows. Move this there:
    ///
    /// ```
    /// # use perf_metrics::TimingLayer;
    /// # async fn talk() {}
    /// # async fn handler(layer: TimingLayer) {
    /// let connection = layer.upgraded("/ws");
    /// let serve = async move { // for axum: `upgrade.on_upgrade(|socket| async move {`
    ///     let _connection = connection;
    ///     talk().await;
    /// };
    /// # serve.await }
    /// ```
    pub fn upgraded(&self, route: &str) -> UpgradedConnection {
        self.table().upgraded(route)
    }

    /// Lets the watchdog look, and the slow log tell what it left out, if it is time.
    pub(crate) fn watch(&self) {
        if let Some(table) = self.table.0.get() {
            clock::compare();
            let now = Instant::now();
            table.watch(now);
            table.slow_log.tell(Some(now));
        }
    }
}

impl Default for TimingLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for TimingLayer {
    type Service = Timing<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timing::new(inner, self.table())
    }
}
