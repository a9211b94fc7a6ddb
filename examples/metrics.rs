//! cargo run -p perf-examples --bin metrics
//!
//! A small service with budgets: what its routes did beside what is asked of them. With `--write DIR` the
//! alert rules, their tests and the dashboard that are made from the same budgets; with `--serve ADDRESS`
//! the service itself, until Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clap::Parser;
use comfy_table::Table;
use perf_metrics::{Budget, Monitor, RouteReport, Thresholds};
use tokio::net::TcpListener;

/// A service with budgets.
#[derive(Debug, Parser)]
struct Args {
    /// Writes rules.yml, rules_test.yml, dashboard.json and prometheus.yml into this directory.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Serves at this address until Ctrl-C.
    #[arg(long)]
    serve: Option<SocketAddr>,
}

fn monitor() -> Result<Monitor> {
    let ms = Duration::from_millis;
    let monitor = Monitor::builder()
        .service("orders")
        .budget(
            Budget::route("GET /orders/{id}")
                .p95(ms(50))
                .p99(ms(100))
                .errors(0.01),
        )
        .budget(Budget::route("GET /reports").p95(ms(5)))
        .default_budget(Budget::any().p95(ms(500)).errors(0.05))
        .thresholds(Thresholds::default().queue_depth(100, 1_000))
        .build()?;
    monitor.install()?;
    Ok(monitor)
}

fn app(monitor: &Monitor) -> Router {
    Router::new()
        .route("/orders/{id}", get(|| async { "an order" }))
        .route("/reports", get(report))
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .layer(monitor.layer())
        .merge(monitor.router())
}

async fn report() -> &'static str {
    tokio::time::sleep(Duration::from_millis(20)).await;
    "a report"
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let monitor = monitor()?;
    if let Some(dir) = &args.write {
        write(&monitor, dir)?;
        return Ok(());
    }
    let address = args.serve.unwrap_or(([127, 0, 0, 1], 0).into());
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("serving {url}, metrics at {url}/metrics");
    let serve = axum::serve(listener, app(&monitor));
    if args.serve.is_some() {
        let ended = serve.with_graceful_shutdown(async {
            // Without a signal to wait for, it ends at once.
            let _ = tokio::signal::ctrl_c().await;
        });
        return Ok(ended.await?);
    }
    tokio::spawn(async move { serve.await });
    ask(&url).await?;
    println!("{}", table(&monitor.budgets()));
    Ok(())
}

fn write(monitor: &Monitor, dir: &Path) -> Result<()> {
    let scrape = "rule_files: [rules.yml]\nscrape_configs:\n  - job_name: orders\n    static_configs:\n      - targets: [\"127.0.0.1:3000\"]\n";
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    for (name, text) in [
        ("rules.yml", monitor.alert_rules()),
        ("rules_test.yml", monitor.alert_tests()),
        ("dashboard.json", monitor.grafana_json()),
        ("prometheus.yml", scrape.to_owned()),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// A few hundred requests.
async fn ask(url: &str) -> Result<()> {
    let client = reqwest::Client::new();
    for number in 0..200 {
        let (report, broken) = (number % 5 == 0, number % 10 == 0);
        let order = format!("/orders/{number}");
        let others = [(report, "/reports"), (broken, "/broken")];
        let others = others.into_iter().filter(|(ask, _)| *ask);
        for path in others.map(|(_, path)| path).chain([order.as_str()]) {
            client
                .get(format!("{url}{path}"))
                .send()
                .await?
                .bytes()
                .await?;
        }
    }
    Ok(())
}

fn table(routes: &[RouteReport]) -> Table {
    let mut table = Table::new();
    table.set_header(["route", "requests", "p95", "errors", "budget", "verdict"]);
    for route in routes {
        let limits = route.limits.iter();
        let limits = limits.map(|it| format!("{} {}", it.limit.as_str(), it.at_most));
        table.add_row([
            format!("{} {}", route.method, route.route),
            route.count.to_string(),
            route
                .quantiles
                .p95_seconds
                .map_or("-".to_owned(), |it| format!("{:.1} ms", it * 1e3)),
            route
                .error_ratio
                .map_or("-".to_owned(), |it| format!("{:.0}%", it * 100.0)),
            limits.collect::<Vec<_>>().join(", "),
            format!("{:?}", route.verdict),
        ]);
    }
    table
}
