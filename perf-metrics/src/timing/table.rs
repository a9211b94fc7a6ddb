use std::sync::{Arc, Once, OnceLock};

use http::Request;

use super::label::{METHODS, OVERFLOW, RouteLabel, UNMATCHED, method_index};
use super::names::describe;
use super::routes::{Route, Routes};
use super::series::RouteSeries;
use super::source::Source;

/// All series of a layer, and how that of a request is found.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) source: Source,
    pub(super) label: RouteLabel,
    routes: Routes,
    unmatched: Route,
    overflow: Route,
    described: Once,
}

/// Marks a request that a table has counted as unmatched.
#[derive(Debug, Clone)]
struct Counted(Arc<Table>);

impl Table {
    pub(super) fn new(source: Source, label: RouteLabel, max_routes: usize) -> Self {
        Self {
            source,
            label,
            routes: Routes::new(max_routes),
            unmatched: Route::new(UNMATCHED),
            overflow: Route::new(OVERFLOW),
            described: Once::new(),
        }
    }

    pub(super) fn max_routes(&self) -> usize {
        self.routes.max()
    }

    /// The series that the request counts in; `None` if it is counted already.
    pub(super) fn of<B>(self: &Arc<Self>, request: &mut Request<B>) -> Option<Arc<RouteSeries>> {
        let method = method_index(request.method());
        if let Some(name) = self.label.of(request) {
            let route = self.routes.get(&name).unwrap_or(&self.overflow);
            return Some(self.series(route, method));
        }
        // A router's fallback can be inside two layers of the same monitor: the application's, and
        // that of the monitor's own router when it was merged first. The mark costs an allocation,
        // but only for requests that match nothing.
        if cfg!(feature = "axum") {
            let mark = Counted(Arc::clone(self));
            let marked = request.extensions_mut().insert(mark);
            if marked.is_some_and(|Counted(table)| Arc::ptr_eq(&table, self)) {
                return None;
            }
        }
        Some(self.series(&self.unmatched, method))
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
