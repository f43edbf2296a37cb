//! A provisioning room with its two doors, a clock that is moved by hand, and devices with keys.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file takes what it needs")]

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use base64::{Engine, engine::general_purpose::STANDARD};
use ca::{DeploymentDomain, FileKeys, Hierarchy, pem};
use http::{HeaderMap, Request, StatusCode};
use model::{AdminActor, DeviceRef, DoorKey, Fingerprint, NodeId, Serial, TenantName, Timestamp};
use prov_server::{Config, Provisioning};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use registry::{CertificateEntry, Registry};
use runtime::{
    Clock, ManualClock, Tasks,
    http::{ConnectionInfo, Routes},
};
use rustls_pki_types::CertificateDer;
use store::{AuditRow, Store};
use tower::ServiceExt;

pub const START: Timestamp = Timestamp::from_secs(1_795_000_000);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const HOME: &str = "192.0.2.1:40000";

pub struct Scene {
    pub room: Arc<Provisioning>,
    pub store: Store,
    pub registry: Registry,
    pub hierarchy: Hierarchy,
    pub clock: ManualClock,
    pub time: Clock,
    pub tasks: Tasks,
    pub folder: Arc<tempfile::TempDir>,
    admin: Router,
    devices: Router,
}

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A device: its key, and what it asks with.
pub struct Device {
    pub key: KeyPair,
}

