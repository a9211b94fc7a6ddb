use std::borrow::Cow;
use std::sync::Arc;

use metrics::Recorder;
use tower_layer::Layer;

use super::label::{RequestHead, RouteLabel};
use super::service::Timing;
use super::source::Source;
use super::table::Table;
use crate::clock;

/// Routes that a layer tells apart unless it is told otherwise: a large service has some hundred.
/// Each method and status of a route makes 54 lines of a scrape, and 10 KB of memory.
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
/// Clones share their routes, and so the limit. A request counts in each layer that it goes
/// through: add one layer around all routes, not one inside another.
#[derive(Debug, Clone)]
pub struct TimingLayer {
    table: Arc<Table>,
}

impl TimingLayer {
    /// A layer that records with the installed recorder.
    ///
    /// As for the macros of `metrics`, that is the thread's local recorder where there is one. The
    /// handles stay with the recorder that was there when they were fetched; for a recorder that
    /// is not installed for the whole process, prefer [`with_recorder`](Self::with_recorder).
    #[must_use]
    pub fn new() -> Self {
        Self::from_source(Source::Installed, DEFAULT_MAX_ROUTES)
    }

    /// A layer that records with `recorder`, whether that is installed or not.
    #[must_use]
    pub fn with_recorder(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        Self::from_source(Source::Fixed(Arc::new(recorder)), DEFAULT_MAX_ROUTES)
    }

    fn from_source(source: Source, max_routes: usize) -> Self {
        clock::calibrate();
        Self {
            table: Arc::new(Table::new(source, RouteLabel::default(), max_routes)),
        }
    }

    /// How many routes are told apart; those that come later share the label `_OVERFLOW`.
    /// Defaults to 256; at most 65,536.
    ///
    /// The returned layer starts with no routes of its own; it shares nothing with clones made
    /// before.
    #[must_use]
    pub fn max_routes(self, max_routes: usize) -> Self {
        let Table { source, label, .. } = &*self.table;
        Self {
            table: Arc::new(Table::new(source.clone(), label.clone(), max_routes)),
        }
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
        let label = RouteLabel::Custom(Arc::new(label));
        Self {
            table: Arc::new(Table::new(
                self.table.source.clone(),
                label,
                self.table.max_routes(),
            )),
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
        Timing::new(inner, Arc::clone(&self.table))
    }
}
