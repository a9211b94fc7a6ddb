mod promtool;

use std::ffi::OsString;
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use url::Url;

use crate::availability::{Kind, Unavailable, or_skip};
use crate::binaries;
use crate::postgres::blocking;
use crate::watchdog::{Program, Watched};

pub use promtool::Promtool;

const KIND: Kind = Kind {
    name: "Prometheus",
    remedy: "install `prometheus`, or run `make test`",
};

/// Ends the files in the shell code; no line of a file can be this.
const END: &str = "THE-END-OF-A-FILE-OF-TESTKIT";

/// What a [`Prometheus`] scrapes and evaluates, and how often.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    interval: Duration,
    targets: Vec<(String, Url)>,
    rules: Vec<String>,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            targets: Vec::new(),
            rules: Vec::new(),
        }
    }
}

impl PrometheusOptions {
    /// How often targets are scraped and rules evaluated, in whole milliseconds. Defaults to one
    /// second.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Scrapes this URL, such as `http://127.0.0.1:3000/metrics`, as the job `job`.
    ///
    /// # Panics
    ///
    /// If it is no URL with a host.
    #[must_use]
    #[expect(clippy::panic, reason = "a test with a broken URL has to fail")]
    pub fn scrape(mut self, job: &str, url: &str) -> Self {
        match Url::parse(url) {
            Ok(url) if url.has_host() => self.targets.push((job.to_owned(), url)),
            _ => panic!("{url:?} is no URL to scrape"),
        }
        self
    }

    /// Evaluates the rules of a file with this text.
    #[must_use]
    pub fn rules(mut self, text: &str) -> Self {
        self.rules.push(text.to_owned());
        self
    }

    fn config(&self) -> String {
        let every = format!("{}ms", self.interval.as_millis().max(1));
        let mut text = format!(
            "global:\n  scrape_interval: {every}\n  scrape_timeout: {every}\n  \
             evaluation_interval: {every}\nrule_files: [\"rules*.yml\"]\nscrape_configs:\n"
        );
        for (job, url) in &self.targets {
            let port = url.port_or_known_default().unwrap_or(80);
            // Writing to a string does not fail; `{:?}` quotes as YAML does for what a job's name
            // and a URL are made of.
            let _ = writeln!(
                text,
                "  - job_name: {job:?}\n    scheme: {}\n    metrics_path: {:?}\n    \
                 static_configs: [{{targets: [\"{}:{port}\"]}}]",
                url.scheme(),
                url.path(),
                url.host_str().unwrap_or_default(),
            );
        }
        text
    }

    /// Shell code that writes the files and becomes the server.
    fn start(&self) -> OsString {
        let mut code = String::new();
        let mut file = |name: &str, text: &str| {
            let _ = write!(
                code,
                "cat > \"$dir/{name}\" <<'{END}'\n{}\n{END}\n",
                text.trim_end()
            );
        };
        file("prometheus.yml", &self.config());
        for (number, text) in self.rules.iter().enumerate() {
            file(&format!("rules{number}.yml"), text);
        }
        code.push_str(
            r#"exec "$TESTKIT_BIN/prometheus" --config.file="$dir/prometheus.yml" \
    --storage.tsdb.path="$dir/data" --web.listen-address="127.0.0.1:$port" \
    --query.lookback-delta=1m --log.level=warn"#,
        );
        code.into()
    }
}

/// A Prometheus server of one test's own.
///
/// It scrapes and evaluates from its start; ask its HTTP API for what it found.
#[derive(Debug)]
pub struct Prometheus {
    server: Watched,
}

impl Prometheus {
    /// Starts a server; dropping it stops it and removes its files.
    ///
    /// `None` where the binary is missing, after a line on standard error that names the test.
    ///
    /// # Panics
    ///
    /// If the binary is missing while `PERF_REQUIRE_SERVERS=1` is set, and if it does not start, as
    /// when it does not understand a rule.
    pub async fn start(options: PrometheusOptions) -> Option<Self> {
        let outcome = blocking(move || Self::private(&options)).await;
        or_skip(outcome, &KIND)
    }

    fn private(options: &PrometheusOptions) -> Result<Self, Unavailable> {
        let bin = binaries::directory_with(&["prometheus"]).ok_or(Unavailable::Missing)?;
        let program = Program {
            name: "prometheus",
            bin,
            account: None,
            prepare: ":",
            start: &options.start(),
            halt: "KILL",
            ready,
        };
        let server = Watched::start(&program).map_err(Unavailable::Failed)?;
        Ok(Self { server })
    }

    /// The base of its URLs, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.state().port)
    }

    /// The URL whose JSON answers `expression` as of now.
    pub fn query_url(&self, expression: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", expression)
            .finish();
        format!("{}/api/v1/query?{query}", self.url())
    }

    /// The directory with its configuration, its rules, its data and its log (`log`).
    pub fn dir(&self) -> &Path {
        self.server.dir()
    }
}

/// Whether it answers queries. Another server could have taken the port: only ours has this
/// directory.
fn ready(server: &Watched) -> bool {
    let answer = |path| get(server.state().port, path).unwrap_or_default();
    let dir = server.dir().to_string_lossy();
    answer("/-/ready").starts_with("HTTP/1.0 200") && answer("/api/v1/status/flags").contains(&*dir)
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
