use std::net::SocketAddr;

use axum::body::Body;
use http::Request;
use model::CertificateStatus;
use serde_json::{Value, json};

use super::*;
use crate::testing::{ADMIN_KEY, House, echo_routes, send};

fn get(path: &str, authorization: &str) -> Request<Body> {
    let request = Request::get(path).header("cookie", "a=b").header("x-other", "1");
    let mut request = request.body(Body::empty()).unwrap();
    if !authorization.is_empty() {
        request.headers_mut().insert(AUTHORIZATION, authorization.parse().unwrap());
    }
    let peer: SocketAddr = "192.0.2.7:5".parse().unwrap();
    request.extensions_mut().insert(ConnectionInfo { peer, certificates: Arc::new([]), alpn: None });
    request
}

#[tokio::test]
async fn every_caller_needs_its_own_proof() {
    let house = House::new().await;
    let door = house.user_door();
    let user = format!("Bearer {}", house.provider.token("alice", |_| ()));
    let admin = format!("PROV-ADMIN {ADMIN_KEY}");
    let forged = format!("{}AAAA", &user[..user.len() - 4]);
    for (path, authorization, status, challenge) in [
        ("/echo/user", user.as_str(), 200, None),
        ("/echo/user", "", 401, Some(r#"Bearer realm="tcpmux""#)),
        ("/echo/user", &admin, 401, Some(r#"Bearer realm="tcpmux", error="invalid_token""#)),
        ("/echo/user", &forged, 401, Some(r#"Bearer realm="tcpmux", error="invalid_token""#)),
        ("/echo/admin", &admin, 200, None),
        ("/echo/admin", "", 401, Some("PROV-ADMIN")),
        ("/echo/admin", &user, 401, Some("PROV-ADMIN")),
        ("/echo/device", &user, 403, None),
        ("/echo/device", &admin, 403, None),
        ("/echo/anyone", "", 200, None),
        ("/v1/token", &user, 405, None),
        ("/admin/api/tokens", &admin, 404, None),
        ("/nothing", &user, 404, None),
    ] {
        let (code, headers, body) = send(door.clone(), get(path, authorization)).await;
        assert_eq!(code, status, "{path} {body}");
        assert_eq!(headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap()), challenge, "{path}");
        if status >= 400 {
            assert_eq!(headers["content-type"], "application/problem+json", "{path}");
        }
    }
}

#[tokio::test]
async fn a_handler_sees_the_actor_and_never_the_credential() {
    let house = House::new().await;
    let user = format!("Bearer {}", house.provider.token("alice", |_| ()));
    let admin = format!("PROV-ADMIN {ADMIN_KEY}");
    for (path, authorization, actor, value) in [
        ("/echo/user", &user, "user", "alice"),
        ("/echo/admin", &admin, "admin", "192.0.2.7:5"),
        ("/echo/anyone", &admin, "", ""),
    ] {
        let (_, _, seen) = send(house.user_door(), get(path, authorization)).await;
        assert_eq!(seen["headers"], json!(["x-other"]), "{path}");
        for kind in ["user", "admin", "device"] {
            let expected = if kind == actor { json!(value) } else { Value::Null };
            assert_eq!(seen[kind], expected, "{path} {kind}");
        }
    }
    for path in ["/echo/passcode", "/echo/proxy"] {
        let (_, _, seen) = send(house.user_door(), get(path, &user)).await;
        assert!(
            seen["headers"].as_array().unwrap().contains(&json!("authorization")),
            "control: {path} reads it itself"
        );
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones_and_head_follows_get() {
    let house = House::new().await;
    let request =
        |method: &str, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let (status, headers, _) = send(house.user_door(), request("DELETE", "/v1/token")).await;
    assert_eq!((status, headers["allow"].to_str().unwrap()), (405, "POST"));
    let (status, _, body) = send(house.user_door(), request("HEAD", "/.well-known/jwks.json")).await;
    assert_eq!((status, body), (200, json!("")));
    assert_eq!(send(house.user_door(), request("HEAD", "/echo/user")).await.0, 401);
}

#[tokio::test]
async fn guesses_at_the_admin_key_are_limited_per_source() {
    let house = House::new().await;
    let door = house.admin_door();
    let mut last = 0;
    for _ in 0..30 {
        last = send(door.clone(), get("/echo/admin", "PROV-ADMIN guess")).await.0;
    }
    assert_eq!(last, 429);
    let mut elsewhere = get("/echo/admin", "PROV-ADMIN guess");
    let peer = "192.0.2.8:5".parse().unwrap();
    elsewhere.extensions_mut().insert(ConnectionInfo { peer, certificates: Arc::new([]), alpn: None });
    assert_eq!(send(door.clone(), elsewhere).await.0, 401, "another source does not pay");
    let (status, _, body) = send(door, get("/echo/admin", &format!("PROV-ADMIN {ADMIN_KEY}"))).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_process_without_people_lets_none_in() {
    let guards =
        Guards::new(AdminKey::new(model::Secret::new("k".into())), None, Clock::system(), DoorKey::cut());
    let door = guards.mount(echo_routes());
    assert_eq!(send(door.clone(), get("/echo/user", "Bearer x")).await.0, 401);
    assert_eq!(send(door.clone(), get("/echo/device", "")).await.0, 403);
    assert_eq!(send(door, get("/echo/admin", "Bearer k")).await.0, 200, "control");
}

mod devices {
    use ca::DeploymentDomain;
    use model::{DeviceRef, Fingerprint, Timestamp};
    use registry::{CertificateEntry, CertificateView};
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::{test_authority::Authority, testing::NOW};

    const DOMAIN: &str = "abcd2345.tcpmux.internal";

    struct Case {
        view: Arc<CertificateView>,
        door: Router,
        leaf: CertificateDer<'static>,
    }

    impl Case {
        fn new() -> Self {
            let authority = Authority::new();
            let leaf = authority.device("cam-01", &format!("cam-01.default.device.{DOMAIN}"));
            let domain: DeploymentDomain = DOMAIN.parse().unwrap();
            let view = Arc::new(CertificateView::default());
            let guard = DeviceGuard::new(ca::DeviceNaming::Deployment(domain), view.clone());
            let admin = AdminKey::new(model::Secret::new("k".into()));
            let guards = Guards::new(admin, Some(guard), Clock::manual(NOW).0, DoorKey::cut());
            Self { view, door: guards.mount(echo_routes()), leaf }
        }

        fn put(&self, status: CertificateStatus) {
            self.put_as("default", "cam-01", status);
        }

        /// As if the certificate were this device's.
        fn put_as(&self, tenant: &str, device: &str, status: CertificateStatus) {
            let fingerprint = ca::DeviceCertificate::read(&self.leaf).unwrap().fingerprint();
            let device = DeviceRef::new(tenant.parse().unwrap(), device.parse().unwrap());
            let not_after = Timestamp::from_secs(NOW.secs() + 1000);
            self.view.put(CertificateEntry { fingerprint, device, status, not_after, used: true });
        }

        async fn call(&self, certificates: &[CertificateDer<'static>]) -> (u16, Value) {
            let mut request = get("/echo/device", "");
            let peer = "192.0.2.7:5".parse().unwrap();
            let certificates = certificates.iter().cloned().collect();
            request.extensions_mut().insert(ConnectionInfo { peer, certificates, alpn: None });
            let (status, _, body) = send(self.door.clone(), request).await;
            (status, body)
        }
    }

    #[tokio::test]
    async fn a_device_is_who_its_admitted_certificate_names() {
        let case = Case::new();
        let leaf = case.leaf.clone();
        assert_eq!(case.call(&[]).await.0, 401);
        assert_eq!(case.call(std::slice::from_ref(&leaf)).await.0, 403, "not in the registry");
        case.put(CertificateStatus::Active);
        let (status, seen) = case.call(std::slice::from_ref(&leaf)).await;
        assert_eq!((status, &seen["device"]), (200, &json!("default/cam-01")));
        for status in [CertificateStatus::Retired, CertificateStatus::Revoked] {
            case.put(status);
            assert_eq!(case.call(std::slice::from_ref(&leaf)).await.0, 403, "{status:?}");
        }
        let junk = CertificateDer::from(vec![0x30, 0]);
        assert_eq!(case.call(&[junk, leaf]).await.0, 403, "the leaf is the first one");
        assert!(case.view.lookup(Fingerprint([0; 32])).is_none());
    }
    #[tokio::test]
    async fn a_row_of_a_device_with_a_similar_name_admits_nobody() {
        for (tenant, device) in [
            ("default", "cam-0"),
            ("default", "cam-011"),
            ("default", "xcam-01"),
            ("default", "am-01"),
            ("defaul", "cam-01"),
            ("default2", "cam-01"),
        ] {
            let case = Case::new();
            case.put_as(tenant, device, CertificateStatus::Active);
            let (status, seen) = case.call(std::slice::from_ref(&case.leaf)).await;
            assert_eq!(status, 403, "{tenant}/{device}: {seen}");
        }
        let case = Case::new();
        case.put_as("default", "cam-01", CertificateStatus::Active);
        assert_eq!(case.call(std::slice::from_ref(&case.leaf)).await.0, 200, "control");
    }
}
