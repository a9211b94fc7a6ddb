#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod account;
mod availability;
mod binaries;
mod pgbouncer;
mod postgres;
mod prometheus;
mod proxy;
mod redis;
mod unique;
mod watchdog;

pub use pgbouncer::{PgBouncer, PoolMode};
pub use postgres::{OwnPostgres, Postgres, PostgresOptions};
pub use prometheus::{Prometheus, PrometheusOptions, Promtool};
pub use proxy::{Counts, Proxy, contains, nth};
pub use redis::{OwnRedis, Redis};
pub use unique::unique;
