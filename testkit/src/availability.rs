use std::io::Write;

/// Why a test cannot have its server.
#[derive(Debug, Clone)]
pub(crate) enum Unavailable {
    /// The machine does not have the server's binaries.
    Missing,
    /// They are there and did not work; the text says what happened.
    Failed(String),
}

/// What to tell the developer about one kind of server.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) remedy: &'static str,
}

/// The server; or, where its binary is missing, `None` and a line that says so.
///
/// Called on the test's own thread, which libtest names after the test.
#[expect(
    clippy::panic,
    reason = "a test whose server is required and cannot start has to fail"
)]
pub(crate) fn or_skip<T>(outcome: Result<T, Unavailable>, kind: &Kind) -> Option<T> {
    let Kind { name, remedy } = kind;
    match outcome {
        Ok(server) => Some(server),
        Err(Unavailable::Failed(why)) => panic!("{name} did not start: {why}"),
        Err(Unavailable::Missing) if required() => {
            panic!("{name} is missing and PERF_REQUIRE_SERVERS=1 is set: {remedy}")
        }
        Err(Unavailable::Missing) => {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            let line = format!("skipped {test}: {name} is missing ({remedy})\n");
            // Not `eprintln!`, which libtest swallows when the test passes. One write, so that
            // lines of parallel tests do not mix.
            let _ = std::io::stderr().write_all(line.as_bytes());
            None
        }
    }
}

fn required() -> bool {
    std::env::var_os("PERF_REQUIRE_SERVERS").is_some_and(|value| value == "1")
}
