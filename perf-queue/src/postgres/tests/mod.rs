//! The verbs against a real server.

mod apart;
mod changes;
mod clock;
mod commits;
mod enqueue;
mod faults;
mod flood;
mod heads;
mod isolation;
mod kept;
mod kept_keys;
mod key_heads;
mod leases;
mod limits;
mod migrate;
mod model;
mod numbers;
mod order;
mod plans;
mod pruning;
mod random;
mod rates;
mod shared;
mod speed;
mod support;
