use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

#[cfg(feature = "axum")]
use axum::extract::MatchedPath;
use http::Request;
use http_body::Body;
use metrics::Key;

use super::exclude::{Excluded, Exclusions};
use super::guard::Guard;
use super::label::{METHODS, OVERFLOW, RequestHead, RouteLabel, UNMATCHED, method_index};
use super::names::{METADATA, UNTRACKED_REQUESTS, describe};
use super::patience::Patience;
#[cfg(feature = "axum")]
use super::pins::Pins;
use super::routes::{Route, Routes};
use super::running::Running;
use super::series::RouteSeries;
use super::slow::SlowLog;
use super::source::Source;
use super::upgraded::UpgradedConnection;
use super::watchdog::Watchdog;

/// What a layer was told.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) source: Source,
    pub(super) label: RouteLabel,
    pub(super) max_routes: usize,
    pub(super) exclusions: Option<Exclusions>,
    pub(super) slow_log: Option<Duration>,
    pub(super) watchdog: Option<Patience>,
    pub(super) process_time_header: bool,
}

/// All series of a layer, and how that of a request is found.
///
/// Lives for ever, as requests that run refer to it: with a reference count, each request would
/// write to it twice more, and threads would wait for each other to do so.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) settings: Settings,
    pub(super) running: Running,
    pub(super) slow_log: SlowLog,
    pub(super) watchdog: Watchdog,
    routes: Routes,
    #[cfg(feature = "axum")]
    pins: Pins,
    unmatched: Route,
    overflow: Route,
    described: Once,
    /// Whether more than counting may be asked for.
    pub(super) attentive: bool,
}

/// A method on a route, by where they are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SeriesId(u32);

impl SeriesId {
    const OF_UNMATCHED: usize = Routes::SLOTS;
    const OF_OVERFLOW: usize = Routes::SLOTS + 1;

    /// Methods have four bits, routes the rest.
    fn new(route: usize, method: usize) -> Self {
        Self((route << 4 | method) as u32)
    }

    fn route(self) -> usize {
        (self.0 >> 4) as usize
    }

    fn method(self) -> usize {
        (self.0 & 15) as usize
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// The series of a request.
#[derive(Debug)]
pub(super) enum Found {
    Kept(&'static RouteSeries),
    /// There is no recorder to count for.
    Unkept(Arc<RouteSeries>),
}

impl Deref for Found {
    type Target = RouteSeries;

    fn deref(&self) -> &RouteSeries {
        match self {
            Self::Kept(series) => series,
            Self::Unkept(series) => series,
        }
    }
}

/// What is seen of a request in the fewest steps.
#[cfg_attr(
    not(feature = "axum"),
    expect(dead_code, reason = "routes are pinned by what axum matched")
)]
pub(super) enum Glance {
    /// Its route is pinned, and had such a request before.
    Series(&'static RouteSeries),
    /// Its route is pinned, and left out.
    Excluded,
    /// It takes a longer look.
    Unclear,
}

/// Marks a request that a table has counted as unmatched.
#[derive(Debug, Clone)]
struct Counted(&'static Table);

impl Table {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            running: Running::default(),
            slow_log: SlowLog::default(),
            watchdog: Watchdog::new(settings.watchdog.clone()),
            routes: Routes::new(settings.max_routes),
            #[cfg(feature = "axum")]
            pins: Pins::new(settings.max_routes.min(Routes::MOST)),
            unmatched: Route::new(SeriesId::OF_UNMATCHED, UNMATCHED, Excluded::ByPath),
            overflow: Route::new(SeriesId::OF_OVERFLOW, OVERFLOW, Excluded::ByPath),
            described: Once::new(),
            attentive: settings.slow_log.is_some()
                || settings.watchdog.is_some()
                || settings.process_time_header,
            settings,
        }
    }

    /// What there is to see at once of where the request counts.
    #[inline(always)]
    pub(super) fn glance<B>(&'static self, request: &Request<B>) -> Glance {
        #[cfg(feature = "axum")]
        if self.settings.label.is_route()
            && let Some(path) = request.extensions().get()
            && let Some(route) = self.pins.get(path)
        {
            return match route.excluded {
                Excluded::Never => route
                    .series(request.method())
                    .map_or(Glance::Unclear, Glance::Series),
                Excluded::Always => Glance::Excluded,
                Excluded::ByPath => Glance::Unclear,
            };
        }
        let _ = request;
        Glance::Unclear
    }

    /// The series that the request counts in; `None` if it is excluded, or counted already.
    pub(super) fn of<B: Body>(&'static self, request: &mut Request<B>) -> Option<Found> {
        match &self.settings.label {
            #[cfg(feature = "axum")]
            RouteLabel::Matched => match request.extensions().get() {
                Some(path) => self.of_matched(path, request),
                None => self.of_unmatched(request),
            },
            #[cfg(not(feature = "axum"))]
            RouteLabel::Matched => self.of_unmatched(request),
            RouteLabel::Custom(label) => {
                let head = RequestHead::new(request);
                // What it may have left half done is the user's, who sees the panic.
                match catch_unwind(AssertUnwindSafe(|| label(head))) {
                    Ok(Some(name)) => self.of_label(&name, request),
                    Ok(None) => self.of_unmatched(request),
                    Err(panic) => {
                        Guard::panicked(self, request);
                        resume_unwind(panic)
                    }
                }
            }
        }
    }

