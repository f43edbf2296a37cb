//! Renewal: who may have a successor, when the old one ends (rows 58–68 of the table of hostile inputs).
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use std::time::Duration;

use ca::{DeviceCertificate, PrivateKey, Profile};
use model::{CertificateStatus, Serial};
use prov_server::Config;
use registry::{Admission, Presented};
use scene::{DAY, Device, Est, HOUR, Scene, device, fingerprint, until};

/// As the device door does it after a handshake.
fn connect(scene: &Scene, leaf: &[u8]) -> Result<registry::Admitted, registry::NotAdmitted> {
    let certificate = DeviceCertificate::read(leaf).unwrap();
    let presented = Presented {
        fingerprint: certificate.fingerprint(),
        device: certificate.device(scene.hierarchy.domain()).unwrap(),
        not_after: certificate.not_after(),
    };
    scene.registry.certificates().admit(&presented, scene.time.now())
}

async fn status(scene: &Scene, leaf: &[u8]) -> CertificateStatus {
    scene.store.certificate(fingerprint(leaf)).await.unwrap().unwrap().certificate.status
}

#[tokio::test]
async fn a_successors_first_connection_ends_its_predecessor() {
    let scene = Scene::new().await;
    let (_, old) = scene.enrolled("cam-01").await;
    connect(&scene, &old).unwrap();
    scene.clock.advance(DAY * 60);
    let answer = scene.send(Est::renew(&Device::new().request(None), &old)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let new = answer.leaf();
    let certificate = DeviceCertificate::read(&new).unwrap();
    assert_eq!(certificate.device(scene.hierarchy.domain()).unwrap(), device("cam-01"));
    assert_eq!(certificate.not_after(), scene.time.now().plus(DAY * 90));
    connect(&scene, &old).expect("until the successor is used, both serve");
    connect(&scene, &new).unwrap();
    let is_retired = |status: &CertificateStatus| *status == CertificateStatus::Retired;
    until("the old entry", async || scene.view(&old).unwrap().status, is_retired).await;
    assert_eq!(status(&scene, &old).await, CertificateStatus::Retired);
    assert_eq!(connect(&scene, &old), Err(registry::NotAdmitted::Retired));
    // Row 63: the old one is good for nothing any more.
    let answer = scene.send(Est::renew(&Device::new().request(None), &old)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (401, "certificate-invalid"));
    assert!(answer.text().contains("re-provision"));
    assert_eq!(scene.audited("certificate.renew", "certificate-retired").await, 1);
}

#[tokio::test]
async fn asking_for_the_next_one_is_a_use_too() {
    let scene = Scene::new().await;
    let (_, first) = scene.enrolled("cam-01").await;
    scene.clock.advance(DAY * 60);
    let second = scene.send(Est::renew(&Device::new().request(None), &first)).await.leaf();
    scene.clock.advance(DAY * 60);
    let third = scene.send(Est::renew(&Device::new().request(None), &second)).await;
    assert_eq!(third.status, 200);
    assert_eq!(status(&scene, &first).await, CertificateStatus::Retired);
    assert_eq!(scene.view(&first).unwrap().status, CertificateStatus::Retired);
    assert_eq!(status(&scene, &second).await, CertificateStatus::Active);
}

#[tokio::test]
async fn the_same_key_may_stay_and_names_may_be_repeated_but_not_changed() {
    let scene = Scene::new().await;
    let (owner, leaf) = scene.enrolled("cam-01").await;
    scene.clock.advance(DAY * 60);
    let domain = scene.hierarchy.domain();
    let own = domain.device_name(&device("cam-01"));
    let others = domain.device_name(&device("cam-02"));
    for (cn, name) in [(Some("cam-02"), &own), (Some("cam-01"), &others)] {
        let answer = scene.send(Est::renew(&owner.request_naming(cn, &[name]), &leaf)).await;
        assert_eq!((answer.status.as_u16(), &*answer.word()), (403, "identity-mismatch"));
    }
    assert_eq!(scene.audited("certificate.renew", "identity-mismatch").await, 2);
    let answer = scene.send(Est::renew(&owner.request_naming(Some("cam-01"), &[&own]), &leaf)).await;
    assert_eq!(answer.status, 200);
    let (old, new) =
        (DeviceCertificate::read(&leaf).unwrap(), DeviceCertificate::read(&answer.leaf()).unwrap());
    assert_eq!(old.spki_sha256(), new.spki_sha256());
    assert_ne!(old.serial(), new.serial());
}

/// Rows 58 and 59.
#[tokio::test]
async fn an_expired_certificate_is_renewed_within_the_grace_and_not_after() {
    let config = Config { renew_after_expiry: DAY * 30, ..Config::default() };
    let scene = Scene::with(config).await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    scene.clock.advance(DAY * 120 - HOUR);
    assert_eq!(connect(&scene, &leaf), Err(registry::NotAdmitted::Expired));
    let answer = scene.send(Est::renew(&Device::new().request(None), &leaf)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    connect(&scene, &answer.leaf()).unwrap();
    let (_, other) = scene.enrolled("cam-02").await;
    scene.clock.advance(DAY * 120);
    let answer = scene.send(Est::renew(&Device::new().request(None), &other)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (401, "certificate-invalid"));
    assert_eq!(scene.audited("certificate.renew", "certificate-expired").await, 1);
}

/// Row 59, the other end, and row 60.
#[tokio::test]
async fn a_certificate_of_the_future_and_a_revoked_one_are_never_renewed() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    scene.clock.set(scene::START.minus(HOUR * 2));
    let answer = scene.send(Est::renew(&Device::new().request(None), &leaf)).await;
    assert_eq!(answer.status, 401);
    assert_eq!(scene.audited("certificate.renew", "certificate-not-yet-valid").await, 1);
    scene.clock.set(scene::START);
    let uri = format!("/admin/api/certificates/{}/revoke", fingerprint(&leaf));
    assert_eq!(scene.admin("POST", &uri, "*/*", "").await.status, 200);
    for days in [0, 60, 100] {
        scene.clock.set(scene::START.plus(DAY * days));
        let answer = scene.send(Est::renew(&Device::new().request(None), &leaf)).await;
        assert_eq!(answer.status, 401, "after {days} days");
    }
    assert_eq!(scene.audited("certificate.renew", "certificate-revoked").await, 3);
}

/// Row 62: TLS has let it pass, the registry does not.
#[tokio::test]
async fn a_certificate_that_is_not_in_the_registry_renews_nothing() {
    let scene = Scene::new().await;
    scene.enrolled("cam-01").await;
    let keys = ca::FileKeys::open(&scene.folder.path().join("ca")).unwrap();
    let stolen = PrivateKey::generate().unwrap();
    let profile = Profile::device(&device("cam-01"), scene.hierarchy.domain(), DAY).unwrap();
    let authority = scene.hierarchy.devices();
    let serial = Serial::from_random(1, [77; 17]);
    let prepared = authority.prepare(&profile, stolen.public_key(), serial, scene.time.now()).unwrap();
    let forged = authority.sign(&keys, &prepared).unwrap();
    let server = scene.room.issue_door_certificate(&["cloud.example.com".into()], &[]).await.unwrap();
    for der in [&forged.der, &server.chain[0], scene.hierarchy.devices().certificate().der(), &b"junk"[..]] {
        let answer = scene.send(Est::renew(&Device::new().request(None), der)).await;
        assert_eq!((answer.status.as_u16(), &*answer.word()), (401, "certificate-invalid"));
    }
    let nothing = scene.send(Est::renew(&Device::new().request(None), &[]).showing_nothing()).await;
    assert_eq!(nothing.status, 401);
    assert_eq!(scene.rows().await.len(), 1);
    assert_eq!(scene.audited("certificate.renew", "certificate-unknown").await, 4);
}

#[tokio::test]
async fn a_passcode_does_not_renew() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let enrol = Est::enrol(&Device::new().request(None), "", &passcode);
    assert_eq!(scene.send(enrol.to("simplereenroll")).await.status, 401);
}

