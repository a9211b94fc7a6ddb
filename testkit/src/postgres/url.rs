use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sqlx::postgres::PgConnectOptions;

pub(super) fn over_tcp(port: u16) -> String {
    at("127.0.0.1", port)
}

/// A socket's directory goes where the host goes, percent-encoded; libpq, sqlx and tokio-postgres
/// all read it so. The port is part of the socket's name.
pub(super) fn over_socket(directory: &Path, port: u16) -> String {
    let mut host = String::new();
    for &byte in directory.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() {
            host.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(host, "%{byte:02X}");
        }
    }
    at(&host, port)
}

fn at(host: &str, port: u16) -> String {
    format!("postgres://postgres@{host}:{port}/postgres?sslmode=disable")
}

pub(super) fn with_search_path(url: &str, schema: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{schema}")
}

#[expect(
    clippy::panic,
    reason = "a test that cannot find its server has to fail"
)]
pub(super) fn address(url: &str) -> (String, u16) {
    match url.parse::<PgConnectOptions>() {
        Ok(options) => (options.get_host().to_owned(), options.get_port()),
        Err(error) => panic!("{url} is not a URL of Postgres: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::postgres::PgConnectOptions;

    use super::{address, over_socket};

    #[test]
    fn a_socket_in_any_directory_is_found() {
        let directory = Path::new("/tmp/a b@c:d?é/pg_1");
        let options: PgConnectOptions = over_socket(directory, 5433).parse().unwrap();
        assert_eq!(options.get_socket().unwrap(), directory);
        assert_eq!(options.get_port(), 5433);
    }

    #[test]
    fn an_address_is_read_as_sqlx_reads_it() {
        let expected = ("db.example".to_owned(), 6543);
        assert_eq!(address("postgres://me:pw@db.example:6543/x"), expected);
        assert_eq!(address("postgres:///x?host=db.example&port=6543"), expected);
        assert_eq!(address("postgres://db.example/x").1, 5432);
    }
}
