mod basics;
mod bus;
mod cancel;
mod cluster;
mod faults;
mod frames;
mod history;
mod journal;
mod permissions;
mod plain;
mod speed;
mod support;

/// The host and the port of a server, as a proxy takes them.
fn address_of(server: &testkit::OwnRedis) -> String {
    let url = server.url();
    url.trim_start_matches("redis://")
        .trim_end_matches('/')
        .to_owned()
}
