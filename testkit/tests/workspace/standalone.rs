//! An axum application elsewhere on the disk depends on one crate of the family, alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cargo;

/// One application: the crate it depends on, the features, and the code around a handler.
struct App {
    package: &'static str,
    features: &'static [&'static str],
    code: &'static str,
}

const APPS: [App; 5] = [
    App {
        package: "perf-pool",
        features: &["sqlite"],
        code: r#"
            async fn handle() -> Result<String, String> {
                let pools = perf_pool::SqlitePools::open("app.db").await;
                let pools = pools.map_err(|error| error.to_string())?;
                Ok(format!("{:?}", pools.read().status()))
            }
            fn router() -> axum::Router {
                axum::Router::new().route("/", axum::routing::get(handle))
            }
        "#,
    },
    App {
        package: "perf-queue",
        features: &[],
        code: r#"
            use perf_queue::{Memory, Queue};
            async fn handle() -> Result<String, String> {
                let queue = Queue::<String>::builder("mail").backend(Memory::bounded(10));
                let queue = queue.build().await.map_err(|error| error.to_string())?;
                let sent = queue.enqueue("hello".to_owned()).await;
                sent.map(|_| "sent".to_owned()).map_err(|error| error.to_string())
            }
            fn router() -> axum::Router {
                axum::Router::new().route("/", axum::routing::get(handle))
            }
        "#,
    },
    App {
        package: "perf-cache",
        features: &[],
        code: r#"
            async fn handle() -> Result<String, String> {
                let cache = perf_cache::Cache::<u32, String>::builder("users").build().await;
                let cache = cache.map_err(|error| error.to_string())?;
                cache.insert(1, "one".to_owned()).await;
                Ok(format!("{:?}", cache.get(&1).await))
            }
            fn router() -> axum::Router {
                axum::Router::new().route("/", axum::routing::get(handle))
            }
        "#,
    },
    App {
        package: "perf-batch",
        features: &["derive", "sqlite"],
        // The derive's code must find its crate without the application naming sqlx.
        code: r#"
            #[derive(Debug, Clone, perf_batch::BulkRow)]
            #[bulk(table = "answers")]
            struct Answer {
                #[bulk(key)]
                id: i64,
                answer: Option<String>,
            }
            async fn handle() -> String {
                let answer = Answer { id: 1, answer: None };
                format!("{:?} {answer:?}", perf_batch::BulkInsert::<Answer>::new())
            }
            fn router() -> axum::Router {
                axum::Router::new().route("/", axum::routing::get(handle))
            }
        "#,
    },
    App {
        package: "perf-metrics",
        features: &["axum"],
        code: r#"
            fn router() -> axum::Router {
                let timing = perf_metrics::TimingLayer::new();
                axum::Router::new().route("/", axum::routing::get("hello")).layer(timing)
            }
        "#,
    },
];

const MAIN: &str = r#"
    #[tokio::main]
    async fn main() -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        axum::serve(listener, router()).await
    }
"#;

#[test]
#[ignore = "builds five applications; .ci/run runs it"]
fn an_application_elsewhere_takes_one_crate_alone() {
    let members: Vec<String> = cargo::packages().into_iter().map(|it| it.name).collect();
    let mut failed = Vec::new();
    for app in &APPS {
        println!("building an application on {} alone", app.package);
        let folder = tempfile::tempdir().unwrap();
        generate(app, folder.path());
        if !run(folder.path(), &["check", "--quiet"])
            .status()
            .unwrap()
            .success()
        {
            failed.push(format!("{} does not compile alone", app.package));
            continue;
        }
        for member in in_the_tree_of(folder.path(), &members) {
            let own = member == app.package || member == format!("{}-derive", app.package);
            if !own {
                failed.push(format!("{} brings {member}", app.package));
            }
        }
    }
    assert_eq!(failed, [""; 0]);
}

#[test]
fn every_crate_of_the_family_has_its_application() {
    let mut crates: Vec<String> = cargo::packages()
        .into_iter()
        .filter(|it| it.is_of_the_family() && !it.name.ends_with("-derive"))
        .map(|it| it.name)
        .collect();
    crates.sort();
    let mut apps = APPS.map(|app| app.package);
    apps.sort();
    assert_eq!(crates, apps);
}

fn generate(app: &App, folder: &Path) {
    let path = cargo::root().join(app.package);
    let manifest = format!(
        r#"
            [package]
            name = "application"
            version = "0.0.0"
            edition = "2024"
            [dependencies]
            axum = "0.8"
            tokio = {{ version = "1", features = ["macros", "rt-multi-thread", "net"] }}
            {} = {{ path = {path:?}, default-features = false, features = {:?} }}
        "#,
        app.package, app.features,
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    // The same versions as here, so that nothing else is fetched or built.
    fs::copy(cargo::root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    fs::create_dir(folder.join("src")).unwrap();
    fs::write(folder.join("src/main.rs"), app.code.to_owned() + MAIN).unwrap();
}

fn run(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = cargo::cargo();
    command
        .args(arguments)
        .env("CARGO_TARGET_DIR", cargo::root().join("target/standalone"))
        .current_dir(folder);
    command
}

/// Which of `members` the application is built from.
fn in_the_tree_of(folder: &Path, members: &[String]) -> Vec<String> {
    let tree = [
        "tree",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
    ];
    let output = run(folder, &tree).output().unwrap();
    assert!(output.status.success());
    let tree = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<String> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| members.iter().any(|member| member == name))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    assert!(!found.is_empty(), "{tree}");
    found
}
