use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The labels of the statuses of gRPC, 0 (OK) to 16 (UNAUTHENTICATED), by number; the last is for
/// what is no such number, or missing.
pub(super) const STATUSES: [&str; 18] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "_OTHER",
];

/// What is known of a response's gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrpcStatus {
    /// The response is none of gRPC's.
    None,
    /// The index of its label; `_OTHER` until it is known.
    Is(u8),
}

const OTHER: u8 = STATUSES.len() as u8 - 1;

impl GrpcStatus {
    /// From the headers of a response: where there is no message, the status is there.
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        match kind {
            Some(kind) if kind.starts_with(b"application/grpc") => Self::Is(status(headers)),
            _ => Self::None,
        }
    }

    /// Takes the status from the trailers.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if *self != Self::None {
            *self = Self::Is(status(trailers));
        }
    }

    /// The label, if the response is gRPC's.
    pub(super) fn index(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Is(index) => Some(usize::from(index)),
        }
    }
}

fn status(headers: &HeaderMap) -> u8 {
    let value = headers.get(GRPC_STATUS).and_then(|v| v.to_str().ok());
    let number = value.and_then(|value| value.parse().ok());
    number.filter(|number| *number < OTHER).unwrap_or(OTHER)
}