/// Rows 64–66.
#[tokio::test]
async fn renewing_in_a_loop_gets_the_same_certificate_or_is_told_to_wait() {
    let scene = Scene::new().await;
    let (owner, leaf) = scene.enrolled("cam-01").await;
    let early = scene.send(Est::renew(&owner.request(None), &leaf)).await;
    assert_eq!(early.leaf(), leaf, "the same key, minutes after: nothing new");
    scene.clock.advance(DAY * 60);
    let next = Device::new();
    let first = scene.send(Est::renew(&next.request(None), &leaf)).await.leaf();
    for _ in 0..50 {
        assert_eq!(scene.send(Est::renew(&next.request(None), &leaf)).await.leaf(), first);
    }
    let mut answers = vec![];
    for _ in 0..30 {
        answers.push(scene.send(Est::renew(&Device::new().request(None), &leaf)).await);
    }
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 9, "ten an hour, with the one above");
    let tenth = &answers[9];
    assert_eq!((tenth.status.as_u16(), &*tenth.word()), (429, "too-many-renewals"));
    let last = answers.last().unwrap();
    assert_eq!((last.status.as_u16(), &*last.word()), (429, "too-many-attempts"));
    assert!(answers[9..].iter().all(|answer| !answer.header("retry-after").is_empty()));
    assert_eq!(
        scene.audited("certificate.renew", "too-many").await,
        20,
        "what is told to wait leaves no rows"
    );
    scene.clock.advance(HOUR);
    scene.forget_refusals().await;
    assert_eq!(scene.send(Est::renew(&Device::new().request(None), &leaf)).await.status, 200);
}

#[tokio::test]
async fn another_devices_key_is_refused() {
    let scene = Scene::new().await;
    let (other, _) = scene.enrolled("cam-02").await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    scene.clock.advance(DAY * 60);
    let answer = scene.send(Est::renew(&other.request(None), &leaf)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (400, "key-blocked"));
}

/// Row 67.
#[tokio::test]
async fn a_user_name_beside_the_certificate_must_fit_it() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    scene.clock.advance(DAY * 60);
    let named = |user: &str| {
        Est::enrol(&Device::new().request(None), user, "secret").to("simplereenroll").showing(&leaf)
    };
    let answer = scene.send(named("cam-02")).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (400, "identity-mismatch"));
    assert_eq!(scene.send(named("cam-01")).await.status, 200);
    assert_eq!(scene.send(named("")).await.status, 200);
}

#[tokio::test]
async fn a_renewed_certificate_survives_a_restart_and_so_does_the_end_of_the_old_one() {
    let scene = Scene::new().await;
    let (_, old) = scene.enrolled("cam-01").await;
    scene.clock.advance(DAY * 60);
    let new = scene.send(Est::renew(&Device::new().request(None), &old)).await.leaf();
    scene.store.confirm_first_use(fingerprint(&new), scene.time.now()).await.unwrap();
    let scene = scene.restarted(Config::default()).await;
    assert_eq!(connect(&scene, &old), Err(registry::NotAdmitted::Retired));
    connect(&scene, &new).unwrap();
    assert!(scene.view(&new).unwrap().used);
    scene.clock.advance(DAY * 91 + Duration::from_secs(1));
    let scene = scene.restarted(Config::default()).await;
    assert_eq!(scene.view(&new), None, "what opens no door any more is not loaded");
}
