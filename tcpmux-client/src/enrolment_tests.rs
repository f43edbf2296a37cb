//! Enrolment and renewal against a cloud that writes down what it is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use model::{Passcode, Timestamp};
use runtime::Clock;
use tempfile::TempDir;

use crate::{
    EnrollError, EnrollRequest, EstError, HttpsError, Identity, StateDirectory, TrustedTime, WayOut, enroll,
    fake_cloud::{Answers, FakeCloud, issuing},
    renew::renew,
    test_pki::{ALWAYS, Pki},
};

const NOW: Timestamp = Timestamp::from_secs(1_795_303_719);

fn request(cloud: &FakeCloud, temporary: &TempDir) -> EnrollRequest {
    EnrollRequest {
        server: cloud.address.clone(),
        ca: cloud.pki.root_fingerprint(),
        passcode: Passcode::from_random([7; 20]),
        device: Some("cam-01".parse().unwrap()),
        suggestion: None,
        state: StateDirectory::at(temporary.path().join("state")),
        way_out: WayOut::default(),
    }
}

fn time() -> TrustedTime {
    TrustedTime::new(Clock::manual(NOW).0, NOW)
}

fn basic(user: &str) -> String {
    let pair = format!("{user}:{}", Passcode::from_random([7; 20]).reveal());
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

#[tokio::test]
async fn a_device_enrols_and_shows_the_passcode_only_after_the_fingerprint_fits() {
    let (cloud, temporary) = (FakeCloud::start().await, tempfile::tempdir().unwrap());
    let request = request(&cloud, &temporary);
    let identity = enroll(&request, &time()).await.unwrap();
    assert_eq!(identity.device.unwrap().as_str(), "cam-01");
    assert_eq!(request.state.identity().unwrap().certificate, identity.certificate);
    assert_eq!(cloud.lines(), ["GET /.well-known/est/cacerts", "POST /.well-known/est/simpleenroll"]);
    let heard = cloud.heard();
    assert_eq!(heard[0].authorization, None);
    assert_eq!(heard[1].authorization, Some(basic("cam-01")));
    assert_eq!(request.state.proven_time().unwrap().rfc3339(), "2026-11-21T23:59:59Z");
}

#[tokio::test]
async fn a_wrong_ca_never_hears_the_passcode() {
    let (cloud, temporary) = (FakeCloud::start().await, tempfile::tempdir().unwrap());
    let mut request = request(&cloud, &temporary);
    request.ca = Pki::new().root_fingerprint();
    let error = enroll(&request, &time()).await.unwrap_err();
    assert!(matches!(error, EnrollError::WrongCa { .. }), "{error}");
    assert!(error.to_string().contains(&cloud.pki.root_fingerprint().to_string()));
    assert_eq!(cloud.lines(), ["GET /.well-known/est/cacerts"]);
    assert!(request.state.identity().is_err());
}

#[tokio::test]
async fn a_copied_root_certificate_does_not_help_a_stranger() {
    // Someone in the middle hands out the true root but has a certificate of another CA.
    let pki = Arc::new(Pki::new());
    let middle = FakeCloud::with(Arc::clone(&pki), &Pki::new(), &["localhost"], ALWAYS, issuing(pki)).await;
    let temporary = tempfile::tempdir().unwrap();
    let error = enroll(&request(&middle, &temporary), &time()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Est(EstError::Https(HttpsError::Tls { .. }))), "{error}");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert_eq!(middle.lines(), ["GET /.well-known/est/cacerts"]);
}

#[tokio::test]
async fn a_server_of_the_right_ca_with_another_name_or_past_its_end_never_hears_the_passcode() {
    for (names, validity) in [(["other.test"], ALWAYS), (["localhost"], ((2020, 1, 1), (2026, 11, 1)))] {
        let pki = Arc::new(Pki::new());
        let cloud =
            FakeCloud::with(Arc::clone(&pki), &pki, &names, validity, issuing(Arc::clone(&pki))).await;
        let temporary = tempfile::tempdir().unwrap();
        let error = enroll(&request(&cloud, &temporary), &time()).await.unwrap_err();
        assert!(matches!(error, EnrollError::Est(EstError::Https(HttpsError::Tls { .. }))), "{error}");
        assert_eq!(cloud.lines(), ["GET /.well-known/est/cacerts"]);
    }
}

