//! The workspace as cargo sees it, and cargo itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Package {
    pub(crate) fn is_of_the_family(&self) -> bool {
        is_of_the_family(&self.name)
    }
}

/// Whether a package of this name is one that applications depend on.
pub(crate) fn is_of_the_family(name: &str) -> bool {
    name.starts_with("perf-") && !["perf-examples", "perf-benches"].contains(&name)
}

pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().to_owned()
}

/// The cargo that runs these tests, without what it set for them alone.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    for (name, _) in std::env::vars_os() {
        let of_this_test = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if of_this_test {
            command.env_remove(name);
        }
    }
    command
}

/// All members of the workspace.
pub(crate) fn packages() -> Vec<Package> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let packages = packages_in(&serde_json::from_slice(&output.stdout).unwrap());
    assert!(!packages.is_empty());
    packages
}

/// The members in the output of `cargo metadata`.
pub(crate) fn packages_in(metadata: &Value) -> Vec<Package> {
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let features = package["features"].as_object().unwrap();
    let dependencies = package["dependencies"].as_array().unwrap();
    Package {
        name: text(&package["name"]),
        features: features.keys().cloned().collect(),
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}

fn dependency(dependency: &Value) -> Dependency {
    Dependency {
        name: text(&dependency["name"]),
        kind: match dependency["kind"].as_str() {
            None => Kind::Normal,
            Some("dev") => Kind::Dev,
            Some("build") => Kind::Build,
            Some(other) => panic!("unknown kind of dependency: {other}"),
        },
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
