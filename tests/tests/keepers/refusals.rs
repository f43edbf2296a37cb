//! Every route, called by everybody who must not: nobody, strangers, devices, holders of wrong keys.
//!
//! A route that is not in the table here fails the test, and so does one that answers otherwise.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::Method;
use serde_json::Value;
use tests::{Cloud, Device, Door, Provider, Service, Signer};

use super::flows::routes;

#[tokio::test]
async fn every_route_refuses_everybody_but_its_own_callers() {
    let scene = Scene::build().await;
    let table: BTreeMap<(&str, &str, &str), &Expected> =
        EXPECTED.iter().map(|(door, method, path, expected)| ((*door, *method, *path), expected)).collect();
    let mut wrong = vec![];
    for route in routes().await {
        let field = |name: &str| route[name].as_str().unwrap();
        let key = (field("door"), field("method"), field("path"));
        let Some(expected) = table.get(&key) else {
            wrong.push(format!("{key:?} has no expectation; add one"));
            continue;
        };
        for (caller, allowed) in [
            ("nobody", expected.nobody),
            ("stranger", expected.stranger),
            ("device", expected.device),
            ("other device", expected.other_device),
            ("wrong key", expected.wrong_key),
        ] {
            let status = scene.call(&route, caller).await;
            if !allowed.contains(&status) {
                wrong.push(format!("{key:?} by {caller}: {status}, expected one of {allowed:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_paths_of_one_door_do_not_exist_at_the_others() {
    let scene = Scene::build().await;
    let routes = routes().await;
    let mut wrong = vec![];
    for route in &routes {
        for door in ["user", "device", "admin"] {
            let is_there = routes.iter().any(|other| other["door"] == door && other["path"] == route["path"]);
            if is_there {
                continue;
            }
            for caller in ["nobody", "operator"] {
                let status = scene.call_at(door, route, caller).await;
                if status != 404 {
                    wrong.push(format!(
                        "{} {} at the {door} door by {caller}: {status}",
                        route["method"], route["path"]
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_wrong_method_is_refused_and_told_the_right_ones() {
    let cloud = Cloud::start().await;
    for (door, method, path) in [
        (cloud.device(), Method::GET, "/.well-known/est/simpleenroll"),
        (cloud.device(), Method::POST, "/.well-known/est/cacerts"),
        (cloud.user(), Method::DELETE, "/.well-known/jwks.json"),
    ] {
        let answer = door.call(method, path).send().await.expect(405).await;
        assert!(!answer.header("allow").is_empty(), "{path}");
    }
    let trace = cloud
        .user()
        .exchange(
            "TRACE /v1/me HTTP/1.1\r\nHost: localhost\r\nX-Secret: echo-me\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(trace.starts_with("HTTP/1.1 4") && !trace.contains("echo-me"), "{trace}");
}

/// A cloud with two devices and a provider, and what the callers hold.
struct Scene {
    cloud: Cloud,
    device: Device,
    other: Device,
    stranger: Signer,
    fingerprint: String,
    calls: AtomicUsize,
    _provider: Provider,
    _service: Service,
}

impl Scene {
    async fn build() -> Self {
        let provider = Provider::start().await;
        let cloud = Cloud::with_provider(&provider).await;
        let service = Service::mirror().await;
        let device = Device::enrol_and_run(&cloud, "cam-01", &[("web", service.url("http"))]).await;
        let other = Device::enrol_and_run(&cloud, "cam-02", &[]).await;
        let record = cloud.device_record("cam-01").await;
        let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap().to_owned();
        Self {
            cloud,
            device,
            other,
            stranger: Signer::new("key-1"),
            fingerprint,
            calls: AtomicUsize::new(0),
            _provider: provider,
            _service: service,
        }
    }

    async fn call(&self, route: &Value, caller: &str) -> u16 {
        self.call_at(route["door"].as_str().unwrap(), route, caller).await
    }

    async fn call_at(&self, door: &str, route: &Value, caller: &str) -> u16 {
        let door = match door {
            "user" => self.cloud.user(),
            "device" => self.cloud.device(),
            _ => self.cloud.admin(),
        };
        // Failed attempts are limited by source; here it is the refusal itself that counts.
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let door =
            door.from_source(Ipv4Addr::new(127, 1, (number / 200) as u8, (number % 200 + 1) as u8).into());
        let door: Door = match caller {
            "device" => door.showing(&self.device.identity()),
            "other device" => door.showing(&self.other.identity()),
            _ => door,
        };
        let path = route["path"]
            .as_str()
            .unwrap()
            .replace("{device}", "cam-01")
            .replace("{service}", "web")
            .replace("{*path}", "index")
            .replace("{fingerprint}", &self.fingerprint)
            .replace("{id}", "cam-01")
            .replace("{user}", "somebody")
            .replace("{provider}", "nobody")
            .replace("{delivery}", "msg_0")
            .replace("{topic}", "default.telemetry")
            .replace("{name}", "default");
        let method: Method = route["method"].as_str().unwrap().parse().unwrap();
        let call = door.call(method, &path);
        let call = match caller {
            "stranger" => call.bearer(&self.strangers_token()),
            "wrong key" => call.admin(&"0".repeat(64)),
            "operator" => call.admin(self.cloud.key()),
            _ => call,
        };
        call.send().await.status.as_u16()
    }

    /// A token of a key that nobody knows, which claims to be of the cloud's own authorizer.
    fn strangers_token(&self) -> String {
        let issuer = self.cloud.listening()["public_url"].as_str().unwrap();
        let now = tests::now();
        self.stranger.sign(
            "at+jwt",
            &serde_json::json!({
                "iss": issuer, "aud": "tcpmux:proxy", "sub": "mallory", "tenant": "default", "gv": 1_000_000,
                "until": now + 600, "iat": now, "exp": now + 300, "jti": "1",
                "devices": {"cam-01": {"level": "owner"}},
            }),
        )
    }
}

/// The statuses that each caller may see.
struct Expected {
    nobody: &'static [u16],
    stranger: &'static [u16],
    device: &'static [u16],
    other_device: &'static [u16],
    wrong_key: &'static [u16],
}

impl Expected {
    const fn of_all(statuses: &'static [u16]) -> Self {
        Self {
            nobody: statuses,
            stranger: statuses,
            device: statuses,
            other_device: statuses,
            wrong_key: statuses,
        }
    }
}

const PUBLIC: Expected = Expected::of_all(&[200]);
const REFUSED: Expected = Expected::of_all(&[401]);
/// What only opens WebSockets says so first; tests/tests/tickets.rs tries it with every kind of ticket.
const NO_WEBSOCKET: Expected = Expected::of_all(&[426]);
/// Without a body there is nothing to enrol: whoever shows a certificate is told so.
const REENROL: Expected = Expected {
    nobody: &[401],
    stranger: &[401],
    device: &[400, 415],
    other_device: &[400, 415],
    wrong_key: &[401],
};
/// Every device that proves itself comes in, and is told that nothing is no report.
const REPORTS: Expected =
    Expected { nobody: &[401], stranger: &[401], device: &[400], other_device: &[400], wrong_key: &[401] };
const OF_DEVICES: Expected =
    Expected { nobody: &[401], stranger: &[401], device: &[200], other_device: &[200], wrong_key: &[401] };

/// Where a reset does not end an ownership, a device is told so.
const RESET: Expected = Expected { device: &[403], other_device: &[403], ..REFUSED };

#[rustfmt::skip]
const EXPECTED: &[(&str, &str, &str, Expected)] = &[
    ("user", "POST", "/v1/token", REFUSED),
    ("user", "GET", "/.well-known/jwks.json", PUBLIC),
    ("user", "GET", "/.well-known/tcpmux", PUBLIC),
    ("user", "GET", "/v1/openapi.json", PUBLIC),
    ("user", "GET", "/login", PUBLIC),
    ("user", "GET", "/login/{provider}", Expected::of_all(&[404])),
    ("user", "GET", "/login/{provider}/callback", Expected::of_all(&[400])),
    ("user", "POST", "/logout", Expected::of_all(&[403])),
    ("user", "GET", "/handover", Expected::of_all(&[400])),
    ("user", "GET", "/v1/me", REFUSED),
    ("user", "GET", "/v1/devices", REFUSED),
    ("user", "GET", "/v1/devices/{id}", REFUSED),
    ("user", "PATCH", "/v1/devices/{id}", REFUSED),
    ("user", "GET", "/v1/devices/{id}/connections", REFUSED),
    ("user", "GET", "/v1/devices/{id}/grants", REFUSED),
    ("user", "PUT", "/v1/devices/{id}/grants/{user}", REFUSED),
    ("user", "DELETE", "/v1/devices/{id}/grants/{user}", REFUSED),
    ("user", "GET", "/v1/notifications", REFUSED),
    ("user", "POST", "/v1/notifications/{id}/read", REFUSED),
    ("user", "GET", "/v1/notifications/settings", REFUSED),
    ("user", "PUT", "/v1/notifications/settings", REFUSED),
    ("user", "GET", "/v1/webhooks", REFUSED),
    ("user", "POST", "/v1/webhooks", REFUSED),
    ("user", "GET", "/v1/webhooks/{id}", REFUSED),
    ("user", "PATCH", "/v1/webhooks/{id}", REFUSED),
    ("user", "DELETE", "/v1/webhooks/{id}", REFUSED),
    ("user", "POST", "/v1/webhooks/{id}/rotate", REFUSED),
    ("user", "POST", "/v1/webhooks/{id}/test", REFUSED),
    ("user", "GET", "/v1/webhooks/{id}/deliveries", REFUSED),
    ("user", "POST", "/v1/webhooks/{id}/deliveries/{delivery}/redeliver", REFUSED),
    ("user", "GET", "/v1/push/fcm", REFUSED),
    ("user", "POST", "/v1/push/fcm", REFUSED),
    ("user", "DELETE", "/v1/push/fcm", REFUSED),
    ("user", "POST", "/v1/claims", REFUSED),
    ("user", "DELETE", "/v1/devices/{id}/owner", REFUSED),
    ("user", "POST", "/v1/devices/{id}/transfers", REFUSED),
    ("user", "GET", "/v1/transfers", REFUSED),
    ("user", "POST", "/v1/transfers/{id}/accept", REFUSED),
    ("user", "DELETE", "/v1/transfers/{id}", REFUSED),
    ("user", "GET", "/v1/devices/{id}/history", REFUSED),
    ("user", "POST", "/v1/tickets", REFUSED),
    ("user", "GET", "/v1/events", REFUSED),
    ("user", "GET", "/v1/topics/{topic}", NO_WEBSOCKET),
    ("user", "GET", "/d/{device}/{service}/{*path}", REFUSED),
    ("user", "POST", "/d/{device}/{service}/{*path}", REFUSED),
    ("user", "PUT", "/d/{device}/{service}/{*path}", REFUSED),
    ("user", "PATCH", "/d/{device}/{service}/{*path}", REFUSED),
    ("user", "DELETE", "/d/{device}/{service}/{*path}", REFUSED),
    ("user", "OPTIONS", "/d/{device}/{service}/{*path}", REFUSED),
    ("user", "GET", "/v1/devices/{id}/streams/{service}", REFUSED),
    ("device", "GET", "/.well-known/est/cacerts", PUBLIC),
    ("device", "GET", "/.well-known/est/csrattrs", PUBLIC),
    ("device", "POST", "/.well-known/est/simpleenroll", REFUSED),
    ("device", "POST", "/.well-known/est/simplereenroll", REENROL),
    ("device", "POST", "/device/v1/telemetry", REPORTS),
    ("device", "POST", "/device/v1/notifications", REPORTS),
    ("device", "GET", "/device/v1/self", OF_DEVICES),
    ("device", "POST", "/device/v1/reset", RESET),
    ("device", "GET", "/crl/devices.crl", PUBLIC),
    ("device", "GET", "/crl/services.crl", PUBLIC),
    ("admin", "POST", "/admin/api/tokens", REFUSED),
    ("admin", "POST", "/admin/api/otp", REFUSED),
    ("admin", "GET", "/admin/api/otp", REFUSED),
    ("admin", "POST", "/api/otp", REFUSED),
    ("admin", "GET", "/api/otp", REFUSED),
    ("admin", "GET", "/admin/api/otps", REFUSED),
    ("admin", "DELETE", "/admin/api/otps/{id}", REFUSED),
    ("admin", "GET", "/admin/api/certificates", REFUSED),
    ("admin", "GET", "/admin/api/certificates/{fingerprint}", REFUSED),
    ("admin", "POST", "/admin/api/certificates/{fingerprint}/revoke", REFUSED),
    ("admin", "GET", "/admin/api/ca", REFUSED),
    ("admin", "GET", "/admin/api/devices", REFUSED),
    ("admin", "GET", "/admin/api/devices/{id}", REFUSED),
    ("admin", "DELETE", "/admin/api/devices/{id}", REFUSED),
    ("admin", "DELETE", "/admin/api/devices/{id}/owner", REFUSED),
    ("admin", "PUT", "/admin/api/devices/{id}/grants/{user}", REFUSED),
    ("admin", "DELETE", "/admin/api/devices/{id}/grants/{user}", REFUSED),
    ("admin", "GET", "/admin/api/tenants", REFUSED),
    ("admin", "POST", "/admin/api/tenants", REFUSED),
    ("admin", "DELETE", "/admin/api/tenants/{name}", REFUSED),
    ("admin", "GET", "/admin/api/audit", REFUSED),
    ("admin", "GET", "/livez", PUBLIC),
    ("admin", "GET", "/readyz", PUBLIC),
    ("admin", "GET", "/metrics", PUBLIC),
];
