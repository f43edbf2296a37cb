//! Two tenants, every route of the doors where people and devices come in, every kind of id: what is the other
//! tenant's answers like what is not there, and nothing of it is in any answer or changed by any call.
//!
//! The routes are the program's own list. A route whose parameter is of no known kind fails the test: give the kind
//! an id of each tenant and an absent one in [`Scene::id`], and its body in [`body`].

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use tests::{Call, Cloud, Device, Door, EnrolledDevice, Provider, Service};

use super::keepers::flows::routes;

#[tokio::test]
async fn what_is_another_tenants_answers_like_what_is_not_there() {
    let scene = Scene::build().await;
    let before = scene.state_of_umbra().await;
    let (mut wrong, mut compared) = (vec![], 0);
    let mut routes: Vec<Route> = routes().await.iter().filter_map(Route::of).collect();
    for route in &routes {
        let absent = match scene.answer(route, &route.all(Whose::Absent)).await {
            Ok(answer) => answer,
            Err(unknown) => {
                wrong.push(unknown);
                continue;
            }
        };
        for whose in route.mixtures() {
            let answer = scene.answer(route, &whose).await.expect("its parameters are known");
            if let Some(canary) = scene.canary_in(&answer.text) {
                wrong.push(format!("{route} with {whose:?} shows {canary}: {}", answer.text));
            }
            let twin: Vec<Whose> =
                whose.iter().map(|one| if *one == Whose::Foreign { Whose::Absent } else { *one }).collect();
            let like = scene.answer(route, &twin).await.expect("its parameters are known");
            if answer != like {
                wrong.push(format!("{route} with {whose:?}: {answer:?}, and with {twin:?}: {like:?}"));
            }
            compared += 1;
        }
        if let Some(canary) = scene.canary_in(&absent.text) {
            wrong.push(format!("{route} shows {canary}: {}", absent.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared >= 12, "{compared} pairs");
    assert_eq!(scene.state_of_umbra().await, before, "nothing of the other tenant was changed");

    // The control: one's own answers otherwise. What ends things goes last.
    routes.sort_by_key(|route| {
        (route.method == Method::DELETE, route.path.ends_with("/owner"), route.path.len())
    });
    // A notification would have to come from a device first; an offer is accepted by whom it was made to, so that
    // withdrawing it is the control of its id.
    let without = ["/v1/notifications/{id}/read", "/v1/transfers/{id}/accept"];
    let has_own = |route: &&Route| !route.places().is_empty() && !without.contains(&route.path.as_str());
    for route in routes.iter().filter(has_own) {
        let absent = scene.answer(route, &route.all(Whose::Absent)).await.expect("known");
        let own = scene.answer(route, &route.all(Whose::Own)).await.expect("known");
        assert_ne!(own, absent, "{route}: one's own answers like what is not there");
    }
}

#[tokio::test]
async fn a_token_asked_for_another_tenants_device_is_as_empty_as_for_none() {
    let scene = Scene::build().await;
    for (whose, count) in [(Whose::Foreign, 0), (Whose::Absent, 0), (Whose::Own, 1)] {
        let asked = json!({"device": scene.id(Kind::Device, whose)});
        let call = scene.cloud.user().post("/v1/token").bearer(&scene.globex.owner).json(&asked);
        let token = call.send().await.expect(200).await.json().await["token"].as_str().unwrap().to_owned();
        let body = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["devices"].as_object().unwrap().len(), count, "{whose:?}: {body}");
        assert_eq!(body["tenant"], "globex");
        assert_eq!(scene.canary_in(&body.to_string()), None);
    }
}

/// Whose thing an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Foreign,
    Absent,
}

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    User,
    Service,
    Webhook,
    Delivery,
    Notification,
    Transfer,
    /// Nobody's: a path inside a device's own service, a sign-in provider.
    Free,
}

impl Kind {
    fn of(path: &str, parameter: &str) -> Option<Self> {
        match parameter {
            "device" => Some(Self::Device),
            "id" if path.starts_with("/v1/devices/{id}") => Some(Self::Device),
            "id" if path.starts_with("/v1/webhooks/{id}") => Some(Self::Webhook),
            "id" if path.starts_with("/v1/notifications/{id}") => Some(Self::Notification),
            "id" if path.starts_with("/v1/transfers/{id}") => Some(Self::Transfer),
            "delivery" => Some(Self::Delivery),
            "user" => Some(Self::User),
            "service" => Some(Self::Service),
            // A topic of another tenant is refused behind a ticket: the stories of events.
            "*path" | "provider" | "topic" => Some(Self::Free),
            _ => None,
        }
    }
}

struct Route {
    door: String,
    method: Method,
    path: String,
    caller: String,
    parameters: Vec<String>,
}

impl Route {
    /// None for the operators' door.
    fn of(listed: &Value) -> Option<Self> {
        let field = |name: &str| listed[name].as_str().unwrap().to_owned();
        let (door, path) = (field("door"), field("path"));
        let parameters =
            path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect();
        let method = field("method").parse().unwrap();
        (door != "admin").then(|| Self { door, method, caller: field("caller"), parameters, path })
    }

