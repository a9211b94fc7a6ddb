//! Each crate of the family stands alone.

use serde_json::{Value, json};

use crate::cargo::{self, Kind, Package, is_of_the_family};

#[test]
fn no_crate_of_the_family_depends_on_another() {
    assert_eq!(violations(&cargo::packages()), [""; 0]);
}

/// What in `packages` breaks the rules, one line each.
fn violations(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages.iter().filter(|it| it.is_of_the_family()) {
        for dependency in &package.dependencies {
            let (from, to) = (package.name.as_str(), dependency.name.as_str());
            // A crate and its own derive are one crate to its users.
            let own_derive = (from, to) == ("perf-batch", "perf-batch-derive");
            let sibling = is_of_the_family(to) && !own_derive;
            let testkit = to == "testkit" && dependency.kind != Kind::Dev;
            let member = ["perf-examples", "perf-benches"].contains(&to);
            if sibling || testkit || member {
                violations.push(format!("{from} depends on {to} ({:?})", dependency.kind));
            }
        }
    }
    violations
}

fn one_dependency(from: &str, to: &str, kind: Value) -> Vec<String> {
    let metadata = json!({ "packages": [{
        "name": from,
        "features": {},
        "dependencies": [{ "name": "serde", "kind": null }, { "name": to, "kind": kind }],
    }]});
    violations(&cargo::packages_in(&metadata))
}

#[test]
fn a_sibling_is_refused_as_a_dependency_of_any_kind() {
    for (kind, shown) in [
        (json!(null), "Normal"),
        (json!("dev"), "Dev"),
        (json!("build"), "Build"),
    ] {
        assert_eq!(
            one_dependency("perf-pool", "perf-metrics", kind),
            [format!("perf-pool depends on perf-metrics ({shown})")]
        );
    }
    assert_eq!(
        one_dependency("perf-batch-derive", "perf-batch", json!("dev")),
        ["perf-batch-derive depends on perf-batch (Dev)"]
    );
    assert_eq!(
        one_dependency("perf-cache", "perf-batch-derive", json!(null)),
        ["perf-cache depends on perf-batch-derive (Normal)"]
    );
}

#[test]
fn testkit_is_for_tests_only() {
    assert_eq!(
        one_dependency("perf-pool", "testkit", json!(null)),
        ["perf-pool depends on testkit (Normal)"]
    );
    assert_eq!(
        one_dependency("perf-pool", "testkit", json!("build")),
        ["perf-pool depends on testkit (Build)"]
    );
    assert!(one_dependency("perf-pool", "testkit", json!("dev")).is_empty());
}

#[test]
fn the_allowed_ones_pass() {
    assert!(one_dependency("perf-batch", "perf-batch-derive", json!(null)).is_empty());
    assert!(one_dependency("perf-benches", "perf-batch", json!(null)).is_empty());
    assert!(one_dependency("perf-examples", "perf-pool", json!(null)).is_empty());
}
