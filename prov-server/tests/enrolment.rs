//! First enrolment: who gets a certificate, which one, and what everybody else hears.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use std::time::Duration;

use ca::DeviceCertificate;
use futures_util::future::join_all;
use model::CertificateStatus;
use prov_server::{Allowance, Config, Limits};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use scene::{DAY, Device, Est, HOUR, START, Scene, device, fingerprint};

#[tokio::test]
async fn a_passcode_becomes_a_certificate_that_names_the_device_and_nothing_else() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    let certificate = DeviceCertificate::read(&leaf).unwrap();
    assert_eq!(certificate.device(scene.hierarchy.domain()).unwrap(), device("cam-01"));
    assert_eq!(certificate.not_before(), START.minus(HOUR));
    assert_eq!(certificate.not_after(), START.plus(DAY * 90));
    let entry = scene.view(&leaf).unwrap();
    assert_eq!(
        (entry.device, entry.status, entry.used),
        (device("cam-01"), CertificateStatus::Active, false)
    );
    let actions: Vec<_> = scene.audit().await.into_iter().map(|row| row.action).collect();
    assert_eq!(actions, ["passcode.create", "certificate.intend", "certificate.issue"]);
    let (_, json) = scene.json("GET", &format!("/admin/api/certificates/{}", fingerprint(&leaf)), "").await;
    assert_eq!((&json["device"], &json["status"]), (&"cam-01".into(), &"active".into()));
    let text = json["pem"].as_str().unwrap();
    assert_eq!(ca::pem::decode(ca::pem::CERTIFICATE, text).unwrap(), leaf);
}

#[tokio::test]
async fn an_unbound_passcode_takes_the_id_from_the_user_else_the_cn_and_makes_new_devices_only() {
    let scene = Scene::new().await;
    let named = |answer: scene::Answer| {
        DeviceCertificate::read(&answer.leaf()).unwrap().device(scene.hierarchy.domain()).unwrap()
    };
    let passcode = scene.passcode("").await;
    let none = scene.send(Est::enrol(&Device::new().request(None), "", &passcode)).await;
    assert_eq!((none.status.as_u16(), &*none.word()), (400, "device-id"));
    let wrong = scene.send(Est::enrol(&Device::new().request(None), "CAM 01", &passcode)).await;
    assert_eq!((wrong.status.as_u16(), &*wrong.word()), (400, "device-id"));
    let other = scene.send(Est::enrol(&Device::new().request(Some("cam-02")), "cam-01", &passcode)).await;
    assert_eq!((other.status.as_u16(), &*other.word()), (403, "identity-mismatch"));
    let by_user = scene.send(Est::enrol(&Device::new().request(None), "cam-01", &passcode)).await;
    assert_eq!(named(by_user), device("cam-01"));
    let passcode = scene.passcode("").await;
    let taken = scene.send(Est::enrol(&Device::new().request(Some("cam-01")), "", &passcode)).await;
    assert_eq!((taken.status.as_u16(), &*taken.word()), (409, "device-exists"));
    let by_cn = scene.send(Est::enrol(&Device::new().request(Some("cam-02")), "", &passcode)).await;
    assert_eq!(named(by_cn), device("cam-02"));
}

#[tokio::test]
async fn a_bound_passcode_serves_its_device_alone_whatever_the_user_also_again() {
    let scene = Scene::new().await;
    let (_, first) = scene.enrolled("cam-01").await;
    let passcode = scene.passcode("device=cam-01").await;
    let answer = scene.send(Est::enrol(&Device::new().request(None), "cam-99", &passcode)).await;
    let leaf = answer.leaf();
    let named = DeviceCertificate::read(&leaf).unwrap().device(scene.hierarchy.domain()).unwrap();
    assert_eq!(named, device("cam-01"));
    assert_eq!(scene.view(&first).unwrap().status, CertificateStatus::Active);
    let passcode = scene.passcode("device=cam-02").await;
    let domain = scene.hierarchy.domain();
    let own = domain.device_name(&device("cam-02"));
    let others = domain.device_name(&device("cam-01"));
    for (cn, names) in [(Some("cam-01"), &[][..]), (None, &[&*others]), (None, &[&*own, &*others])] {
        let request = Device::new().request_naming(cn, names);
        let answer = scene.send(Est::enrol(&request, "", &passcode)).await;
        assert_eq!((answer.status.as_u16(), &*answer.word()), (403, "identity-mismatch"), "{cn:?} {names:?}");
    }
    assert_eq!(scene.audited("passcode.redeem", "identity-mismatch").await, 3);
    let request = Device::new().request_naming(Some("cam-02"), &[&own]);
    assert_eq!(scene.send(Est::enrol(&request, "", &passcode)).await.status, 200);
}

