use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The server listens on TCP and on a Unix socket in its own directory.
const SERVER: &str = r#" "$TESTKIT_BIN/postgres" -D "$dir/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$dir" -c max_connections=200"#;

/// What is special about a private server, for [`Postgres::start_with`](crate::Postgres::start_with).
/// All of it holds for restarts too.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct PostgresOptions {
    settings: Vec<OsString>,
    env: Vec<OsString>,
}

impl PostgresOptions {
    /// Nothing special: the server of [`Postgres::start`](crate::Postgres::start).
    pub fn new() -> Self {
        Self::default()
    }

    /// A setting as in `postgresql.conf`, such as `deadlock_timeout` and `100ms`. The last one
    /// holds where a name comes twice. Defaults to Postgres's own, with 200 connections.
    pub fn setting(mut self, name: &str, value: impl Display) -> Self {
        self.settings.push(format!("{name}={value}").into());
        self
    }

    /// An environment variable of the server's processes and of none else, such as `LD_PRELOAD`
    /// and a path. The server may run as another user, who has to be able to read that path.
    /// Defaults to the test process's variables without those that start with `PG`.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut variable = OsString::from(name);
        variable.push("=");
        variable.push(value);
        self.env.push(variable);
        self
    }

    /// The shell code that becomes the server.
    pub(super) fn start(&self) -> OsString {
        let mut code = OsString::from("exec env");
        for variable in &self.env {
            code.push(" ");
            code.push(quoted(variable));
        }
        code.push(SERVER);
        for setting in &self.settings {
            code.push(" -c ");
            code.push(quoted(setting));
        }
        code
    }
}

/// One word of the shell, whatever is in it.
fn quoted(text: &OsStr) -> OsString {
    let mut word = vec![b'\''];
    for &byte in text.as_bytes() {
        match byte {
            b'\'' => word.extend(b"'\\''"),
            _ => word.push(byte),
        }
    }
    word.push(b'\'');
    OsString::from_vec(word)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use super::quoted;

    #[test]
    fn a_quoted_text_reaches_the_program_as_it_is() {
        let text = "a 'quoted' \"$HOME\" `id` \\ \n* end";
        let mut code = OsStr::new("printf %s ").to_owned();
        code.push(quoted(OsStr::new(text)));
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(code)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    }
}
