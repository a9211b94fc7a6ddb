//! The queue as its users see it. Time is tokio's paused clock, unless a test says otherwise.

#[cfg(test)]
mod basics;
mod conformance;
#[cfg(test)]
mod limits;
mod memory;
#[cfg(test)]
mod metrics;
#[cfg(all(test, feature = "postgres"))]
mod postgres;
#[cfg(test)]
mod real_time;
#[cfg(all(test, feature = "redis"))]
mod redis;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod shutdown;
#[cfg(all(test, feature = "sqlite"))]
mod sqlite;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod support;
