//! pkilint, a linter that we did not write, reads everything that is signed here.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tests::{Cloud, Identity, run_ok, workspace};

use super::applicant::{enrolled, revoke};

/// What a linter of pkilint finds in each of these files: how bad it is, and its code. One process reads them all.
async fn findings(linter: &str, words: &[&str], files: &[PathBuf]) -> Vec<Vec<String>> {
    let python = workspace().join("target/pkilint/bin/python");
    assert!(python.exists(), "{} is missing; ./scripts/test installs it", python.display());
    let program = format!(
        "import sys
from pkilint.bin import {linter}
for file in sys.argv[1:]:
    {linter}.main(['lint', '-f', 'JSON', *{words:?}, file])"
    );
    let files = files.iter().map(|file| file.display().to_string());
    let said = run_ok(python, ["-c".to_owned(), program].into_iter().chain(files), b"").await;
    let read = |line: &str| {
        let report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let places = report["results"].as_array().unwrap_or_else(|| panic!("{report}"));
        let all = places.iter().flat_map(|place| place["finding_descriptions"].as_array().unwrap());
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        all.map(|one| format!("{} {}", text(one, "severity"), text(one, "code"))).collect()
    };
    said.lines().map(read).collect()
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
    // How the key's identifier was computed is told of every certificate that has one, and RFC 5280 wants one in
    // all: a remark, not a fault.
    let remark = vec!["INFO pkix.subject_key_identifier_rfc7093_method_1_identified".to_owned()];
    assert_eq!(findings("lint_pkix_cert", &[], &certificates).await, vec![remark; certificates.len()]);
    let found = findings("lint_crl", &["-t", "CRL", "-p", "PKIX"], &lists).await;
    assert_eq!(found, vec![Vec::<String>::new(); lists.len()]);
    // Control: it does find what is wrong.
    let bad = file("bad.pem").display().to_string();
    let key = file("bad.key").display().to_string();
    let words =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"];
    let words =
        [&words[..], &["-addext", "basicConstraints=CA:TRUE", "-days", "9", "-keyout", &key, "-out", &bad]]
            .concat();
    run_ok("openssl", words, b"").await;
    let found = findings("lint_pkix_cert", &[], &[bad.into()]).await;
    assert!(found[0].iter().any(|one| one.starts_with("ERROR")), "{found:?}");
}
