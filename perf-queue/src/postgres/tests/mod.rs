//! The verbs against a real server.

mod enqueue;
mod faults;
mod flood;
mod leases;
mod limits;
mod model;
mod order;
mod random;
mod shared;
mod speed;
mod support;
