//! The room with its surroundings, for tests.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
};
use http::Request;
use model::{
    Actor, AdminActor, ClaimDigest, Code, DeviceActor, DeviceRef, DoorKey, Fingerprint, Generation, Grant,
    Level, NodeId, PasscodeDigest, Refusal, RevocationReason, Serial, ServiceSet, SessionId, TenantName,
    Timestamp, UserActor, UserId,
};
use registry::{Registry, SessionRecord};
use runtime::{Clock, ManualClock, Tasks, http::Routes};
use serde_json::Value;
use store::{Intent, IssuerName, NewPasscode, Redemption, RedemptionRequest, Store, Subject};
use tower::ServiceExt;

use crate::{
    ClientApi, DeviceRemoval, FactoryReset, Outlets, Parts, ReportRates,
    fake_devices::FakeDevices,
    notifications::testing::{Receiver, outlets},
};

/// The room on a store in memory, with a removal that notes what it was asked.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) api: ClientApi,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) time: ManualClock,
    clock: Clock,
    pub(crate) devices: Arc<FakeDevices>,
    factory_reset: FactoryReset,
}

pub(crate) struct Revoked {
    store: Store,
    pub(crate) devices: Mutex<Vec<DeviceRef>>,
    pub(crate) fails: AtomicBool,
}

impl DeviceRemoval for Revoked {
    fn revoke_all<'a>(
        &'a self,
        device: &'a DeviceRef,
        by: &'a Actor,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            if self.fails.load(Ordering::SeqCst) {
                return Err(Refusal::new(Code::Unavailable, "not now"));
            }
            self.store.revoke_device(device, RevocationReason::CessationOfOperation, by, NOW).await.unwrap();
            self.devices.lock().unwrap().push(device.clone());
            Ok(())
        })
    }
}

/// An answer, as far as tests look.
#[derive(Debug, PartialEq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) tag: Option<String>,
    pub(crate) body: Value,
}

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

impl Room {
    pub(crate) async fn new() -> Self {
        Self::with(FactoryReset::Owner).await
    }

    pub(crate) async fn with(factory_reset: FactoryReset) -> Self {
        Self::fresh(factory_reset, None).await
    }

    /// With this push service.
    pub(crate) async fn with_push(push: Option<&Receiver>) -> Self {
        Self::fresh(FactoryReset::Owner, push).await
    }

    async fn fresh(factory_reset: FactoryReset, push: Option<&Receiver>) -> Self {
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
        let store = Store::in_memory().await.unwrap();
        Self::on(store, registry, Arc::default(), factory_reset, push)
    }

    /// The room as the next process finds it.
    pub(crate) fn again(&self) -> Self {
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 2);
        Self::on(self.store.clone(), registry, Arc::default(), FactoryReset::Owner, None)
    }

    /// Another room beside tunnels that stand.
    pub(crate) fn beside(&self) -> Self {
        let (registry, devices) = (self.registry.clone(), Arc::clone(&self.devices));
        Self::on(self.store.clone(), registry, devices, FactoryReset::Owner, None)
    }

    fn on(
        store: Store,
        registry: Registry,
        devices: Arc<FakeDevices>,
        factory_reset: FactoryReset,
        push: Option<&Receiver>,
    ) -> Self {
        let revoked = Arc::new(Revoked {
            store: store.clone(),
            devices: Mutex::default(),
            fails: AtomicBool::new(false),
        });
        let (clock, time) = Clock::manual(NOW);
        let api = start(&store, &registry, &clock, &revoked, outlets(push), &devices, factory_reset);
        Self { api, store, registry, revoked, devices, factory_reset, clock, time }
    }

    /// The same room started once more, as by a second process.
    pub(crate) fn another(&self) -> ClientApi {
        let Self { store, registry, clock, revoked, devices, .. } = self;
        start(store, registry, clock, revoked, outlets(None), devices, self.factory_reset)
    }

    pub(crate) async fn user(&self, tenant: &str, subject: &str) -> UserActor {
        let tenant: TenantName = tenant.parse().unwrap();
        let fresh = UserId::from_random(runtime::random::bytes());
        let row =
            self.store.find_or_create_user(&tenant, "https://idp", subject, None, fresh, NOW).await.unwrap();
        UserActor::new(
            &DoorKey::cut(),
            row.id,
            tenant,
            "https://idp".into(),
            subject.into(),
            Some("a@x".into()),
        )
    }

    pub(crate) async fn device(&self, tenant: &str, id: &str) -> DeviceRef {
        let device = device(tenant, id);
        enrolled(&self.store, &device).await;
        device
    }

    pub(crate) async fn grant(&self, device: &DeviceRef, user: &UserActor, grant: Grant) {
        let put =
            self.store.put_grant(&device.tenant, &device.device, user.user(), grant, &Actor::System, NOW);
        put.await.unwrap();
    }

    pub(crate) async fn connect(&self, device: &DeviceRef, services: &[&str]) {
        self.registry.connect(self.record(device, services)).await;
    }

    /// The device showed this code when it connected.
    pub(crate) async fn connect_showing(&self, device: &DeviceRef, claim_digest: Option<ClaimDigest>) {
        self.registry.connect(SessionRecord { claim_digest, ..self.record(device, &[]) }).await;
    }

    fn record(&self, device: &DeviceRef, services: &[&str]) -> SessionRecord {
        SessionRecord {
            device: device.clone(),
            session: SessionId::from_random([1; 16]),
            generation: Generation(0),
            node: self.registry.node().clone(),
            certificate: Fingerprint([3; 32]),
            boot_id: "boot".into(),
            services: services.iter().map(|name| name.parse().unwrap()).collect(),
            viewer_websockets: vec![],
            claim_digest: None,
            since: NOW,
            verified_at: NOW,
        }
    }

    pub(crate) async fn as_user(&self, user: &UserActor, path: &str) -> (u16, Value) {
        send(router(self.api.user_routes()).layer(Extension(user.clone())), "GET", path, "").await
    }

    pub(crate) async fn by_user(
        &self,
        user: &UserActor,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        send(router(self.api.user_routes()).layer(Extension(user.clone())), method, path, body).await
    }

    /// A call of a person, with header fields and a body; the answer whole.
    pub(crate) async fn asked(
        &self,
        user: &UserActor,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let router = router(self.api.user_routes()).layer(Extension(user.clone()));
        let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answered { status, tag, body }
    }

    pub(crate) async fn as_device(
        &self,
        device: &DeviceRef,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let actor = DeviceActor::new(&DoorKey::cut(), device.clone(), Fingerprint([3; 32]));
        send(router(self.api.device_routes()).layer(Extension(actor)), method, path, body).await
    }

    pub(crate) async fn as_admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let admin = AdminActor::new(&DoorKey::cut(), "127.0.0.1:5".into());
        send(router(self.api.admin_routes()).layer(Extension(admin)), method, path, body).await
    }

    pub(crate) async fn audited(&self) -> Vec<(String, String)> {
        let rows = self.store.audit(0, 100).await.unwrap();
        rows.into_iter()
            .filter(|row| row.actor == "admin@127.0.0.1:5")
            .map(|row| (row.action, row.object))
            .collect()
    }
}