#[tokio::test]
async fn a_suggested_name_stands_in_the_user_and_not_in_the_signed_request() {
    let (cloud, temporary) = (FakeCloud::start().await, tempfile::tempdir().unwrap());
    let mut request = request(&cloud, &temporary);
    request.suggestion = request.device.take();
    let identity = enroll(&request, &time()).await.unwrap();
    assert_eq!(identity.device.unwrap().as_str(), "nameless");
    assert_eq!(cloud.heard()[1].authorization, Some(basic("cam-01")));
}

/// Issues, but the first `losses` answers to an enrolment get lost.
fn losing(pki: Arc<Pki>, losses: usize) -> Answers {
    let (issue, lost) = (issuing(pki), AtomicUsize::new(0));
    Box::new(move |heard| {
        let lose = heard.line.contains("enroll") && lost.fetch_add(1, Ordering::SeqCst) < losses;
        if lose { None } else { issue(heard) }
    })
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let pki = Arc::new(Pki::new());
    let answers = losing(Arc::clone(&pki), 1);
    let cloud = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, answers).await;
    let temporary = tempfile::tempdir().unwrap();
    enroll(&request(&cloud, &temporary), &time()).await.unwrap();
    let asked: Vec<_> = cloud.heard().into_iter().filter(|heard| heard.line.contains("enroll")).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(public_key(&asked[0].body), public_key(&asked[1].body));
}

#[tokio::test]
async fn a_second_run_after_a_lost_answer_shows_the_same_key_too() {
    let pki = Arc::new(Pki::new());
    let refusing: Answers = Box::new({
        let issue = issuing(Arc::clone(&pki));
        move |heard| {
            if heard.line.contains("enroll") { Some((418, b"no\x1b[31m".into())) } else { issue(heard) }
        }
    });
    let first = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, refusing).await;
    let temporary = tempfile::tempdir().unwrap();
    let error = enroll(&request(&first, &temporary), &time()).await.unwrap_err();
    assert!(error.to_string().contains("418") && !error.to_string().contains('\x1b'));
    let issue = issuing(Arc::clone(&pki));
    let second = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, issue).await;
    enroll(&request(&second, &temporary), &time()).await.unwrap();
    assert_eq!(public_key(&first.heard()[1].body), public_key(&second.heard()[1].body));
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    for (status, device, expected) in
        [(401, true, "tcpmux passcode new"), (403, true, "not for cam-01"), (400, false, "--device")]
    {
        let pki = Arc::new(Pki::new());
        let answers: Answers = Box::new({
            let issue = issuing(Arc::clone(&pki));
            move |heard| {
                if heard.line.contains("enroll") { Some((status, b"no".into())) } else { issue(heard) }
            }
        });
        let cloud = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, answers).await;
        let temporary = tempfile::tempdir().unwrap();
        let mut request = request(&cloud, &temporary);
        request.device = request.device.filter(|_| device);
        let error = enroll(&request, &time()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{status}: {error}");
        assert_eq!(cloud.heard().len(), 2, "a refusal is not tried again");
        assert!(!error.contains(&request.passcode.reveal()));
    }
}

#[tokio::test]
async fn a_certificate_for_another_key_or_device_is_not_installed() {
    for (device, own_key) in [("cam-01", false), ("cam-02", true)] {
        let pki = Arc::new(Pki::new());
        let answers: Answers = Box::new({
            let (issue, pki) = (issuing(Arc::clone(&pki)), Arc::clone(&pki));
            move |heard| {
                if !heard.line.contains("enroll") {
                    return issue(heard);
                }
                let key = crate::key::Key::generate().public_key_info();
                let key = if own_key { public_key(&heard.body) } else { key };
                let certificate = pki.device_certificate(device, &key);
                Some((200, BASE64_STANDARD.encode(crate::pkcs7::certs_only(&[&certificate])).into()))
            }
        });
        let cloud = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, answers).await;
        let temporary = tempfile::tempdir().unwrap();
        let request = request(&cloud, &temporary);
        assert!(matches!(enroll(&request, &time()).await, Err(EnrollError::Unfit(_))));
        assert!(request.state.identity().is_err());
    }
}

