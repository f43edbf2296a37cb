//! When nothing may be issued, and what the doors themselves get.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use std::time::Duration;

use ca::{DeviceCertificate, PrivateKey};
use prov_server::Config;
use scene::{DAY, Device, Est, HOUR, START, Scene, fingerprint};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Row 54.
#[tokio::test]
async fn without_its_store_nothing_is_issued_and_nothing_is_half_done() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let (_, leaf) = scene.enrolled("cam-02").await;
    let owner = Device::new();
    scene.store.close().await;
    let renewal = Est::renew(&owner.request(None), &leaf);
    for est in [Est::enrol(&owner.request(None), "", &passcode), renewal] {
        let answer = scene.send(est).await;
        assert_eq!((answer.status.as_u16(), &*answer.word()), (503, "unavailable"));
        assert!(!answer.header("retry-after").is_empty());
    }
    for (method, uri) in
        [("POST", "/admin/api/otp"), ("GET", "/admin/api/otps"), ("GET", "/admin/api/certificates")]
    {
        assert_eq!(scene.admin(method, uri, "*/*", "").await.status, 503, "{uri}");
    }
    assert!(scene.view(&leaf).is_some(), "known devices are admitted all the same");
    let scene = scene.restarted(Config::default()).await;
    assert_eq!(scene.rows().await.len(), 1);
    assert_eq!(scene.send(Est::enrol(&owner.request(None), "", &passcode)).await.status, 200);
}

/// Row 68.
#[tokio::test]
async fn a_clock_that_went_back_signs_nothing() {
    let scene = Scene::new().await;
    scene.enrolled("cam-01").await;
    let passcode = scene.passcode("device=cam-02&ttl=1d").await;
    scene.clock.set(START.minus(Duration::from_secs(301)));
    let request = Device::new().request(None);
    let answer = scene.send(Est::enrol(&request, "", &passcode)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (503, "unavailable"));
    assert!(scene.room.issue_door_certificate(&["localhost".into()], &[]).await.is_err());
    let scene = scene.restarted(Config::default()).await;
    assert_eq!(
        scene.send(Est::enrol(&request, "", &passcode)).await.status,
        503,
        "a restart changes nothing"
    );
    scene.clock.set(START.minus(Duration::from_secs(299)));
    assert_eq!(scene.send(Est::enrol(&request, "", &passcode)).await.status, 200);
}

/// Row 69: the intermediates live ten years.
#[tokio::test]
async fn a_leaf_never_outlives_its_issuer() {
    let scene = Scene::new().await;
    let end = scene.hierarchy.devices().certificate().not_after();
    scene.clock.set(end.minus(DAY * 10));
    let (_, leaf) = scene.enrolled("cam-01").await;
    assert_eq!(DeviceCertificate::read(&leaf).unwrap().not_after(), end);
    scene.clock.set(end.minus(HOUR * 12));
    let passcode = scene.passcode("device=cam-02").await;
    let answer = scene.send(Est::enrol(&Device::new().request(None), "", &passcode)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (503, "unavailable"));
}

#[tokio::test]
async fn a_doors_certificate_names_its_hosts_and_fits_its_key() {
    let scene = Scene::new().await;
    let names = ["cloud.example.com".to_owned(), "localhost".to_owned()];
    let addresses = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let door = scene.room.issue_door_certificate(&names, &addresses).await.unwrap();
    assert_eq!(door.chain[1], scene.hierarchy.services().certificate().der());
    let (_, certificate) = X509Certificate::from_der(&door.chain[0]).unwrap();
    let shown: Vec<_> = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert!(shown.contains(&GeneralName::DNSName("cloud.example.com")));
    assert_eq!(shown.len(), 4);
    let key = PrivateKey::from_pkcs8(door.key.expose()).unwrap();
    assert_eq!(key.public_key().spki_der(), certificate.public_key().raw);
    assert_eq!(door.not_after, START.plus(DAY * 90));
    assert!(scene.rows().await.is_empty(), "a door belongs to no tenant");
    let uri = format!("/admin/api/certificates/{}", door.fingerprint);
    let (status, json) = scene.json("GET", &uri, "").await;
    assert_eq!((status.as_u16(), &json["name"]), (200, &"cloud.example.com".into()));
    assert_eq!(scene.audited("certificate.issue", "ok").await, 1);
}

#[tokio::test]
async fn the_registry_and_the_ca_are_shown_to_operators() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    scene.enrolled("cam-02").await;
    let (_, page) = scene.json("GET", "/admin/api/certificates?limit=1", "").await;
    assert_eq!(page["items"][0]["fingerprint"], fingerprint(&leaf).to_string());
    let uri = format!("/admin/api/certificates?cursor={}", page["next_cursor"].as_str().unwrap());
    let (_, rest) = scene.json("GET", &uri, "").await;
    assert_eq!(rest["items"][0]["device"], "cam-02");
    let (_, other) = scene.json("GET", "/admin/api/certificates?tenant=acme", "").await;
    assert_eq!(other["items"].as_array().unwrap().len(), 0);
    let (_, ca) = scene.json("GET", "/admin/api/ca", "").await;
    assert_eq!(ca["fingerprint"], scene.hierarchy.root_fingerprint_text());
    assert_eq!(ca["chain"], scene.hierarchy.chain_pem());
    let unknown = format!("/admin/api/certificates/{}", "0".repeat(64));
    assert_eq!(scene.admin("GET", &unknown, "*/*", "").await.status, 404);
}

#[tokio::test]
async fn a_crl_address_is_named_where_the_operator_has_one() {
    let config = Config { crl_url: Some("http://crl.example.com/crl/".into()), ..Config::default() };
    let scene = Scene::with(config).await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    let address = b"http://crl.example.com/crl/devices.crl";
    assert!(leaf.windows(address.len()).any(|window| window == address));
}
