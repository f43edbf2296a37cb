//! A sign-in provider on loopback, and a gateway that believes it.

use std::{
    future::{Ready, ready},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    routing::get,
};
use http::{HeaderMap, HeaderName, Request, header::AUTHORIZATION};
use model::{
    Actor, AdminActor, DeviceActor, DeviceRef, DoorKey, NodeId, PasscodeDigest, Secret, Serial,
    SubscriberActor, TenantName, Timestamp, UserActor,
};
use registry::Registry;
use runtime::{
    Clock, ManualClock, Tasks,
    http::{Caller, ConnectionInfo, Routes, ServeOptions, serve_connection},
    jose::SigningKey,
};
use serde_json::{Value, json};
use store::{Intent, IssuerName, NewPasscode, Redemption, RedemptionRequest, Store, Subject};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::{
    AdminKey, Config, DeviceGuard, Endpoints, Gateway, ProviderConfig, SignInConfig, StartError, TenantRule,
};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const OURS: &str = "https://cloud.example.com";
pub(crate) const ADMIN_KEY: &str = "the-admin-key";

/// A provider that signs what it is asked to.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) key: SigningKey,
}

impl Provider {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate().unwrap();
        let about = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let keys = json!({"keys": [key.public_jwk()]});
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || ready(Json(about.clone()))))
            .route("/keys", get(move || ready(Json(keys.clone()))));
        let serving = tasks.clone();
        tasks.spawn(async move {
            loop {
                let (socket, peer) = listener.accept().await.unwrap();
                let router = router.clone();
                let info = ConnectionInfo { peer, certificates: Arc::new([]), alpn: None };
                let answer = move |request: Request<_>| {
                    let router = router.clone();
                    async move { router.oneshot(request).await.unwrap() }
                };
                serve_connection(socket, info, ServeOptions::default(), &serving, answer).await;
            }
        });
        Self { issuer, key }
    }

    /// A good token for this subject, changed as wished.
    pub(crate) fn token(&self, subject: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut body = json!({
            "iss": self.issuer, "sub": subject, "aud": "tcpmux", "iat": NOW.secs(), "exp": NOW.secs() + 3600,
            "email": format!("{subject}@example.com"), "org": "acme",
        });
        change(&mut body);
        self.key.sign("JWT", &body).unwrap()
    }

    pub(crate) fn config(&self, tenant: TenantRule) -> ProviderConfig {
        ProviderConfig {
            issuer: self.issuer.clone(),
            audience: "tcpmux".into(),
            tenant,
            ca: None,
            sign_in: SignInConfig::default(),
        }
    }
}

/// A gateway with one provider, on a store in a file.
pub(crate) struct House {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) provider: Provider,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) hand: ManualClock,
    pub(crate) folder: tempfile::TempDir,
    clock: Clock,
    tasks: Tasks,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(TenantRule::Fixed("default".parse().unwrap())).await
    }

    pub(crate) async fn with(tenant: TenantRule) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tcpmux.db")).await.unwrap();
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
        let (clock, hand) = Clock::manual(NOW);
        let tasks = Tasks::new();
        let provider = Provider::start(&tasks).await;
        let config = config(folder.path().join("authorizer.key"), vec![provider.config(tenant)], None);
        let started = start(config, &store, &registry, &clock, &tasks).await;
        let gateway = started.unwrap();
        Self { gateway, provider, store, registry, hand, folder, clock, tasks }
    }

    /// The same data, started again with an empty registry.
    pub(crate) async fn restarted(self) -> Self {
        let registry = Registry::in_process(NodeId::from_random([2; 16]), 2);
        let provider = self.provider.config(TenantRule::Fixed("default".parse().unwrap()));
        let config = config(self.folder.path().join("authorizer.key"), vec![provider], None);
        let gateway = start(config, &self.store, &registry, &self.clock, &self.tasks).await.unwrap();
        Self { gateway, registry, ..self }
    }

    pub(crate) fn user_door(&self) -> Router {
        self.gateway.mount(self.gateway.user_routes().merge(echo_routes()))
    }

    pub(crate) fn admin_door(&self) -> Router {
        self.gateway.mount(self.gateway.admin_routes().merge(echo_routes()))
    }

    /// `POST /v1/token` as this person; the answer's body.
    pub(crate) async fn token(&self, credential: &str, body: &str) -> (u16, Value) {
        let request = Request::post("/v1/token").header(AUTHORIZATION, format!("Bearer {credential}"));
        let (status, _, body) =
            send(self.user_door(), request.body(Body::from(body.to_owned())).unwrap()).await;
        (status, body)
    }
}