    fn all(&self, whose: Whose) -> Vec<Whose> {
        vec![whose; self.parameters.len()]
    }

    /// Every way of taking one's own and the other tenant's, but all one's own.
    fn mixtures(&self) -> Vec<Vec<Whose>> {
        let places = self.places();
        let whose = |bits: usize, at: &usize| {
            let place = places.iter().position(|place| place == at);
            if place.is_some_and(|place| bits >> place & 1 == 1) { Whose::Foreign } else { Whose::Own }
        };
        let all: Vec<usize> = (0..self.parameters.len()).collect();
        (1..1_usize << places.len()).map(|bits| all.iter().map(|at| whose(bits, at)).collect()).collect()
    }

    /// Where ids of somebody's things are.
    fn places(&self) -> Vec<usize> {
        let is_free = |parameter: &String| Kind::of(&self.path, parameter) == Some(Kind::Free);
        (0..self.parameters.len()).filter(|at| !is_free(&self.parameters[*at])).collect()
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// What a route that reads a body is sent, so that it gets as far as its ids.
fn body(route: &Route) -> Value {
    match (route.method.as_str(), route.path.as_str()) {
        ("PATCH", "/v1/devices/{id}") => json!({"name": "Taken over"}),
        ("PUT", "/v1/devices/{id}/grants/{user}") => json!({"level": "viewer"}),
        _ => json!({}),
    }
}

/// An answer, without the ids that the caller sent.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    status: u16,
    text: String,
}

/// One cloud; the caller is of globex, the other tenant is umbra.
struct Scene {
    cloud: Cloud,
    umbra: Tenant,
    globex: Tenant,
    _provider: Provider,
    _service: Service,
}

struct Tenant {
    name: &'static str,
    /// Tokens of the provider.
    owner: String,
    owner_id: String,
    friend_id: String,
    device: String,
    webhook: String,
    delivery: String,
    transfer: String,
    online: Device,
    _twin: EnrolledDevice,
}

impl Scene {
    async fn build() -> Self {
        let (provider, service) = (Provider::start().await, Service::mirror().await);
        let config = format!(
            "[[oidc]]\nissuer = \"{}\"\naudience = \"tcpmux\"\ntenant_claim = \"org\"\n[webhooks]\nallow = [\"127.0.0.0/8\"]\n",
            provider.issuer()
        );
        let cloud = Cloud::plan().config(&config).start().await;
        let umbra = Tenant::settle("umbra", &cloud, &provider, &service).await;
        let globex = Tenant::settle("globex", &cloud, &provider, &service).await;
        Self { cloud, umbra, globex, _provider: provider, _service: service }
    }

    fn id(&self, kind: Kind, whose: Whose) -> String {
        let tenant = if whose == Whose::Foreign { &self.umbra } else { &self.globex };
        match (kind, whose) {
            (Kind::Device, Whose::Absent) => "no-such-device".into(),
            (Kind::Device, _) => tenant.device.clone(),
            (Kind::User, Whose::Absent) => format!("usr_{}", "0".repeat(32)),
            (Kind::User, _) => tenant.friend_id.clone(),
            (Kind::Service, Whose::Absent) => "no-such-service".into(),
            (Kind::Service, _) => format!("{}-web", tenant.name),
            (Kind::Webhook, Whose::Absent) => format!("wh_{}", "0".repeat(32)),
            (Kind::Webhook, _) => tenant.webhook.clone(),
            (Kind::Delivery, Whose::Absent) => format!("msg_{}", "0".repeat(32)),
            (Kind::Delivery, _) => tenant.delivery.clone(),
            (Kind::Transfer, Whose::Absent) => format!("tr_{}", "0".repeat(32)),
            (Kind::Transfer, _) => tenant.transfer.clone(),
            // Numbers are of the whole log; the first are of the tenant that was made first.
            (Kind::Notification, Whose::Foreign) => "ev_2".into(),
            (Kind::Notification, _) => "ev_999999999".into(),
            (Kind::Free, _) => "index".into(),
        }
    }

    /// What globex's owner, or globex's device, is answered.
    async fn answer(&self, route: &Route, whose: &[Whose]) -> Result<Answered, String> {
        let (mut path, mut sent) = (route.path.clone(), vec![]);
        for (parameter, whose) in route.parameters.iter().zip(whose) {
            let kind = Kind::of(&route.path, parameter)
                .ok_or_else(|| format!("{route}: of what kind is {{{parameter}}}? Say it in Kind::of"))?;
            let id = self.id(kind, *whose);
            path = path.replace(&format!("{{{parameter}}}"), &id);
            sent.push(id);
        }
        let call = self.call(route, &path).await;
        let mut answer = call.send().await;
        let status = answer.status.as_u16();
        let mut text = String::new();
        // What never ends has said what it knows when it falls silent.
        while let Ok(Some(Ok(piece))) = tokio::time::timeout(SILENCE, answer.next()).await {
            text += &String::from_utf8_lossy(&piece);
        }
        for id in sent {
            text = text.replace(&id, "ID");
        }
        Ok(Answered { status, text })
    }

