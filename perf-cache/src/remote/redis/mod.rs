//! The tier in Redis. Each verb is one script, so one trip and atomic, but that most values are read by
//! plain commands; see `lua/state.lua` for how it is known what is current, and `lookup` for the reads.

mod bus;
mod dial;
mod error;
mod frame;
mod journal;
mod keeper;
mod keys;
mod link;
mod links;
mod lookup;
mod message;
mod meters;
mod reader;
mod reads;
mod remote;
mod reply;
mod request;
mod script;
mod server;
#[cfg(test)]
mod tests;
mod tier;
mod wire;
mod wires;

pub use error::ConnectError;
pub use frame::Codec;
pub(crate) use meters::RemoteMeters;
pub(crate) use remote::RedisRemote;
pub use tier::{RedisBus, RedisTier};
