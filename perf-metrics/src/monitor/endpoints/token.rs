use std::fmt;

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

/// The secret that opens the endpoints.
pub(in crate::monitor) struct AdminToken(String);

impl AdminToken {
    pub(super) fn new(token: String) -> Self {
        Self(token)
    }

    /// Whether a client can send it at all.
    pub(in crate::monitor) fn is_valid(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// Whether the request brings it.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let Some((scheme, token)) = value.and_then(|value| value.split_at_checked(7)) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ")
            && token.trim_ascii().ct_eq(self.0.as_bytes()).into()
    }

    pub(super) fn refusal() -> Response {
        let challenge = [(WWW_AUTHENTICATE, "Bearer realm=\"monitor\"")];
        (StatusCode::UNAUTHORIZED, challenge).into_response()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}
