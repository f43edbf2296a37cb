//! pkilint, a linter that we did not write, reads everything that is signed here.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use tests::{Cloud, Identity, run, run_ok, workspace};

use super::applicant::{enrolled, revoke};

/// The codes of what a linter finds, with how bad it is.
async fn findings(tool: &str, words: &[&str], file: &Path) -> Vec<String> {
    let program = workspace().join("target/pkilint/bin").join(tool);
    assert!(program.exists(), "{} is missing; ./scripts/test installs it", program.display());
    let file = file.display().to_string();
    let mut all = vec!["lint", "-f", "JSON"];
    all.extend(words);
    all.push(&file);
    let finished = run(program, all, b"").await;
    let report: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{tool} {file}: {error}: {} {}", finished.stdout, finished.stderr));
    let places = report["results"].as_array().unwrap_or_else(|| panic!("{report}"));
    let found = places.iter().flat_map(|place| place["finding_descriptions"].as_array().unwrap().clone());
    found
        .map(|one| format!("{} {}", one["severity"].as_str().unwrap(), one["code"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn pkilint_finds_nothing_in_certificates_and_revocation_lists() {
    let cloud = Cloud::start().await;
    let (device, leaf) = enrolled(&cloud, "cam-01").await;
    let identity: Identity = device.identity(&leaf);
    let door = cloud.device().showing(&identity);
    let renewed =
        super::applicant::Applicant::new().renewal(&door).send().await.expect(200).await.text().await;
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("leaf.pem"), &leaf).unwrap();
    std::fs::write(file("renewed.pem"), renewed).unwrap();
    for name in ["devices", "services"] {
        let list = cloud.device().get(&format!("/crl/{name}.crl")).send().await.bytes().await.unwrap();
        std::fs::write(file(&format!("{name}-empty.crl")), list).unwrap();
    }
    revoke(&cloud, &leaf, "keyCompromise").await;
    let list = cloud.device().get("/crl/devices.crl").send().await.bytes().await.unwrap();
    std::fs::write(file("devices.crl"), list).unwrap();

    let ca = cloud.data().join("ca");
    let certificates = [
        ca.join("root.crt"),
        ca.join("devices.crt"),
        ca.join("services.crt"),
        file("leaf.pem"),
        file("renewed.pem"),
    ];
    let lists = ["devices-empty.crl", "services-empty.crl", "devices.crl"].map(file);
    let all =
        certificates.iter().map(|path| async move { (path, findings("lint_pkix_cert", &[], path).await) });
    for (path, found) in join_all(all).await {
        // How the key's identifier was computed is told of every certificate that has one, and RFC 5280
        // wants one in all: a remark, not a fault.
        let found = findings("lint_pkix_cert", &[], path).await;
        assert_eq!(
            found,
            ["INFO pkix.subject_key_identifier_rfc7093_method_1_identified"],
            "{}",
            path.display()
        );
    }
    let words = &["-t", "CRL", "-p", "PKIX"][..];
    let all = lists.iter().map(|path| async move { (path, findings("lint_crl", words, path).await) });
    for (path, found) in join_all(all).await {
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
    // Control: it does find what is wrong.
    let bad = file("bad.pem").display().to_string();
    let key = file("bad.key").display().to_string();
    let words =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"];
    let words =
        [&words[..], &["-addext", "basicConstraints=CA:TRUE", "-days", "9", "-keyout", &key, "-out", &bad]]
            .concat();
    run_ok("openssl", words, b"").await;
    let found = findings("lint_pkix_cert", &[], Path::new(&bad)).await;
    assert!(found.iter().any(|one| one.starts_with("ERROR")), "{found:?}");
}
