//! The queue as its users see it. Time is tokio's paused clock, unless a test says otherwise.

#[cfg(test)]
mod basics;
#[cfg(test)]
mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
#[cfg(test)]
mod errors;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod panics;
#[cfg(feature = "postgres")]
#[cfg(test)]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
#[cfg(test)]
mod processes;
#[cfg(test)]
mod real_time;
#[cfg(feature = "redis")]
#[cfg(test)]
mod redis;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod spans;
#[cfg(feature = "sqlite")]
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod support;
#[cfg(feature = "testing")]
#[cfg(test)]
mod testing;