    #[cfg(feature = "axum")]
    fn of_matched<B>(&'static self, path: &MatchedPath, request: &Request<B>) -> Option<Found> {
        match self.pins.get(path) {
            Some(route) => self.of_route(route, route.excluded, request),
            None => self.of_unpinned(path, request),
        }
    }

    #[cfg(feature = "axum")]
    #[cold]
    fn of_unpinned<B>(&'static self, path: &MatchedPath, request: &Request<B>) -> Option<Found> {
        let name = path.as_str();
        if let Some(route) = self.routes.get(name, || self.excluded(name)) {
            self.pins.add(path, route);
        }
        self.of_label(name, request)
    }

    fn of_label<B>(&'static self, name: &str, request: &Request<B>) -> Option<Found> {
        let excluded = || self.excluded(name);
        match self.routes.get(name, excluded) {
            Some(route) => self.of_route(route, route.excluded, request),
            None => self.of_route(&self.overflow, excluded(), request),
        }
    }

    #[inline]
    fn of_route<B>(
        &'static self,
        route: &'static Route,
        excluded: Excluded,
        request: &Request<B>,
    ) -> Option<Found> {
        if excluded != Excluded::Never && self.excludes(excluded, request) {
            return None;
        }
        Some(self.series_of(route, request))
    }

    #[inline(never)]
    pub(super) fn of_unmatched<B>(&'static self, request: &mut Request<B>) -> Option<Found> {
        if self.excludes(Excluded::ByPath, request) {
            return None;
        }
        // A router's fallback can be inside two layers of the same monitor: the application's, and
        // that of the monitor's own router when it was merged first. The mark costs an allocation,
        // but only for requests that match nothing.
        if cfg!(feature = "axum") {
            let marked = request.extensions_mut().insert(Counted(self));
            if marked.is_some_and(|Counted(other)| std::ptr::eq(other, self)) {
                return None;
            }
        }
        Some(self.series_of(&self.unmatched, request))
    }

    /// What a label says of the exclusion of its requests.
    fn excluded(&self, name: &str) -> Excluded {
        match &self.settings.exclusions {
            None => Excluded::Never,
            Some(exclusions) if self.settings.label.is_route() => exclusions.of_route(name),
            // What the label says of the path, only the user's function knows.
            Some(exclusions) if exclusions.matches(name) => Excluded::Always,
            Some(_) => Excluded::ByPath,
        }
    }

    /// Counts an upgraded connection.
    pub(super) fn upgraded(&'static self, route: &str) -> UpgradedConnection {
        let found = self.routes.get(route, || self.excluded(route));
        let route = found.unwrap_or(&self.overflow);
        UpgradedConnection::new(route, &self.settings.source)
    }

    fn excludes<B>(&self, excluded: Excluded, request: &Request<B>) -> bool {
        match (&self.settings.exclusions, excluded) {
            (None, _) | (_, Excluded::Never) => false,
            (Some(_), Excluded::Always) => true,
            (Some(exclusions), Excluded::ByPath) => exclusions.matches(request.uri().path()),
        }
    }

    /// The series of the request's method on a route.
    #[inline]
    fn series_of<B>(&'static self, route: &'static Route, request: &Request<B>) -> Found {
        match route.series(request.method()) {
            Some(series) => Found::Kept(series),
            None => self.new_series(route, method_index(request.method())),
        }
    }

    /// Not kept while there is no recorder to count for it.
    #[cold]
    fn new_series(&'static self, route: &'static Route, method: usize) -> Found {
        let source = &self.settings.source;
        let series = RouteSeries::new(self, SeriesId::new(route.index, method), &route.name);
        match route.methods.get(method) {
            Some(slot) if series.kept() => {
                self.described
                    .call_once(|| source.with(|recorder| describe(recorder)).0);
                Found::Kept(slot.get_or_init(|| Box::new(series)))
            }
            _ => Found::Unkept(Arc::new(series)),
        }
    }

    /// Counts a request that is not listed while it runs.
    #[cold]
    pub(super) fn untracked(&self) {
        let key = Key::from_static_name(UNTRACKED_REQUESTS);
        let (counter, _) = self
            .settings
            .source
            .with(|r| r.register_counter(&key, &METADATA));
        counter.increment(1);
    }

    fn route(&self, id: SeriesId) -> Option<&Route> {
        match id.route() {
            SeriesId::OF_UNMATCHED => Some(&self.unmatched),
            SeriesId::OF_OVERFLOW => Some(&self.overflow),
            index => self.routes.at(index),
        }
    }

    /// The label of the route.
    pub(super) fn route_name(&self, id: SeriesId) -> &str {
        self.route(id).map_or(UNMATCHED, |route| &route.name)
    }
}

impl SeriesId {
    /// The label of the method.
    pub(super) fn method_name(self) -> &'static str {
        METHODS.get(self.method()).copied().unwrap_or("_OTHER")
    }
}