/// Rows 1–25: the craft of reading requests is tested where it lives; here, that its words reach the
/// caller, that a refused request does not burn the passcode, and that names on a certificate are never copied.
#[tokio::test]
async fn a_hostile_request_is_refused_with_its_word_and_does_not_burn_the_passcode() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let device = Device::new();
    let made = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        params.serialize_request(&device.key).unwrap().der().to_vec()
    };
    let mut unsigned = device.request(None);
    *unsigned.last_mut().unwrap() ^= 1;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for (request, word) in [
        (unsigned, "csr-signature"),
        (made(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "csr-asks-ca"),
        (made(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), "csr-eku"),
        (
            made(&|params| {
                params.distinguished_name.push(DnType::CommonName, "cam-01");
                params.distinguished_name.push(DnType::OrganizationName, "cam-01");
            }),
            "csr-subject",
        ),
        (made(&|params| params.distinguished_name.push(DnType::CommonName, "сam-01")), "csr-subject"),
    ] {
        let answer = scene.send(Est::enrol(&request, "", &passcode)).await;
        assert_eq!((answer.status.as_u16(), &*answer.word()), (400, word), "{}", answer.text());
    }
    let sixth = scene.send(Est::enrol(&device.request(None), "", &passcode)).await;
    assert_eq!((sixth.status.as_u16(), &*sixth.word()), (429, "too-many-attempts"));
    assert!(!sixth.header("retry-after").is_empty());
    scene.forget_refusals().await;
    let other_key = Device { key: p384 };
    assert_eq!(scene.send(Est::enrol(&other_key.request(None), "", &passcode)).await.status, 200);
}

#[tokio::test]
async fn a_key_belongs_to_one_device() {
    let scene = Scene::new().await;
    let (first, _) = scene.enrolled("cam-01").await;
    let passcode = scene.passcode("device=cam-02").await;
    let answer = scene.send(Est::enrol(&first.request(None), "", &passcode)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (400, "key-blocked"));
    assert_eq!(scene.rows().await.len(), 1);
}

/// Row 43: whatever is wrong with a passcode, the answer has the same octets.
#[tokio::test]
async fn passcodes_that_do_not_serve_are_answered_alike() {
    let scene = Scene::new().await;
    let request = Device::new().request(None);
    let used = scene.passcode("device=used").await;
    scene.send(Est::enrol(&Device::new().request(None), "", &used)).await;
    let spent = scene.passcode("device=spent").await;
    let spender = Device::new();
    let leaf = scene.send(Est::enrol(&spender.request(None), "", &spent)).await.leaf();
    scene.store.confirm_first_use(fingerprint(&leaf), START).await.unwrap();
    let expired = scene.passcode("device=late&ttl=1m").await;
    scene.clock.advance(Duration::from_secs(60));
    let unknown = model::Passcode::from_random([9; 20]).reveal();
    let (typo, swapped) = (unknown.replace('4', "5"), unknown.to_lowercase());
    let mut answers = vec![];
    for passcode in [&*used, &*expired, &*unknown, &*typo, &*swapped, "", "short", &"x".repeat(500)] {
        answers.push(scene.send(Est::enrol(&request, "cam-07", passcode)).await);
    }
    answers.push(scene.send(Est::enrol(&spender.request(None), "cam-07", &spent)).await);
    // A request that is bad in itself makes no difference either.
    answers.push(scene.send(Est::enrol(b"junk", "cam-07", &unknown)).await);
    for answer in &answers {
        assert_eq!(answer.status, 401);
        assert_eq!(answer, &answers[0]);
    }
    assert_eq!(scene.audited("passcode.redeem", "otp-replay").await, 1);
    assert_eq!(scene.audited("passcode.redeem", "otp-expired").await, 1);
    assert_eq!(scene.audited("passcode.redeem", "otp-spent").await, 1);
    assert_eq!(scene.audited("passcode.redeem", "otp-unknown").await, 7);
}

#[tokio::test]
async fn a_typed_copy_of_a_passcode_serves() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await.to_lowercase().replace('0', "o").replace('1', "l");
    let typed = format!(" {}-{} ", &passcode[..8], &passcode[8..]);
    let answer = scene.send(Est::enrol(&Device::new().request(None), "", &typed)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Rows 44–47, and the same a day later.
#[tokio::test]
async fn a_repeat_with_the_same_key_gets_the_same_certificate_for_a_day_or_until_it_was_used() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let owner = Device::new();
    let first = scene.send(Est::enrol(&owner.request(None), "", &passcode)).await;
    scene.clock.advance(DAY - HOUR / 60);
    let again = scene.send(Est::enrol(&owner.request(Some("cam-01")), "", &passcode)).await;
    assert_eq!((again.status.as_u16(), again.leaf()), (200, first.leaf()));
    let thief = scene.send(Est::enrol(&Device::new().request(None), "", &passcode)).await;
    assert_eq!(thief.status, 401);
    assert_eq!(scene.audited("passcode.redeem", "otp-replay").await, 1);
    scene.clock.advance(HOUR);
    assert_eq!(scene.send(Est::enrol(&owner.request(None), "", &passcode)).await.status, 401);
    assert_eq!(scene.rows().await.len(), 1);
}

