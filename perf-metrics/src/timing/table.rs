use std::collections::HashMap;
use std::sync::{Arc, Once, OnceLock, PoisonError, RwLock};

use http::Request;

use super::label::{METHODS, OVERFLOW, RouteLabel, UNMATCHED, method_index};
use super::names::describe;
use super::series::RouteSeries;
use super::source::Source;

/// One route and its series by method.
#[derive(Debug)]
struct Route {
    name: Arc<str>,
    methods: [OnceLock<Arc<RouteSeries>>; METHODS.len()],
}

impl Route {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            methods: Default::default(),
        })
    }
}

/// All routes of a layer, never more than its limit, and how they are found.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) source: Source,
    pub(super) label: RouteLabel,
    pub(super) max_routes: usize,
    routes: RwLock<HashMap<Arc<str>, Arc<Route>>>,
    unmatched: Arc<Route>,
    overflow: Arc<Route>,
    described: Once,
}

impl Table {
    pub(super) fn new(source: Source, label: RouteLabel, max_routes: usize) -> Self {
        Self {
            source,
            label,
            max_routes,
            routes: RwLock::default(),
            unmatched: Route::new(UNMATCHED),
            overflow: Route::new(OVERFLOW),
            described: Once::new(),
        }
    }

    /// The route named `name`, or the overflow route when there is no room for it.
    fn route(&self, name: &str) -> Arc<Route> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(name) {
            return Arc::clone(route);
        }
        if routes.len() >= self.max_routes {
            return Arc::clone(&self.overflow);
        }
        drop(routes);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first, or may have taken the last place.
        if let Some(route) = routes.get(name) {
            return Arc::clone(route);
        }
        if routes.len() >= self.max_routes {
            return Arc::clone(&self.overflow);
        }
        let route = Route::new(name);
        routes.insert(Arc::clone(&route.name), Arc::clone(&route));
        route
    }

    /// The series of a method on a route. Not kept while there is no recorder to count for it.
    fn series(&self, route: &Route, method: usize) -> Arc<RouteSeries> {
        let slot = route.methods.get(method);
        if let Some(series) = slot.and_then(OnceLock::get) {
            return Arc::clone(series);
        }
        let name = METHODS.get(method).copied().unwrap_or("_OTHER");
        let series = Arc::new(RouteSeries::new(&self.source, name, &route.name));
        match slot {
            Some(slot) if series.kept() => {
                self.described
                    .call_once(|| self.source.with(|recorder| describe(recorder)).0);
                Arc::clone(slot.get_or_init(|| series))
            }
            _ => series,
        }
    }
}

/// Marks a request that a table has counted as unmatched.
#[derive(Debug, Clone)]
struct Counted(Arc<Table>);

/// The routes that one service has seen lately. A router wraps each of its routes in a service of
/// its own, so the first slot nearly always hits, without a lock. The names are compared by
/// content: routers do not promise to show the same allocation for the same route.
#[derive(Debug)]
pub(super) struct Site {
    table: Arc<Table>,
    seen: [OnceLock<Arc<Route>>; 4],
}

impl Site {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Self {
            table,
            seen: Default::default(),
        }
    }

    /// The series that the request counts in; `None` if it is counted already.
    pub(super) fn series<B>(&self, request: &mut Request<B>) -> Option<Arc<RouteSeries>> {
        match self.matched(request) {
            None => self.unmatched(request),
            matched => matched,
        }
    }

    /// Counts a request that matches no route, once.
    ///
    /// A router's fallback can be inside two layers of the same monitor: the application's, and
    /// that of the monitor's own router when it was merged first. The mark costs an allocation,
    /// but only for these requests.
    fn unmatched<B>(&self, request: &mut Request<B>) -> Option<Arc<RouteSeries>> {
        if cfg!(feature = "axum") {
            let mark = Counted(Arc::clone(&self.table));
            let marked = request.extensions_mut().insert(mark);
            if marked.is_some_and(|Counted(table)| Arc::ptr_eq(&table, &self.table)) {
                return None;
            }
        }
        let method = method_index(request.method());
        Some(self.table.series(&self.table.unmatched, method))
    }

    fn matched<B>(&self, request: &Request<B>) -> Option<Arc<RouteSeries>> {
        let method = method_index(request.method());
        let name = self.table.label.of(request)?;
        for slot in &self.seen {
            match slot.get() {
                Some(route) if *route.name == *name => {
                    return Some(self.table.series(route, method));
                }
                Some(_) => {}
                None => {
                    let route = self.table.route(&name);
                    if !Arc::ptr_eq(&route, &self.table.overflow) {
                        // Lost to another thread, the slot holds a route just as good.
                        let _ = slot.set(Arc::clone(&route));
                    }
                    return Some(self.table.series(&route, method));
                }
            }
        }
        Some(self.table.series(&self.table.route(&name), method))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn table(max_routes: usize) -> Arc<Table> {
        let label = RouteLabel::Custom(Arc::new(|head| Some(Cow::Borrowed(head.uri().path()))));
        Arc::new(Table::new(Source::Installed, label, max_routes))
    }

    fn names(table: &Table) -> usize {
        table.routes.read().unwrap().len()
    }

    #[test]
    fn routes_beyond_the_limit_share_one_and_are_not_remembered() {
        let table = table(3);
        let kept: Vec<_> = (0..3).map(|i| table.route(&format!("/{i}"))).collect();
        for i in 3..1000 {
            assert!(Arc::ptr_eq(&table.route(&format!("/{i}")), &table.overflow));
        }
        for (i, route) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(&table.route(&format!("/{i}")), route));
        }
        assert_eq!(names(&table), 3);
    }

    #[test]
    fn threads_that_race_for_the_last_place_do_not_exceed_the_limit() {
        let table = table(10);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let table = &table;
                scope.spawn(move || {
                    for i in 0..100 {
                        table.route(&format!("/{}", (i + thread * 13) % 100));
                    }
                });
            }
        });
        assert_eq!(names(&table), 10);
    }

    #[test]
    fn a_limit_of_zero_sends_every_route_to_the_overflow() {
        let table = table(0);
        assert!(Arc::ptr_eq(&table.route("/"), &table.overflow));
    }

    #[test]
    fn a_service_with_many_routes_finds_each_of_them() {
        let table = Arc::new(Table::new(
            Source::Fixed(Arc::new(metrics::NoopRecorder)),
            table(100).label.clone(),
            100,
        ));
        let site = Site::new(Arc::clone(&table));
        let get = |path: &str| {
            let mut request = Request::builder().uri(path).body(()).unwrap();
            site.series(&mut request).unwrap()
        };
        let first: Vec<_> = (0..20).map(|i| get(&format!("/{i}"))).collect();
        for (i, series) in first.iter().enumerate() {
            assert!(Arc::ptr_eq(&get(&format!("/{i}")), series), "/{i}");
        }
        assert_eq!(names(&table), 20);
    }
}