fn public_key(body: &[u8]) -> Vec<u8> {
    use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};
    let der = BASE64_STANDARD.decode(body.trim_ascii()).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    request.certification_request_info.subject_pki.raw.to_vec()
}

async fn enrolled(cloud: &FakeCloud, temporary: &TempDir) -> (Identity, StateDirectory) {
    let request = request(cloud, temporary);
    (enroll(&request, &time()).await.unwrap(), request.state)
}

#[tokio::test]
async fn a_renewal_shows_the_old_certificate_and_brings_a_new_key() {
    let (cloud, temporary) = (FakeCloud::start().await, tempfile::tempdir().unwrap());
    let (old, state) = enrolled(&cloud, &temporary).await;
    let new = renew(&old, &state, &WayOut::default(), &time()).await.unwrap();
    let heard = cloud.heard().pop().unwrap();
    assert_eq!(heard.line, "POST /.well-known/est/simplereenroll");
    assert_eq!(heard.client.unwrap(), old.chain[0]);
    assert_ne!(new.certificate.public_key_info, old.certificate.public_key_info);
    assert_eq!(state.identity().unwrap().certificate, new.certificate);
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_leaves_the_old_identity_and_repeats_with_the_same_new_key() {
    let pki = Arc::new(Pki::new());
    let (temporary, issue) = (tempfile::tempdir().unwrap(), issuing(Arc::clone(&pki)));
    let lost = AtomicUsize::new(0);
    let answers: Answers = Box::new(move |heard| {
        let lose = heard.line.contains("reenroll") && lost.fetch_add(1, Ordering::SeqCst) == 0;
        if lose { None } else { issue(heard) }
    });
    let cloud = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, answers).await;
    let (old, state) = enrolled(&cloud, &temporary).await;
    renew(&old, &state, &WayOut::default(), &time()).await.unwrap_err();
    assert_eq!(state.identity().unwrap().certificate, old.certificate);
    let new = renew(&old, &state, &WayOut::default(), &time()).await.unwrap();
    let asked: Vec<_> = cloud.heard().into_iter().filter(|heard| heard.line.contains("reenroll")).collect();
    assert_eq!(public_key(&asked[0].body), public_key(&asked[1].body));
    assert_eq!(public_key(&asked[1].body), new.certificate.public_key_info);
}

#[tokio::test]
async fn a_device_whose_certificate_has_expired_still_asks() {
    let (cloud, temporary) = (FakeCloud::start().await, tempfile::tempdir().unwrap());
    let state = StateDirectory::at(temporary.path());
    let key = state.pending_key().unwrap();
    let past = ((2026, 1, 1), (2026, 4, 1));
    let certificate = cloud.pki.device_certificate_valid("cam-01", &key.public_key_info(), past);
    let old = state.install(&cloud.address, &key, &certificate, &[cloud.pki.root_der()]).unwrap();
    let new = renew(&old, &state, &WayOut::default(), &time()).await.unwrap();
    assert_eq!(cloud.heard()[0].client, Some(old.chain[0].clone()));
    assert!(new.certificate.not_after > NOW);
}

#[tokio::test]
async fn a_date_beyond_the_servers_own_certificate_proves_nothing() {
    let pki = Arc::new(Pki::new());
    // The answer says 2026-11-21T23:59:59Z.
    for (until, believed) in [((2026, 11, 21), false), ((2026, 11, 22), true)] {
        let validity = ((2020, 1, 1), until);
        let issue = issuing(Arc::clone(&pki));
        let cloud = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], validity, issue).await;
        let temporary = tempfile::tempdir().unwrap();
        let earlier = Timestamp::from_secs(1_790_000_000);
        let time = TrustedTime::new(Clock::manual(earlier).0, earlier);
        enroll(&request(&cloud, &temporary), &time).await.unwrap();
        assert_eq!(time.now().rfc3339().starts_with("2026-11-21"), believed);
    }
}
