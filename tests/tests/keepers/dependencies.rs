//! What is linked, and what must never be.

use std::collections::BTreeSet;

use tests::{run_ok, workspace};

#[tokio::test]
async fn one_crypto_library_is_linked_and_no_openssl() {
    let linked = tree(&["--workspace", "--edges", "normal,build,dev"]).await;
    assert!(linked.contains("aws-lc-rs") && linked.contains("rustls"), "the tree is read: {linked:?}");
    for other in ["ring", "openssl", "openssl-sys", "native-tls", "boring", "rsa", "p256"] {
        assert!(!linked.contains(other), "{other} is linked; see: cargo tree --workspace -i {other}");
    }
}

#[tokio::test]
async fn the_daemon_links_no_database_and_no_web_framework() {
    let linked = tree(&["--package", "tcpmux-client", "--edges", "normal,build"]).await;
    assert!(linked.contains("tokio-rustls") && linked.contains("tcpmux-proto"), "{linked:?}");
    for heavy in ["sqlx", "sqlx-core", "libsqlite3-sys", "axum", "axum-core", "reqwest", "store", "rcgen"] {
        assert!(!linked.contains(heavy), "{heavy} is linked; see: cargo tree -p tcpmux-client -i {heavy}");
    }
}

#[tokio::test]
async fn the_rooms_on_the_data_path_link_no_database() {
    for package in ["tcpmux-server", "cloud-proxy", "tcpmux-proto", "registry"] {
        let linked = tree(&["--package", package, "--edges", "normal"]).await;
        assert!(linked.contains("model"), "{linked:?}");
        for heavy in ["sqlx", "libsqlite3-sys", "store"] {
            assert!(!linked.contains(heavy), "{package} links {heavy}");
        }
    }
}

async fn tree(words: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = workspace().join("Cargo.toml").display().to_string();
    let mut all = vec!["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}"];
    all.extend(["--manifest-path", &manifest]);
    all.extend(words);
    let text = run_ok(cargo, all, b"").await;
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
