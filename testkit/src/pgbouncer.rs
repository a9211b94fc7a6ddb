use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use crate::account;
use crate::availability::{Kind, Unavailable, or_skip};
use crate::binaries;
use crate::postgres::{Postgres, blocking};
use crate::proxy;
use crate::watchdog::{Program, Watched};

const KIND: Kind = Kind {
    name: "PgBouncer",
    remedy: "install `pgbouncer`, or run `make test`",
};

/// For how long a connection of a client keeps one of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// For as long as the client is connected; there are 100.
    Session,
    /// For a transaction. Two connections serve all clients, so that a client which counts on more than
    /// a transaction is found out soon.
    Transaction,
}

/// The pooler in front of Postgres, one of a test's own.
///
/// Startup parameters are as in its default: `extra_float_digits`, which sqlx sends, is let pass, as
/// its documentation says for drivers that do so; any other is refused.
#[derive(Debug)]
pub struct PgBouncer {
    server: Watched,
}

impl PgBouncer {
    /// Starts one in front of this server; dropping it stops it and removes its files.
    ///
    /// `None` where the binary is missing, after a line on standard error that names the test.
    ///
    /// # Panics
    ///
    /// If the binary is missing while `PERF_REQUIRE_SERVERS=1` is set, and if it does not start.
    pub async fn start(postgres: &Postgres, mode: PoolMode) -> Option<Self> {
        Self::start_with(postgres, mode, &[]).await
    }

    /// As [`PgBouncer::start`], with settings of the test's own, such as `stats_users` and
    /// `postgres`; they win over those that it has anyway.
    ///
    /// # Panics
    ///
    /// As [`PgBouncer::start`].
    pub async fn start_with(
        postgres: &Postgres,
        mode: PoolMode,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        let (host, port) = postgres.address();
        let settings: String = settings
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        or_skip(
            blocking(move || Self::private(&host, port, mode, &settings)).await,
            &KIND,
        )
    }

    fn private(host: &str, port: u16, mode: PoolMode, settings: &str) -> Result<Self, Unavailable> {
        let found = binaries::directory_with(&["pgbouncer"]);
        let program = Program {
            name: "pgbouncer",
            bin: found.ok_or(Unavailable::Missing)?,
            account: account::other_than_root().map_err(Unavailable::Failed)?,
            prepare: r#"mkdir -p "$dir""#,
            start: &start(host, port, mode, settings),
            halt: "KILL",
            ready,
        };
        let server = Watched::start(&program).map_err(Unavailable::Failed)?;
        Ok(Self { server })
    }

    /// Whether the one on this machine tells the prepared statements of its clients apart in
    /// [`PoolMode::Transaction`], given `max_prepared_statements`: from 1.21 on. A test that needs that says on
    /// standard error that it is skipped, where it does not. `None` where the binary is missing.
    pub async fn tells_statements_apart() -> Option<bool> {
        blocking(|| {
            let bin = binaries::directory_with(&["pgbouncer"])?;
            let version = Command::new(bin.join("pgbouncer"))
                .arg("--version")
                .output();
            let version = String::from_utf8(version.ok()?.stdout).ok()?;
            let (_, rest) = version.split_once("PgBouncer ")?;
            let mut parts = rest
                .split(|c: char| !c.is_ascii_digit())
                .map(str::parse::<u32>);
            let version = (parts.next()?.ok()?, parts.next()?.ok()?);
            Some(version >= (1, 21))
        })
        .await
    }

    /// The URL of the server behind it, by way of this.
    ///
    /// # Panics
    ///
    /// If it is no URL with a host.
    pub fn url(&self, url: &str) -> String {
        proxy::through(
            SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.state().port)),
            url,
        )
    }
}

fn start(host: &str, port: u16, mode: PoolMode, settings: &str) -> OsString {
    let (mode, size) = match mode {
        PoolMode::Session => ("session", 100),
        PoolMode::Transaction => ("transaction", 2),
    };
    format!(
        r#"cat > "$dir/pgbouncer.ini" <<END
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
pool_mode = {mode}
default_pool_size = {size}
ignore_startup_parameters = extra_float_digits
{settings}END
echo '"postgres" ""' > "$dir/users"
exec "$TESTKIT_BIN/pgbouncer" "$dir/pgbouncer.ini""#
    )
    .into()
}

fn ready(server: &Watched) -> bool {
    server.log().contains("process up")
        && TcpStream::connect((Ipv4Addr::LOCALHOST, server.state().port)).is_ok()
}