    async fn call(&self, route: &Route, path: &str) -> Call {
        let door: Door = match route.door.as_str() {
            "user" => self.cloud.user(),
            _ => self.cloud.device().showing(&self.globex.online.identity()),
        };
        let call = door.call(route.method.clone(), path);
        let call = match route.caller.as_str() {
            "user" => call.bearer(&self.globex.owner),
            "proxytoken" => call.bearer(&self.cloud.user_token(&self.globex.owner).await),
            _ => call,
        };
        if route.path.contains("/streams/") {
            return [
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", "tcpmux.stream.v1"),
            ]
            .into_iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        }
        if [Method::POST, Method::PUT, Method::PATCH].contains(&route.method) {
            call.header("if-match", "*").json(&body(route))
        } else {
            call
        }
    }

    /// What of umbra is in a text.
    fn canary_in(&self, text: &str) -> Option<&str> {
        let umbra = &self.umbra;
        let canaries = [
            umbra.name,
            &umbra.device,
            &umbra.owner_id,
            &umbra.friend_id,
            &umbra.webhook,
            &umbra.delivery,
            &umbra.transfer,
            "Canary of umbra",
            "umbra-tag",
        ];
        canaries.into_iter().find(|canary| text.contains(*canary))
    }

    /// All that operators see of umbra's devices.
    async fn state_of_umbra(&self) -> Value {
        let mut devices =
            self.cloud.administer(Method::GET, "/admin/api/devices?tenant=umbra", Value::Null).await;
        for device in devices["items"].as_array_mut().unwrap() {
            device["verified_at"] = Value::Null;
        }
        devices
    }
}

impl Tenant {
    /// A tenant with an owner and a friend, a device that is online, and one that has the same id in both tenants.
    async fn settle(name: &'static str, cloud: &Cloud, provider: &Provider, service: &Service) -> Self {
        cloud.administer(Method::POST, "/admin/api/tenants", json!({"name": name})).await;
        let token = |who: &str| {
            let mut body = provider.body(&format!("{who}-of-{name}"));
            body["org"] = json!(name);
            provider.sign(&body)
        };
        let (owner, friend) = (token("owner"), token("friend"));
        let (owner_id, friend_id) = (cloud.user_id(&owner).await, cloud.user_id(&friend).await);
        let device = format!("cam-of-{name}");
        let online = enrol(cloud, name, &device).await.run(&[(&format!("{name}-web"), service.url("http"))]);
        let twin = enrol(cloud, name, "cam-01").await;
        for device in [&device, "cam-01"] {
            let path = format!("/admin/api/devices/{device}/grants/{owner_id}?tenant={name}");
            cloud.administer(Method::PUT, &path, json!({"level": "owner"})).await;
        }
        let there = format!("{device}?tenant={name}");
        cloud.until_online(&there, true, Duration::from_secs(20)).await;
        let named = json!({"name": format!("Canary of {name}"), "tags": [format!("{name}-tag")]});
        let call = cloud.user().call(Method::PATCH, &format!("/v1/devices/{device}")).bearer(&owner);
        call.header("if-match", "*").json(&named).send().await.expect(200).await;
        let path = format!("/v1/devices/{device}/grants/{friend_id}");
        let shared = cloud.user().call(Method::PUT, &path).bearer(&owner).json(&json!({"level": "viewer"}));
        shared.send().await.expect(200).await;
        let offer = cloud.user().post(&format!("/v1/devices/{device}/transfers")).bearer(&owner);
        let offer = offer.json(&json!({"to": friend_id})).send().await.expect(201).await.json().await;
        let transfer = offer["id"].as_str().unwrap().to_owned();
        let hook = json!({"url": format!("http://127.0.0.1:9/{name}")});
        let hook =
            cloud.user().post("/v1/webhooks").bearer(&owner).json(&hook).send().await.expect(201).await;
        let webhook = hook.json().await["id"].as_str().unwrap().to_owned();
        let trial = cloud.user().post(&format!("/v1/webhooks/{webhook}/test")).bearer(&owner);
        let trial = trial.send().await.expect(202).await.json().await;
        let delivery = trial["id"].as_str().unwrap().to_owned();
        Self { name, owner, owner_id, friend_id, device, webhook, delivery, transfer, online, _twin: twin }
    }
}

async fn enrol(cloud: &Cloud, tenant: &str, device: &str) -> EnrolledDevice {
    let asked = json!({"device": device, "tenant": tenant});
    let made = cloud.administer(Method::POST, "/admin/api/otp", asked).await;
    EnrolledDevice::enrol_with(made["enroll"].as_str().unwrap(), device).await
}

const SILENCE: Duration = Duration::from_millis(500);