pub(crate) fn config(
    key_file: PathBuf,
    providers: Vec<ProviderConfig>,
    devices: Option<DeviceGuard>,
) -> Config {
    Config {
        issuer: OURS.into(),
        providers,
        key_file,
        admin_key: AdminKey::new(Secret::new(ADMIN_KEY.into())),
        devices,
        device_token: Duration::from_secs(900),
        endpoints: Endpoints {
            version: "1.2.3".into(),
            ca_fingerprint: Some(format!("sha256:{}", "0".repeat(64))),
            user: OURS.into(),
            device: "cloud.example.com:7443".into(),
            device_domain: None,
        },
    }
}

pub(crate) async fn start(
    config: Config,
    store: &Store,
    registry: &Registry,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<Arc<Gateway>, StartError> {
    Gateway::start(config, store.clone(), registry.clone(), clock.clone(), tasks, DoorKey::cut()).await
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> (u16, HeaderMap, Value) {
    let answer = tokio::time::timeout(Duration::from_secs(20), router.oneshot(request)).await;
    let (parts, body) = answer.expect("an answer in time").unwrap().into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (parts.status.as_u16(), parts.headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A device with an active certificate, as enrolment leaves it.
pub(crate) async fn enrolled(store: &Store, id: &str) -> DeviceRef {
    let device = DeviceRef::new(TenantName::default(), id.parse().unwrap());
    let seed: [u8; 32] = runtime::random::bytes();
    let passcode = NewPasscode {
        id: format!("pc_{}", model::hex(&seed[..8])),
        digest: PasscodeDigest(seed),
        tenant: device.tenant.clone(),
        device: Some(device.device.clone()),
        expires_at: NOW.plus(Duration::from_secs(60)),
    };
    store.add_passcode(passcode, &Actor::System, NOW).await.unwrap();
    let mut serial = [1; 17];
    serial.copy_from_slice(&seed[..17]);
    let intent = Intent {
        serial: Serial::from_random(1, serial),
        issuer: IssuerName::Devices,
        subject: Subject::Device(device.clone()),
        spki_sha256: seed,
        tbs: vec![1],
        not_before: NOW,
        not_after: NOW.plus(Duration::from_secs(90 * 86_400)),
        idempotency: seed,
    };
    let digest = PasscodeDigest(seed);
    let window = Duration::from_secs(60);
    let request = RedemptionRequest { digest, intent, window, source: "127.0.0.1".into() };
    let redeemed = store.redeem_passcode(request, NOW).await.unwrap();
    assert!(matches!(redeemed, Redemption::Intended(_)), "{redeemed:?}");
    device
}

/// One route a caller; each tells which actor and which headers it sees.
pub(crate) fn echo_routes() -> Routes {
    Routes::new()
        .get("/echo/admin", Caller::Admin, echo)
        .get("/echo/user", Caller::User, echo)
        .get("/echo/device", Caller::Device, echo)
        .get("/echo/certificate", Caller::DeviceCertificate, echo)
        .get("/echo/anyone", Caller::Anyone, echo)
        .get("/echo/passcode", Caller::Passcode, echo)
        .get("/echo/proxy", Caller::ProxyToken, echo)
        .get("/echo/subscriber", Caller::Subscriber, echo)
        .get("/echo/ticket", Caller::Ticket, echo)
}

fn echo(request: Request<Body>) -> Ready<Json<Value>> {
    let extensions = request.extensions();
    let headers: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    ready(Json(json!({
        "user": extensions.get::<UserActor>().map(UserActor::subject),
        "admin": extensions.get::<AdminActor>().map(AdminActor::source),
        "device": extensions.get::<DeviceActor>().map(|actor| actor.device().to_string()),
        "subscriber": extensions.get::<SubscriberActor>().map(|actor| json!({
            "devices": actor.devices().map(|devices| devices.keys().map(ToString::to_string).collect::<Vec<_>>()),
            "until": actor.until().secs(),
        })),
        "address": request.uri().to_string(),
        "headers": headers,
    })))
}
