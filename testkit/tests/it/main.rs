//! Tests of the servers themselves.

#[cfg(test)]
mod postgres;
