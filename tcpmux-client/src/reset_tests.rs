use runtime::Clock;
use rustls_pki_types::CertificateDer;

use crate::{
    DaemonConfig, HttpsError, ResetError, Services, StateDirectory, StateError,
    daemon_tests::Device,
    fake_cloud::FakeCloud,
    reset,
    test_pki::{ALWAYS, Pki},
};

/// What comes of a reset at a cloud that answers this.
async fn answered(answer: Option<(u16, &'static str)>) -> (Result<(), ResetError>, FakeCloud) {
    let pki = std::sync::Arc::new(Pki::new());
    let answers = Box::new(move |_: &_| answer.map(|(status, body)| (status, body.as_bytes().to_vec())));
    let cloud = FakeCloud::with(pki.clone(), &pki, &["localhost"], ALWAYS, answers).await;
    let device = Device::of(&cloud, &[]);
    (reset(&device.config, device.clock.clone()).await, cloud)
}

#[tokio::test]
async fn the_certificate_asks_and_nothing_else() {
    let (done, cloud) = answered(Some((204, ""))).await;
    done.unwrap();
    let heard = cloud.heard();
    let asked: Vec<_> =
        heard.iter().map(|heard| (heard.line.as_str(), heard.authorization.as_deref())).collect();
    assert_eq!(asked, [("POST /device/v1/reset", None)]);
    assert!(heard[0].client.as_ref().is_some_and(|shown: &CertificateDer<'_>| !shown.is_empty()));
}

#[tokio::test]
async fn every_no_says_what_can_be_done() {
    for (status, body, words) in [
        (403, r#"{"code": "TMX-4031", "detail": "no"}"#, "factory_reset"),
        (403, r#"{"code": "TMX-4030", "detail": "no"}"#, "enrol again"),
        (401, "", "enrol again"),
        (404, r#"{"code": "TMX-4005"}"#, "older version"),
        (503, r#"{"code": "TMX-5003", "detail": "the store is\u0007 away"}"#, "503: the store is away"),
        (500, "plain\ntext", "500: plain"),
        (200, "<html>", "200: <html>"),
    ] {
        let (outcome, _) = answered(Some((status, body))).await;
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains(words), "{status} {body}: {error}");
    }
}

#[tokio::test]
async fn a_cloud_that_is_away_changed_nothing_and_one_that_hung_up_may_have() {
    let (hung_up, _) = answered(None).await;
    let error = hung_up.unwrap_err();
    assert!(matches!(error, ResetError::Unanswered(HttpsError::Broken { .. })), "{error}");
    assert!(error.to_string().contains("run it again"), "{error}");

    let cloud = FakeCloud::start().await;
    let mut device = Device::of(&cloud, &[]);
    device.config.server = Some("localhost:1".parse().unwrap());
    let error = reset(&device.config, device.clock.clone()).await.unwrap_err();
    assert!(matches!(error, ResetError::Unreachable(HttpsError::Dial(_))), "{error}");
    assert!(error.to_string().contains("nothing was changed"), "{error}");
}

#[tokio::test]
async fn a_stranger_in_place_of_the_cloud_is_asked_nothing() {
    let pki = std::sync::Arc::new(Pki::new());
    let answers = Box::new(|_: &_| Some((204, vec![])));
    let stranger = FakeCloud::with(pki.clone(), &Pki::new(), &["localhost"], ALWAYS, answers).await;
    let device = Device::of(&stranger, &[]);
    let error = reset(&device.config, device.clock.clone()).await.unwrap_err();
    assert!(matches!(error, ResetError::Unreachable(HttpsError::Tls { .. })), "{error}");
    assert_eq!(stranger.lines(), [""; 0]);
}

#[tokio::test]
async fn a_device_that_is_not_enrolled_is_told_so() {
    let empty = tempfile::tempdir().unwrap();
    let services = Services::new(&[], false, None).unwrap();
    let config = DaemonConfig::new(StateDirectory::at(empty.path()), services);
    let error = reset(&config, Clock::system()).await.unwrap_err();
    assert!(matches!(error, ResetError::State(StateError::NotEnrolled(_))), "{error}");
}
