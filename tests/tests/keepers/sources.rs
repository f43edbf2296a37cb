//! Rules about the source that no compiler keeps.

use std::path::{Path, PathBuf};

use tests::workspace;

#[test]
fn rooms_outside_provisioning_take_identities_from_ca_and_nothing_else() {
    // The names that have to do with reading a device's identity; none of them signs.
    let identity = [
        "DeploymentDomain",
        "DeviceCertificate",
        "DeviceNaming",
        "IdentityError",
        "NameSource",
        "DomainError",
    ];
    let mut wrong = vec![];
    for room in ["tcpmux-server", "cloud-gateway"] {
        for (path, text) in shipped(room) {
            let names = taken_from_ca(&text).into_iter().filter(|name| !identity.contains(&name.as_str()));
            wrong.extend(names.map(|name| format!("{}: ca::{name}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn door_keys_are_cut_at_the_roof_alone() {
    let cutters: Vec<_> = all_shipped().filter(|(_, text)| text.contains("DoorKey::cut(")).collect();
    let elsewhere: Vec<_> = cutters.iter().filter(|(path, _)| !path.starts_with(room("tcpmux"))).collect();
    assert!(elsewhere.is_empty(), "{:?}", elsewhere.iter().map(|(path, _)| path).collect::<Vec<_>>());
    assert!(!cutters.is_empty(), "the roof cuts one");
}

#[test]
fn one_file_reaches_the_keys_of_the_ca() {
    // `Authority` signs; a `KeyStore` holds the keys. The roof opens the files and hands them over.
    let allowed = [room("prov-server").join("src/issuing.rs")];
    let wrong: Vec<PathBuf> = all_shipped()
        .filter(|(path, _)| !path.starts_with(room("ca")) && !allowed.contains(path))
        .filter(|(_, text)| {
            taken_from_ca(text).iter().any(|name| ["Authority", "Prepared", "KeyName"].contains(&&**name))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let issuing = std::fs::read_to_string(&allowed[0]).unwrap();
    assert!(taken_from_ca(&issuing).iter().any(|name| name == "Authority"), "the one file still is the one");
}

#[test]
fn sql_is_written_in_the_store_alone() {
    let wrong: Vec<PathBuf> = all_shipped()
        .filter(|(path, _)| !path.starts_with(room("store")))
        .filter(|(_, text)| {
            let upper = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let text: String = upper.collect::<Vec<_>>().join("\n");
            text.contains("sqlx")
                || ["\"SELECT ", "\"INSERT ", "\"UPDATE ", "\"DELETE FROM", "\"CREATE TABLE", "PRAGMA "]
                    .iter()
                    .any(|statement| text.contains(statement))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let long: Vec<String> = rust_files(workspace())
        .into_iter()
        .map(|path| (std::fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > 500)
        .map(|(lines, path)| format!("{lines} {}", path.display()))
        .collect();
    assert!(long.is_empty(), "a file with two headings is two files: {long:#?}");
}

/// The names that a source takes from `ca`, by import or by path.
fn taken_from_ca(text: &str) -> Vec<String> {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut names = vec![];
    for (at, _) in flat.match_indices("ca::") {
        if flat[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let used = &flat[at + "ca::".len()..];
        let list = match used.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        names.extend(list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    names
}

/// The source of a crate without its tests.
fn shipped(name: &str) -> Vec<(PathBuf, String)> {
    rust_files(&room(name).join("src"))
        .into_iter()
        .filter(|path| {
            let stem = path.file_stem().unwrap().to_string_lossy();
            !stem.ends_with("_tests") && !stem.starts_with("test") && stem != "testing"
        })
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            (path, text)
        })
        .collect()
}

fn all_shipped() -> impl Iterator<Item = (PathBuf, String)> {
    CRATES.iter().flat_map(|name| shipped(name))
}

fn room(name: &str) -> PathBuf {
    workspace().join(name)
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

const CRATES: &[&str] = &[
    "model",
    "tcpmux-proto",
    "ca",
    "store",
    "registry",
    "runtime",
    "tcpmux-server",
    "tcpmux-client",
    "cloud-proxy",
    "prov-server",
    "client-api",
    "cloud-gateway",
    "tcpmux",
];