/// A request to the EST side of the device door.
pub struct Est {
    operation: &'static str,
    headers: BTreeMap<&'static str, String>,
    body: Vec<u8>,
    peer: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::at(folder, config, START).await
    }

    /// The room on a folder that may have been used before.
    pub async fn at(folder: Arc<tempfile::TempDir>, config: Config, now: Timestamp) -> Self {
        let store = Store::open(&folder.path().join("tcpmux.db")).await.unwrap();
        let (hierarchy, keys) = authority(folder.path());
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
        let (clock, hand) = Clock::manual(now);
        let tasks = Tasks::new();
        let room = Provisioning::start(
            config,
            store.clone(),
            registry.clone(),
            hierarchy.clone(),
            Arc::new(keys),
            clock.clone(),
            tasks.clone(),
        )
        .await
        .unwrap();
        let (admin, devices) = (router(room.admin_routes()), router(room.device_routes()));
        Self { room, store, registry, hierarchy, clock: hand, time: clock, tasks, folder, admin, devices }
    }

    /// Dies as if killed and starts again on the same folder.
    pub async fn restarted(self, config: Config) -> Self {
        let now = self.time.now();
        let folder = Arc::clone(&self.folder);
        self.tasks.end();
        drop(self);
        Self::at(folder, config, now).await
    }

    pub async fn admin(&self, method: &str, uri: &str, accept: &str, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("accept", accept);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(AdminActor::new(&DoorKey::cut(), "127.0.0.1".into()));
        answer(&self.admin, request).await
    }

    pub async fn json(&self, method: &str, uri: &str, body: &str) -> (StatusCode, serde_json::Value) {
        let answer = self.admin(method, uri, "application/json", body).await;
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// A new passcode; `query` as in `device=cam-01`.
    pub async fn passcode(&self, query: &str) -> String {
        let answer = self.admin("POST", &format!("/admin/api/otp?{query}"), "*/*", "").await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.text()
    }

    pub async fn send(&self, est: Est) -> Answer {
        answer(&self.devices, est.into_request()).await
    }

    pub async fn get(&self, uri: &str) -> Answer {
        answer(&self.devices, Request::get(uri).body(Body::empty()).unwrap()).await
    }

    pub async fn send_get(&self, uri: &str, name: &str, value: &str) -> Answer {
        answer(&self.devices, Request::get(uri).header(name, value).body(Body::empty()).unwrap()).await
    }

    /// Lets so much time pass that refused requests of a passcode are counted anew.
    pub async fn forget_refusals(&self) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(600)).await;
        tokio::time::resume();
    }

    /// A device with its first certificate.
    pub async fn enrolled(&self, name: &str) -> (Device, Vec<u8>) {
        let device = Device::new();
        let passcode = self.passcode(&format!("device={name}")).await;
        let answer = self.send(Est::enrol(&device.request(None), "", &passcode)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let leaf = answer.leaf();
        (device, leaf)
    }

    pub fn view(&self, leaf: &[u8]) -> Option<CertificateEntry> {
        self.registry.certificates().lookup(fingerprint(leaf))
    }

    pub async fn audit(&self) -> Vec<AuditRow> {
        self.store.audit(0, 10_000).await.unwrap()
    }

    /// How many audit rows have this action and outcome.
    pub async fn audited(&self, action: &str, outcome: &str) -> usize {
        self.audit().await.iter().filter(|row| row.action == action && row.outcome == outcome).count()
    }

    /// Every certificate row of the default tenant.
    pub async fn rows(&self) -> Vec<store::CertificateRow> {
        self.store.certificates(&TenantName::default(), 0, 1000).await.unwrap()
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The certificate of a successful enrolment that asked for PEM.
    pub fn leaf(&self) -> Vec<u8> {
        pem::decode(pem::CERTIFICATE, &self.text()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The stable word of an EST refusal.
    pub fn word(&self) -> String {
        self.text().split(':').next().unwrap().to_owned()
    }
}

impl Device {
    pub fn new() -> Self {
        Self { key: KeyPair::generate().unwrap() }
    }

    /// A request with a CN or without any name.
    pub fn request(&self, common_name: Option<&str>) -> Vec<u8> {
        self.request_naming(common_name, &[])
    }

    pub fn request_naming(&self, common_name: Option<&str>, dns_names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = dns_names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serialize_request(&self.key).unwrap().der().to_vec()
    }
}

impl Est {
    fn post(operation: &'static str, der: &[u8]) -> Self {
        let headers = BTreeMap::from([
            ("content-type", "application/pkcs10".to_owned()),
            ("accept", "application/x-pem-file".to_owned()),
        ]);
        let body = STANDARD.encode(der).into_bytes();
        Self { operation, headers, body, peer: HOME.parse().unwrap(), certificates: vec![] }
    }

    pub fn enrol(der: &[u8], user: &str, passcode: &str) -> Self {
        Self::post("simpleenroll", der)
            .header("authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{passcode}"))))
    }

    pub fn renew(der: &[u8], certificate: &[u8]) -> Self {
        Self::post("simplereenroll", der).showing(certificate)
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }

    pub fn to(mut self, operation: &'static str) -> Self {
        self.operation = operation;
        self
    }

    pub fn showing_nothing(mut self) -> Self {
        self.certificates.clear();
        self
    }

    pub fn showing(mut self, certificate: &[u8]) -> Self {
        self.certificates = vec![CertificateDer::from(certificate.to_vec())];
        self
    }

    fn into_request(self) -> Request<Body> {
        let mut request = Request::post(format!("/.well-known/est/{}", self.operation));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(Body::from(self.body)).unwrap();
        let info = ConnectionInfo { peer: self.peer, certificates: self.certificates.into(), alpn: None };
        request.extensions_mut().insert(info);
        request
    }
}

pub fn fingerprint(der: &[u8]) -> Fingerprint {
    ca::DeviceCertificate::read(der).unwrap().fingerprint()
}

pub fn device(name: &str) -> DeviceRef {
    DeviceRef::new(TenantName::default(), name.parse().unwrap())
}

fn authority(folder: &Path) -> (Hierarchy, FileKeys) {
    let dir = folder.join("ca");
    let domain = DeploymentDomain::from_random([1, 2, 3, 4, 5]);
    let serials = [1, 2, 3].map(|number| Serial::from_random(1, [number; 17]));
    // Made a month before the story begins.
    let hierarchy = Hierarchy::create(&dir, &domain, START.minus(DAY * 30), serials).unwrap();
    let keys = FileKeys::open(&dir).unwrap();
    (hierarchy, keys)
}

fn router(routes: Routes) -> Router {
    let routes = routes.into_routes();
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.spec.path, route.handler))
}

async fn answer(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Waits for a condition, and tells what it last saw.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> T, good: impl Fn(&T) -> bool)
where
    T: std::fmt::Debug,
{
    let mut seen = look().await;
    for _ in 0..2000 {
        if good(&seen) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        seen = look().await;
    }
    panic!("{what}: last seen {seen:?}");
}
