//! Device tokens: whose they are, how long, and what else ends them.

use axum::{Router, body::Body};
use ca::{DeploymentDomain, DeviceNaming};
use http::{Request, header::AUTHORIZATION};
use model::{NodeId, TenantName};
use registry::CertificateEntry;
use runtime::{
    ManualClock,
    http::ConnectionInfo,
    jose::{SigningKey, verify},
};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use store::Store;

use super::*;
use crate::{
    AdminKey, DeviceGuard, Guards,
    test_authority::Authority,
    testing::{NOW, OURS, echo_routes, send},
};

const DOMAIN: &str = "abcd2345.tcpmux.internal";
const LIFE: Duration = Duration::from_secs(900);

/// A device door, and two devices that are connected to it.
struct Scene {
    tokens: Arc<DeviceTokens>,
    authorizer: Arc<Authorizer>,
    registry: Registry,
    hand: ManualClock,
    door: Router,
    leaves: [CertificateDer<'static>; 2],
    sessions: [SessionRecord; 2],
}

impl Scene {
    async fn new() -> Self {
        let store = Store::in_memory().await.unwrap();
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
        let (clock, hand) = Clock::manual(NOW);
        let keys = vec![SigningKey::generate().unwrap()];
        let authorizer = Arc::new(Authorizer::new(OURS.into(), keys, store, clock.clone()).unwrap());
        let gateway = "cloud.example.com:7443";
        let tokens =
            DeviceTokens::new(Arc::clone(&authorizer), registry.clone(), clock.clone(), LIFE, gateway);
        let tokens = Arc::new(tokens);
        let domain: DeploymentDomain = DOMAIN.parse().unwrap();
        let view: Arc<dyn registry::Admission> = registry.certificates().clone();
        let guard = DeviceGuard::new(DeviceNaming::Deployment(domain), view).with_tokens(Arc::clone(&tokens));
        let admin = AdminKey::new(Secret::new("k".into()));
        let door = Guards::new(admin, Some(guard), clock, DoorKey::cut()).mount(echo_routes());
        let authority = Authority::new();
        let leaves =
            ["cam-01", "cam-02"].map(|id| authority.device(id, &format!("{id}.default.device.{DOMAIN}")));
        let mut sessions = vec![];
        for (leaf, id) in leaves.iter().zip(["cam-01", "cam-02"]) {
            let fingerprint = ca::DeviceCertificate::read(leaf).unwrap().fingerprint();
            let device = DeviceRef::new(TenantName::default(), id.parse().unwrap());
            sessions.push(connect(&registry, device, fingerprint).await);
        }
        let scene =
            Self { tokens, authorizer, registry, hand, door, leaves, sessions: sessions.try_into().unwrap() };
        scene.put(0, CertificateStatus::Active);
        scene.put(1, CertificateStatus::Active);
        scene
    }

    fn put(&self, number: usize, status: CertificateStatus) {
        let session = &self.sessions[number];
        let not_after = NOW.plus(Duration::from_secs(86_400));
        let (device, fingerprint) = (session.device.clone(), session.certificate);
        self.registry.certificates().put(CertificateEntry {
            fingerprint,
            device,
            status,
            not_after,
            used: true,
        });
    }

    fn token(&self, number: usize) -> String {
        self.tokens.mint(&self.sessions[number]).unwrap().token.expose().clone()
    }

    async fn call(&self, token: &str) -> (u16, Value) {
        self.call_showing(token, &[]).await
    }

