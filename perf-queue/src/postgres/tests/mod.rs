//! The verbs against a real server.

mod speed;
mod support;
mod verbs;
