use std::collections::HashMap;
use std::time::Duration;

/// How long requests may run without headers before the watchdog names them.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    others: Duration,
    /// Those that differ, by route.
    routes: HashMap<String, Vec<OfMethod>>,
}

#[derive(Debug, Clone)]
struct OfMethod {
    /// `None` for those that are not named.
    method: Option<String>,
    /// `None` for ever.
    limit: Option<Duration>,
}

impl Patience {
    /// As long with any request.
    pub(crate) fn new(others: Duration) -> Self {
        Self {
            others,
            routes: HashMap::new(),
        }
    }

    /// As long, or for ever, with those to a route: by one method, or by each that is not named.
    pub(crate) fn add(&mut self, method: Option<&str>, route: &str, limit: Option<Duration>) {
        let of_route = self.routes.entry(route.to_owned()).or_default();
        let method = method.map(str::to_owned);
        of_route.push(OfMethod { method, limit });
    }

    /// The limit of a method on a route; `None` if there is none.
    pub(super) fn of(&self, method: &str, route: &str) -> Option<Duration> {
        let of_route = self.routes.get(route).map_or(&[][..], Vec::as_slice);
        let find = |method: Option<&str>| of_route.iter().find(|it| it.method.as_deref() == method);
        let own = find(Some(method)).or_else(|| find(None));
        own.map_or(Some(self.others), |own| own.limit)
    }

    /// The least limit of all.
    pub(super) fn least(&self) -> Duration {
        let routes = self.routes.values().flatten().filter_map(|it| it.limit);
        routes.fold(self.others, Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_method_else_of_the_route_else_of_all() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::new(seconds(30));
        assert_eq!(patience.least(), seconds(30));
        patience.add(None, "/orders", Some(seconds(2)));
        patience.add(Some("POST"), "/orders", Some(seconds(60)));
        patience.add(Some("GET"), "/events", None);
        assert_eq!(patience.of("GET", "/orders"), Some(seconds(2)));
        assert_eq!(patience.of("POST", "/orders"), Some(seconds(60)));
        assert_eq!(patience.of("GET", "/events"), None);
        assert_eq!(patience.of("POST", "/events"), Some(seconds(30)));
        assert_eq!(patience.of("GET", "/other"), Some(seconds(30)));
        assert_eq!(patience.least(), seconds(2));
    }
}
