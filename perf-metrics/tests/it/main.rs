//! Integration tests of perf-metrics.

#[cfg(test)]
mod accounting;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
#[cfg(feature = "axum")]
mod endpoints;
#[cfg(test)]
mod exposition;
#[cfg(test)]
mod family;
#[cfg(test)]
#[cfg(feature = "axum")]
mod filling;
#[cfg(test)]
#[cfg(feature = "axum")]
mod firing;
#[cfg(test)]
#[cfg(feature = "axum")]
mod hangups;
#[cfg(test)]
#[cfg(feature = "axum")]
mod health;
#[cfg(test)]
#[cfg(feature = "tokio")]
mod history;
#[cfg(test)]
mod install;
#[cfg(test)]
#[cfg(feature = "axum")]
mod labels;
#[cfg(test)]
mod log;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod openmetrics;
#[cfg(test)]
#[cfg(feature = "axum")]
mod options;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod process;
#[cfg(test)]
#[cfg(feature = "axum")]
mod prometheus;
#[cfg(test)]
mod protocols;
#[cfg(test)]
mod recorders;
#[cfg(test)]
mod scrape;
#[cfg(test)]
mod script;
#[cfg(test)]
mod sizes;
#[cfg(test)]
#[cfg(feature = "axum")]
mod token;
#[cfg(test)]
mod tonic;
#[cfg(test)]
mod types;
#[cfg(test)]
#[cfg(feature = "axum")]
mod watchdog;
