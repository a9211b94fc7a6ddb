//! What a rush printed and wrote.

mod charts;
mod expectation;
mod files;
mod measured;
mod progress;
mod rows;

pub(crate) use expectation::{Expectation, expectations};
pub(crate) use files::write;
pub(crate) use measured::Measured;
pub(crate) use progress::Bar;
pub(crate) use rows::{Row, rows, table};
