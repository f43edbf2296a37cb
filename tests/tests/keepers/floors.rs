//! The floors of the house: who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::{run_ok, workspace};

#[tokio::test]
async fn every_import_between_our_crates_is_in_the_table() {
    let table: BTreeMap<&str, BTreeSet<&str>> =
        FLOORS.iter().map(|(name, imports)| (*name, imports.iter().copied().collect())).collect();
    let mut wrong = vec![];
    let metadata = metadata().await;
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names, table.keys().copied().chain(["tcpmux", "tests"]).collect(), "the crates of the house");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = table.get(name) else { continue };
        for dependency in package["dependencies"].as_array().unwrap() {
            let imported = dependency["name"].as_str().unwrap();
            if names.contains(imported) && !allowed.contains(imported) {
                wrong.push(format!("{name} imports {imported}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not in the table of ARCHITECTURE.md: {wrong:?}");
}

#[tokio::test]
async fn every_crate_inherits_the_lints_and_takes_its_dependencies_from_the_workspace() {
    let mut wrong = vec![];
    for package in metadata().await["packages"].as_array().unwrap() {
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        let name = package["name"].as_str().unwrap();
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name} does not inherit the lints"));
        }
        for section in manifest.split("\n[").filter(|section| section.contains("dependencies]")) {
            for line in
                section.lines().skip(1).filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            {
                if !line.contains("workspace = true") {
                    wrong.push(format!("{name}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = workspace().join("Cargo.toml").display().to_string();
    let words = ["metadata", "--no-deps", "--format-version", "1", "--manifest-path", &manifest];
    serde_json::from_str(&run_ok(cargo, words, b"").await).unwrap()
}

/// As ARCHITECTURE.md has it; the roof and these tests may import everything.
const FLOORS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("tcpmux-proto", &["model"]),
    ("ca", &["model"]),
    ("store", &["model"]),
    ("registry", &["model"]),
    ("runtime", &["model", "tcpmux-proto"]),
    ("tcpmux-server", &["model", "tcpmux-proto", "ca", "registry", "runtime"]),
    ("tcpmux-client", &["model", "tcpmux-proto", "runtime"]),
    ("cloud-proxy", &["model", "tcpmux-proto", "registry", "runtime"]),
    ("prov-server", &["model", "ca", "store", "registry", "runtime"]),
    ("client-api", &["model", "tcpmux-proto", "store", "registry", "runtime"]),
    ("cloud-gateway", &["model", "ca", "store", "registry", "runtime"]),
];
