use std::net::SocketAddr;

use url::Url;

/// `url` with `address` in place of its host and port, also where they are parameters.
#[expect(
    clippy::panic,
    reason = "a test that goes past its proxy tests nothing"
)]
pub(crate) fn through(address: SocketAddr, url: &str) -> String {
    match rewritten(address, url) {
        Some(rewritten) => rewritten.into(),
        None => panic!("{url:?} has no host and port that a proxy could replace"),
    }
}

fn rewritten(address: SocketAddr, url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    url.set_ip_host(address.ip()).ok()?;
    url.set_port(Some(address.port())).ok()?;
    // Not by pairs, which would write the other parameters anew.
    let query = url.query().map(|query| {
        let others = query.split('&').filter(|pair| {
            let name = pair.split('=').next();
            !matches!(name, Some("host" | "hostaddr" | "port"))
        });
        others.collect::<Vec<_>>().join("&")
    });
    url.set_query(query.as_deref().filter(|query| !query.is_empty()));
    Some(url)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::through;

    fn rewritten(url: &str) -> String {
        through(SocketAddr::from(([127, 0, 0, 1], 99)), url)
    }

    #[test]
    fn host_and_port_are_replaced_and_nothing_else() {
        for (url, expected) in [
            (
                "postgres://me:p%40w@db.example/x?sslmode=disable&options=-c%20search_path%3Dy",
                "postgres://me:p%40w@127.0.0.1:99/x?sslmode=disable&options=-c%20search_path%3Dy",
            ),
            (
                "postgres://me@%2Ftmp%2Fpg:5432/x",
                "postgres://me@127.0.0.1:99/x",
            ),
            ("redis://[::1]:6379/", "redis://127.0.0.1:99/"),
            (
                "postgres:///x?host=/tmp&port=1&user=me",
                "postgres://127.0.0.1:99/x?user=me",
            ),
            (
                "postgres://db/x?host=/tmp&port=1",
                "postgres://127.0.0.1:99/x",
            ),
        ] {
            assert_eq!(rewritten(url), expected);
        }
    }

    #[test]
    #[should_panic(expected = "has no host and port")]
    fn a_url_without_a_host_is_refused() {
        rewritten("sqlite:file.db");
    }
}
