//! The pool against real databases: SQLite files, and a Postgres server where there is one.
#![cfg(all(feature = "sqlite", feature = "postgres"))]

#[cfg(test)]
mod accounting;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod cancellation;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod giving_up;
#[cfg(test)]
mod holders;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod pgbouncer;
#[cfg(test)]
mod pings;
#[cfg(test)]
mod recorder;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sizing;
#[cfg(test)]
mod sqlite_pools;
#[cfg(test)]
mod types;
#[cfg(test)]
mod upkeep;
#[cfg(test)]
mod wait;
#[cfg(test)]
mod what_holds;
