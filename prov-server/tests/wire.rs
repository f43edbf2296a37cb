//! EST's octets, as strongSwan, libest and curl need them (RFC 7030, 8951).
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use base64::{Engine, engine::general_purpose::STANDARD};
use ca::pem;
use scene::{Device, Est, Scene};

fn unwrapped(body: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = body.iter().copied().filter(|b| *b != b'\n').collect();
    STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn cacerts_is_one_line_for_all_but_libest() {
    let scene = Scene::new().await;
    let plain = scene.get("/.well-known/est/cacerts").await;
    assert_eq!(plain.status, 200);
    assert_eq!(plain.header("content-type"), "application/pkcs7-mime; smime-type=certs-only");
    assert_eq!(plain.text().lines().count(), 1);
    assert!(plain.text().ends_with('\n'));
    let pkcs7 = unwrapped(&plain.body);
    for certificate in scene.hierarchy.certificates() {
        assert!(pkcs7.windows(certificate.len()).any(|window| window == certificate));
    }
    let libest = scene.send_get("/.well-known/est/cacerts", "user-agent", "libest 1.0").await;
    assert!(libest.text().lines().count() > 10 && libest.text().lines().all(|line| line.len() <= 64));
    assert!(libest.text().ends_with('\n'));
    assert_eq!(unwrapped(&libest.body), pkcs7);
    let shell = scene.send_get("/.well-known/est/cacerts", "accept", "application/x-pem-file").await;
    assert_eq!(shell.header("content-type"), "application/x-pem-file");
    let certificates = pem::decode_all(pem::CERTIFICATE, &shell.text()).unwrap();
    assert_eq!(certificates, scene.hierarchy.certificates().map(<[u8]>::to_vec));
}

#[tokio::test]
async fn csrattrs_asks_for_p256_with_sha256() {
    let scene = Scene::new().await;
    let answer = scene.get("/.well-known/est/csrattrs").await;
    assert_eq!(answer.header("content-type"), "application/csrattrs");
    let der = unwrapped(&answer.body);
    assert_eq!((der[0], usize::from(der[1])), (0x30, der.len() - 2));
    let ecdsa_with_sha256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    assert!(der.ends_with(&ecdsa_with_sha256));
}

#[tokio::test]
async fn an_enrolment_answers_the_leaf_alone_in_one_line() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let request = Device::new().request(None);
    let plain = scene.send(Est::enrol(&request, "cam-01", &passcode).without("accept")).await;
    assert_eq!(plain.status, 200);
    assert_eq!(plain.header("content-type"), "application/pkcs7-mime; smime-type=certs-only");
    assert_eq!(plain.header("cache-control"), "no-store");
    assert_eq!(plain.text().lines().count(), 1);
    assert!(plain.text().ends_with('\n'));
    let leaf = scene.send(Est::enrol(&request, "cam-01", &passcode)).await.leaf();
    assert_eq!(unwrapped(&plain.body), ca::pkcs7::certs_only(&[&leaf]));
}

#[tokio::test]
async fn without_proof_there_is_a_challenge_and_no_failed_attempt() {
    let scene = Scene::new().await;
    let request = Device::new().request(None);
    for _ in 0..1000 {
        let answer = scene.send(Est::enrol(&request, "", "").without("authorization")).await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Basic realm=\"est\""));
    }
    let bearer = scene.send(Est::enrol(&request, "", "").header("authorization", "Bearer x")).await;
    assert_eq!(bearer.status, 401);
    assert_eq!(scene.audit().await.len(), 0);
}

/// Rows 26–34 of the table of hostile inputs: what surrounds a request that is good in itself.
#[tokio::test]
async fn what_is_not_a_pkcs10_body_is_refused_with_its_word() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let der = Device::new().request(None);
    let text = STANDARD.encode(&der);
    let est = || Est::enrol(&der, "", &passcode);
    let junk = [&der[..], &[0]].concat();
    let twice = [&der[..], &der[..]].concat();
    let refused = [
        (est().body(STANDARD.encode(&junk)), 400, "der"),
        (est().body(STANDARD.encode(&twice)), 400, "der"),
        (est().body(STANDARD.encode(&der[..der.len() - 1])), 400, "der"),
        (est().body(STANDARD.encode([0x30, 0x84, 0xff, 0xff, 0xff, 0xff])), 400, "der"),
        (est().body(der.clone()), 400, "base64"),
        (est().body(pem::encode(pem::CERTIFICATE_REQUEST, &der)), 400, "base64"),
        (est().body(format!("{text}=")), 400, "base64"),
        (est().body(format!("{text}\0")), 400, "base64"),
        (est().body(text.replace('A', "-")), 400, "base64"),
        (est().body(""), 400, "base64"),
        (est().without("content-type"), 415, "media-type"),
        (est().header("content-type", "text/plain"), 415, "media-type"),
        (est().header("content-encoding", "gzip"), 415, "media-type"),
        (est().header("content-length", "70000"), 413, "too-large"),
        (est().body(vec![b' '; 65_537]), 413, "too-large"),
        (est().body(STANDARD.encode(vec![0x30; 17_000])), 413, "csr-too-large"),
    ];
    for (number, (est, status, word)) in refused.into_iter().enumerate() {
        scene.forget_refusals().await;
        let answer = scene.send(est).await;
        assert_eq!((answer.status.as_u16(), &*answer.word()), (status, word), "number {number}");
        assert!(answer.header("content-type").starts_with("text/plain"));
        assert_eq!(answer.header("connection") == "close", word == "too-large", "number {number}");
    }
    assert!(scene.rows().await.is_empty());
    let wrapped: String =
        text.as_bytes().chunks(64).map(|l| format!("{}\r\n", String::from_utf8_lossy(l))).collect();
    let good = [
        est().body(wrapped),
        est().body(format!(" \t{text} \n\n")),
        est().header("content-type", "APPLICATION/pkcs10; charset=utf-8"),
        est().header("content-transfer-encoding", "binary"),
        est().header("content-encoding", "identity"),
    ];
    for est in good {
        assert_eq!(scene.send(est).await.status, 200);
    }
    assert_eq!(scene.rows().await.len(), 1);
}

#[tokio::test]
async fn other_methods_and_unknown_operations_are_no_routes() {
    let scene = Scene::new().await;
    let answer = scene.get("/.well-known/est/simpleenroll").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "POST"));
    for path in
        ["/.well-known/est/fullcmc", "/.well-known/est/label/cacerts", "/admin/api/otp", "/crl/root.crl"]
    {
        assert_eq!(scene.get(path).await.status, 404, "{path}");
    }
    assert_eq!(scene.admin("GET", "/.well-known/est/cacerts", "*/*", "").await.status, 404);
}
