use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri};

/// The route label of requests that match no route.
pub(super) const UNMATCHED: &str = "_UNMATCHED";
/// The route label of requests to routes beyond the layer's limit.
pub(super) const OVERFLOW: &str = "_OVERFLOW";

/// The labels of methods; the last is for the methods that are not known (the value is
/// OpenTelemetry's).
pub(crate) const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "_OTHER",
];

/// The index of the method's label in [`METHODS`].
#[inline]
pub(super) fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PUT => 2,
        Method::DELETE => 3,
        Method::HEAD => 4,
        Method::OPTIONS => 5,
        Method::PATCH => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => 9,
    }
}

/// The head of a request, from which a route label is made.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    pub(super) fn new<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The request's method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The request's URI.
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The request's headers.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The request's extensions, where routers leave the route that they matched.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

type LabelFn = dyn for<'a> Fn(RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync;

/// How the route label of a request is found.
#[derive(Clone, Default)]
pub(super) enum RouteLabel {
    /// The route that the framework matched.
    #[default]
    Matched,
    /// What the user's function says.
    Custom(Arc<LabelFn>),
}

impl RouteLabel {
    /// Whether labels are the routes that the framework matched, so that they say what the paths
    /// look like.
    pub(super) fn is_route(&self) -> bool {
        matches!(self, Self::Matched)
    }
}

impl fmt::Debug for RouteLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Matched => "Matched",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_has_its_own_label_and_all_others_share_one() {
        for (index, name) in METHODS.iter().enumerate().take(9) {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(method_index(&method), index, "{name}");
        }
        for name in ["BREW", "get", "PROPFIND"] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(METHODS[method_index(&method)], "_OTHER", "{name}");
        }
    }
}