#[tokio::test]
async fn two_hundred_different_keys_at_once_make_one_certificate() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let requests: Vec<_> = (0..200).map(|_| Device::new().request(None)).collect();
    let answers =
        join_all(requests.iter().map(|request| scene.send(Est::enrol(request, "cam-01", &passcode)))).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((good.len(), bad.len()), (1, 199));
    assert!(bad.iter().all(|answer| answer == &bad[0] && answer.status == 401));
    assert_eq!(scene.rows().await.len(), 1);
    assert_eq!(scene.audited("passcode.redeem", "otp-replay").await, 199);
}

#[tokio::test]
async fn two_hundred_times_the_same_key_at_once_get_one_serial() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let owner = Device::new();
    // Every request is signed anew: other octets, the same key.
    let requests: Vec<_> = (0..200).map(|_| owner.request(None)).collect();
    let answers =
        join_all(requests.iter().map(|request| scene.send(Est::enrol(request, "cam-01", &passcode)))).await;
    let leaf = answers[0].leaf();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.leaf() == leaf));
    assert_eq!(scene.rows().await.len(), 1);
    assert_eq!(scene.audited("certificate.issue", "ok").await, 1);
}

/// Rows 48 and 49.
#[tokio::test]
async fn a_source_that_fails_too_often_waits_but_what_succeeds_is_never_limited() {
    let limits = Limits {
        failures_of_source: Allowance { burst: 10, refill: Duration::from_secs(5) },
        ..Limits::default()
    };
    let scene = Scene::with(Config { limits, ..Config::default() }).await;
    let request = Device::new().request(None);
    let guess = |number: u8| model::Passcode::from_random([number; 20]).reveal();
    for number in 0..10 {
        let answer = scene.send(Est::enrol(&request, "cam-01", &guess(number))).await;
        assert_eq!(answer.status, 401);
    }
    let limited = scene.send(Est::enrol(&request, "cam-01", &guess(99))).await;
    assert_eq!((limited.status.as_u16(), &*limited.word()), (429, "too-many-attempts"));
    assert!(limited.header("retry-after").parse::<u64>().unwrap() <= 5);
    let neighbour = Est::enrol(&request, "cam-01", &guess(99)).from("198.51.100.1:1");
    assert_eq!(scene.send(neighbour).await.status, 401);
    // A factory behind the same address goes on, in the name of the very device that was guessed at.
    for number in 0..30 {
        let passcode = scene.passcode("").await;
        let name = if number == 0 { "cam-01".to_owned() } else { format!("unit-{number}") };
        let answer = scene.send(Est::enrol(&Device::new().request(None), &name, &passcode)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(scene.audited("passcode.redeem", "otp-unknown").await, 11);
}

/// Row 67.
#[tokio::test]
async fn a_certificate_and_a_passcode_of_different_devices_do_not_go_together() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    let passcode = scene.passcode("device=cam-02").await;
    let mixed = Est::enrol(&Device::new().request(None), "", &passcode).showing(&leaf);
    let answer = scene.send(mixed).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (400, "identity-mismatch"));
    let passcode = scene.passcode("device=cam-01").await;
    let same = Est::enrol(&Device::new().request(None), "", &passcode).showing(&leaf);
    assert_eq!(scene.send(same).await.status, 200);
}

#[tokio::test]
async fn many_devices_enrol_at_once_and_each_gets_its_own() {
    let scene = Scene::new().await;
    let passcodes = join_all((0..100).map(|_| scene.passcode(""))).await;
    let devices: Vec<_> =
        (0..100).map(|number| (format!("unit-{number}"), Device::new().request(None))).collect();
    let answers = join_all(
        devices
            .iter()
            .zip(&passcodes)
            .map(|((name, request), passcode)| scene.send(Est::enrol(request, name, passcode))),
    )
    .await;
    for (answer, (name, _)) in answers.iter().zip(&devices) {
        let named =
            DeviceCertificate::read(&answer.leaf()).unwrap().device(scene.hierarchy.domain()).unwrap();
        assert_eq!(named, device(name));
    }
    assert_eq!(scene.registry.certificates().len(), 100);
    let chain = scene.store.verify_audit().await.unwrap().unwrap();
    assert_eq!(chain.rows(), 300);
}
