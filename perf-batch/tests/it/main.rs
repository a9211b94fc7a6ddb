//! The integration tests, in one binary.

#[cfg(test)]
#[cfg(all(feature = "derive", feature = "sqlite"))]
mod batcher;
#[cfg(test)]
#[cfg(all(feature = "derive", feature = "sqlite"))]
mod cancel;
#[cfg(test)]
#[cfg(feature = "derive")]
mod derive;
#[cfg(test)]
#[cfg(all(feature = "derive", feature = "sqlite"))]
mod fallback;
#[cfg(test)]
mod loader;
#[cfg(test)]
#[cfg(all(feature = "derive", feature = "sqlite"))]
mod metrics;
#[cfg(test)]
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod page;
#[cfg(test)]
#[cfg(all(feature = "derive", feature = "postgres"))]
mod postgres;
#[cfg(test)]
#[cfg(all(feature = "derive", feature = "sqlite"))]
mod sqlite;
#[cfg(test)]
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod statements;
#[cfg(test)]
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod support;
#[cfg(test)]
mod types;
