//! The verbs against a real server.

mod commits;
mod enqueue;
mod faults;
mod flood;
mod leases;
mod limits;
mod model;
mod order;
mod pruning;
mod random;
mod rates;
mod shared;
mod speed;
mod support;
