mod basics;
mod bus;
mod cancel;
mod cluster;
mod extremes;
mod faults;
mod frames;
mod history;
mod journal;
mod links;
#[path = "../../../../tests/it/logs.rs"]
mod logs;
mod permissions;
mod plain;
mod speed;
mod support;
mod wires;

/// The host and the port of a server, as a proxy takes them.
fn address_of(server: &testkit::OwnRedis) -> String {
    let url = server.url();
    url.trim_start_matches("redis://")
        .trim_end_matches('/')
        .to_owned()
}
