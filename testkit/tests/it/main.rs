//! Tests of the servers themselves.

#[cfg(test)]
mod child;
#[cfg(test)]
mod lifetime;
#[cfg(test)]
mod missing;
#[cfg(test)]
mod pgbouncer;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod proxy_postgres;
#[cfg(test)]
mod proxy_redis;
#[cfg(test)]
mod redis;