    async fn call_showing(&self, token: &str, certificates: &[CertificateDer<'static>]) -> (u16, Value) {
        self.call_at("/echo/device", token, certificates).await
    }

    async fn call_at(
        &self,
        path: &str,
        token: &str,
        certificates: &[CertificateDer<'static>],
    ) -> (u16, Value) {
        let request = Request::get(path).header(AUTHORIZATION, format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).unwrap();
        let certificates = certificates.iter().cloned().collect();
        let peer = "192.0.2.7:5".parse().unwrap();
        request.extensions_mut().insert(ConnectionInfo { peer, certificates, alpn: None });
        let (status, _, body) = send(self.door.clone(), request).await;
        (status, body)
    }
}

async fn connect(registry: &Registry, device: DeviceRef, certificate: Fingerprint) -> SessionRecord {
    let record = SessionRecord {
        device: device.clone(),
        session: SessionId::from_random(runtime::random::bytes()),
        generation: Generation(0),
        node: registry.node().clone(),
        certificate,
        boot_id: "boot".into(),
        claim_digest: None,
        services: vec![],
        viewer_websockets: vec![],
        since: NOW,
        verified_at: NOW,
    };
    registry.connect(record).await;
    registry.lookup(&device).await.unwrap()
}

#[tokio::test]
async fn a_token_is_its_devices_until_its_end_and_is_gone_from_the_request() {
    let scene = Scene::new().await;
    let minted = scene.tokens.mint(&scene.sessions[0]).unwrap();
    assert_eq!(minted.expires_at, NOW.plus(LIFE));
    assert_eq!(minted.gateway, "https://cloud.example.com:7443");
    let token = minted.token.expose();
    let (status, seen) = scene.call(token).await;
    assert_eq!((status, &seen["device"], &seen["headers"]), (200, &json!("default/cam-01"), &json!([])));
    assert_eq!(scene.call(&scene.token(1)).await.1["device"], "default/cam-02");
    scene.hand.advance(LIFE + LEEWAY - Duration::from_millis(1));
    assert_eq!(scene.call(token).await.0, 200);
    scene.hand.advance(Duration::from_millis(1));
    let (status, problem) = scene.call(token).await;
    assert_eq!((status, &problem["code"]), (401, &json!("TMX-4002")));
    assert_eq!(scene.call(&scene.token(0)).await.0, 200, "a newer one is good");
}

#[tokio::test]
async fn a_revoked_certificate_takes_its_tokens_along_at_once() {
    let scene = Scene::new().await;
    let token = scene.token(0);
    assert_eq!(scene.call(&token).await.0, 200, "control");
    scene.put(0, CertificateStatus::Revoked);
    assert_eq!(scene.call(&token).await.0, 403);
    assert!(scene.registry.lookup(&scene.sessions[0].device).await.is_some(), "its session is not gone yet");
    assert_eq!(scene.call(&scene.token(1)).await.0, 200, "another device is not touched");
}

#[tokio::test]
async fn a_succeeded_certificate_carries_its_token_while_its_session_stands_and_no_longer() {
    let scene = Scene::new().await;
    let (token, session) = (scene.token(0), &scene.sessions[0]);
    scene.put(0, CertificateStatus::Retired);
    assert_eq!(scene.call(&token).await.0, 200);
    connect(&scene.registry, session.device.clone(), Fingerprint([9; 32])).await;
    assert_eq!(scene.call(&token).await.0, 403);
}

#[tokio::test]
async fn a_device_that_is_away_for_a_moment_still_reports() {
    let scene = Scene::new().await;
    let (token, session) = (scene.token(0), &scene.sessions[0]);
    assert!(scene.registry.disconnect(&session.device, session.generation).await);
    assert_eq!(scene.call(&token).await.0, 200);
    scene.registry.certificates().forget_expired(NOW.plus(Duration::from_secs(90_000)));
    assert_eq!(scene.call(&token).await.0, 403, "a certificate that nobody knows carries nothing");
}

#[tokio::test]
async fn the_token_of_one_device_is_no_good_beside_the_certificate_of_another() {
    let scene = Scene::new().await;
    let [own, other] = &scene.leaves;
    let token = scene.token(0);
    assert_eq!(scene.call_showing(&token, std::slice::from_ref(own)).await.0, 200, "control");
    assert_eq!(scene.call_showing(&token, std::slice::from_ref(other)).await.0, 403);
    let (status, _) = scene.call_showing("rubbish", std::slice::from_ref(own)).await;
    assert_eq!(status, 401, "a bad token is not mended by a good certificate");
}

#[tokio::test]
async fn what_only_a_certificate_may_do_no_token_may() {
    let scene = Scene::new().await;
    let [own, other] = &scene.leaves;
    let token = scene.token(0);
    let at = async |certificates: &[CertificateDer<'static>]| {
        scene.call_at("/echo/certificate", &token, certificates).await
    };
    let (status, refused) = at(&[]).await;
    assert_eq!((status, &refused["code"]), (401, &json!("TMX-4001")));
    assert_eq!(scene.call(&token).await.0, 200, "control: the token is good");
    let (status, seen) = at(std::slice::from_ref(own)).await;
    assert_eq!((status, &seen["device"], &seen["headers"]), (200, &json!("default/cam-01"), &json!([])));
    let (_, seen) = at(std::slice::from_ref(other)).await;
    assert_eq!(seen["device"], "default/cam-02", "the certificate says who, whatever the token says");
    scene.put(0, CertificateStatus::Retired);
    assert_eq!(at(std::slice::from_ref(own)).await.0, 403, "a succeeded certificate does not");
}

#[tokio::test]
async fn no_other_token_of_the_same_signer_is_a_device_token_and_a_device_token_is_no_other() {
    let scene = Scene::new().await;
    let session = &scene.sessions[0];
    let good = json!({
        "iss": OURS, "aud": DEVICE_AUDIENCE, "sub": "cam-01", "tenant": "default", "sid": session.session,
        "generation": session.generation, "certificate": session.certificate, "iat": NOW.secs(),
        "exp": NOW.secs() + 60, "jti": "1",
    });
    let signed = |typ: &str, member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        scene.authorizer.sign(typ, &body).unwrap()
    };
    assert_eq!(scene.call(&signed(TYP, "jti", json!("2"))).await.0, 200, "control");
    for (typ, member, value) in [
        ("at+jwt", "jti", json!("2")),
        ("JWT", "jti", json!("2")),
        (TYP, "aud", json!("tcpmux:proxy")),
        (TYP, "iss", json!("https://elsewhere")),
        (TYP, "sub", json!("Not A Device")),
        (TYP, "tenant", Value::Null),
        (TYP, "generation", json!("1")),
        (TYP, "certificate", json!("00")),
        (TYP, "exp", json!(NOW.secs() - 60)),
        (TYP, "iat", json!(NOW.secs() + 60)),
    ] {
        assert_eq!(scene.call(&signed(typ, member, value.clone())).await.0, 401, "{typ} {member} {value}");
    }
    let elsewhere = json!("0".repeat(64));
    assert_eq!(scene.call(&signed(TYP, "certificate", elsewhere)).await.0, 403);
    assert_eq!(scene.call(&signed(TYP, "sub", json!("cam-02"))).await.0, 403, "another device's certificate");
    assert_eq!(scene.call(&signed(TYP, "tenant", json!("acme"))).await.0, 403, "another tenant");

    let at_the_proxy = Expectations {
        issuer: OURS,
        audience: crate::AUDIENCE,
        typ: TypRule::AccessToken,
        now: NOW,
        leeway: Duration::ZERO,
    };
    let refused = verify(&scene.token(0), scene.authorizer.keys(), &at_the_proxy);
    assert_eq!(refused.unwrap_err(), TokenError::Typ);
    let stranger = SigningKey::generate().unwrap().sign(TYP, &good).unwrap();
    assert_eq!(scene.call(&stranger).await.0, 401, "a stranger's key");
}