fn start(
    store: &Store,
    registry: &Registry,
    clock: &Clock,
    revoked: &Arc<Revoked>,
    outlets: Outlets,
    devices: &Arc<FakeDevices>,
    factory_reset: FactoryReset,
) -> ClientApi {
    let removal: Arc<dyn DeviceRemoval> = revoked.clone();
    ClientApi::new(Parts {
        store: store.clone(),
        registry: registry.clone(),
        clock: clock.clone(),
        tasks: Tasks::new(),
        removal,
        outlets,
        report_rates: ReportRates { telemetry_per_second: 100, notifications_per_minute: 600 },
        dialer: Some(Arc::clone(devices) as _),
        factory_reset,
        retention: crate::Retention::default(),
        fault_points: runtime::FaultPoints::default(),
    })
}

/// The guards are the gateway's; here the actor is put in by hand.
pub(crate) fn router(routes: Routes) -> Router {
    let routes = routes.into_routes().into_iter();
    routes.fold(Router::new(), |router, route| router.route(route.spec.path, route.handler))
}

pub(crate) async fn send(router: Router, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    (status, body)
}

pub(crate) fn device(tenant: &str, id: &str) -> DeviceRef {
    DeviceRef::new(tenant.parse().unwrap(), id.parse().unwrap())
}

pub(crate) fn forever(level: Level) -> Grant {
    Grant { level, services: ServiceSet::all(), until: None }
}

pub(crate) fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// A device with an active certificate, as enrolment leaves it.
pub(crate) async fn enrolled(store: &Store, device: &DeviceRef) {
    let seed: [u8; 32] = runtime::random::bytes();
    let mut serial = [1; 18];
    serial[1..].copy_from_slice(&seed[..17]);
    let passcode = NewPasscode {
        id: format!("pc_{}", model::hex(&seed[..4])),
        digest: PasscodeDigest(seed),
        tenant: device.tenant.clone(),
        device: Some(device.device.clone()),
        expires_at: NOW.plus(Duration::from_secs(60)),
    };
    store.add_passcode(passcode, &Actor::System, NOW).await.unwrap();
    let intent = Intent {
        serial: Serial(serial),
        issuer: IssuerName::Devices,
        subject: Subject::Device(device.clone()),
        spki_sha256: seed,
        tbs: vec![1],
        not_before: NOW,
        not_after: NOW.plus(Duration::from_secs(90 * 86_400)),
        idempotency: seed,
    };
    let request = RedemptionRequest {
        digest: PasscodeDigest(seed),
        intent,
        window: Duration::from_secs(60),
        source: "127.0.0.1".into(),
    };
    let redeemed = store.redeem_passcode(request, NOW).await.unwrap();
    assert!(matches!(redeemed, Redemption::Intended(_)), "{redeemed:?}");
    store.record_issued(Serial(serial), vec![2], Fingerprint(seed), NOW).await.unwrap();
}
