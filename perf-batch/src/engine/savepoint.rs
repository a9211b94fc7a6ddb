//! The one savepoint of a batch, moved behind what went in.
//!
//! Rolling back to it leaves it in place, so an attempt costs one request beside its insert, and
//! savepoints never stack.

pub(crate) const SET: &str = include_str!("../sql/savepoint.sql");

/// What was inserted since stays, whatever happens to the next insert.
pub(crate) const ADVANCE: &str = include_str!("../sql/advance.sql");

/// Undoes the failed insert, whatever it left behind.
pub(crate) const RETREAT: &str = include_str!("../sql/retreat.sql");

pub(crate) const RELEASE: &str = include_str!("../sql/release.sql");
