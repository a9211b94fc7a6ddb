//! Each feature of each crate compiles without the others.

use crate::cargo::{self, Package};

#[test]
#[ignore = "builds each crate once a feature; .ci/run runs it"]
fn each_feature_compiles_alone() {
    let mut failed = Vec::new();
    for package in cargo::packages() {
        if !package.is_of_the_family() {
            continue;
        }
        for selection in selections(&package) {
            let mut check = cargo::cargo();
            check
                .args(["clippy", "--quiet", "--package", &package.name])
                .arg("--no-default-features")
                .args(&selection)
                // Code that only another feature uses shows as a warning here.
                .args(["--", "--deny=warnings"])
                .current_dir(cargo::root());
            let selected = selection.last().map_or("no feature", String::as_str);
            let what = format!("{} with {selected}", package.name);
            println!("checking {what}");
            if !check.status().unwrap().success() {
                failed.push(what);
            }
        }
    }
    assert_eq!(failed, [""; 0]);
}

/// The arguments that select no feature, and each feature alone.
fn selections(package: &Package) -> Vec<Vec<String>> {
    let alone = package
        .features
        .iter()
        .map(|feature| vec!["--features".to_owned(), feature.clone()]);
    std::iter::once(Vec::new()).chain(alone).collect()
}
