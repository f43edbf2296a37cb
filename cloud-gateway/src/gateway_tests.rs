use std::collections::HashSet;

use axum::body::Body;
use futures_util::future::join_all;
use http::{Request, header::AUTHORIZATION};
use model::{Actor, DeviceRef, Grant, Level, ServiceSet, TenantName, UserId};
use runtime::jose::{Expectations, TokenBody, TypRule, verify};
use serde_json::{Value, json};

use super::*;
use crate::{
    AUDIENCE, SignInConfig, TenantRule,
    testing::{ADMIN_KEY, House, NOW, OURS, config, send, start},
};

impl House {
    fn read(&self, token: &Value) -> TokenBody {
        let expected = Expectations {
            issuer: OURS,
            audience: AUDIENCE,
            typ: TypRule::AccessToken,
            now: NOW,
            leeway: Duration::ZERO,
        };
        verify(token.as_str().expect("a token"), &self.gateway.key_set(), &expected).unwrap()
    }

    async fn user(&self, subject: &str) -> UserId {
        let (_, _, seen) = self.as_user(&self.provider.token(subject, |_| ())).await;
        assert_eq!(seen["user"], subject);
        let tenant = TenantName::default();
        let fresh = UserId::from_random(runtime::random::bytes());
        self.store
            .find_or_create_user(&tenant, &self.provider.issuer, subject, None, fresh, NOW)
            .await
            .unwrap()
            .id
    }

    async fn as_user(&self, token: &str) -> (u16, http::HeaderMap, Value) {
        let request = Request::get("/echo/user").header(AUTHORIZATION, format!("Bearer {token}"));
        send(self.user_door(), request.body(Body::empty()).unwrap()).await
    }

    async fn grant(&self, device: &str, user: &UserId, grant: Grant) -> u64 {
        let device = crate::testing::enrolled(&self.store, device).await;
        self.store.put_grant(&device.tenant, &device.device, user, grant, &Actor::System, NOW).await.unwrap()
    }

    async fn admin_token(&self, query: &str, body: &str) -> (u16, Value) {
        let request = Request::post(format!("/admin/api/tokens{query}"));
        let request = request.header(AUTHORIZATION, format!("PROV-ADMIN {ADMIN_KEY}"));
        let (status, _, body) =
            send(self.admin_door(), request.body(Body::from(body.to_owned())).unwrap()).await;
        (status, body)
    }
}

fn forever(level: Level) -> Grant {
    Grant { level, services: ServiceSet::all(), until: None }
}

fn names(body: &TokenBody) -> Vec<&String> {
    body.members["devices"].as_object().unwrap().keys().collect()
}

#[tokio::test]
async fn fifty_first_calls_at_once_make_one_user() {
    let house = House::new().await;
    let token = house.provider.token("alice", |_| ());
    let answers = join_all((0..50).map(|_| house.as_user(&token))).await;
    assert!(answers.iter().all(|(status, ..)| *status == 200), "{:?}", answers[0]);
    let made = house.store.audit(0, 100).await.unwrap();
    let made: Vec<_> = made.iter().filter(|row| row.action == "user.create").collect();
    assert_eq!(made.len(), 1);
    house.as_user(&house.provider.token("bob", |_| ())).await;
    assert_eq!(house.store.audit(0, 100).await.unwrap().len(), 2, "control: another person is another user");
}

#[tokio::test]
async fn a_tenant_comes_from_the_token_where_configured_and_is_never_made_by_it() {
    let house = House::with(TenantRule::Member("org".into())).await;
    let token = house.provider.token("alice", |_| ());
    let (status, _, body) = house.as_user(&token).await;
    assert_eq!((status, &body["code"]), (403, &json!("TMX-4030")), "no tenant acme yet");
    assert_eq!(house.store.tenants().await.unwrap().len(), 1);
    house.store.create_tenant(&"acme".parse().unwrap(), &Actor::System, NOW).await.unwrap();
    assert_eq!(house.as_user(&token).await.0, 200);
    for org in [json!(null), json!("ACME"), json!(["acme"]), json!("")] {
        let token = house.provider.token("alice", |body| body["org"] = org.clone());
        assert_eq!(house.as_user(&token).await.0, 403, "{org}");
    }
}

#[tokio::test]
async fn a_proxy_token_says_what_a_person_may_reach_and_no_more() {
    let house = House::new().await;
    let user = house.user("alice").await;
    house.grant("cam-01", &user, forever(Level::Operator)).await;
    let web = ServiceSet::only(["web".parse().unwrap()]);
    house.grant("lamp", &user, Grant { level: Level::Viewer, services: web, until: None }).await;
    let gv = house.grant("late", &user, Grant { until: Some(NOW), ..forever(Level::Owner) }).await;
    house.grant("bobs", &house.user("bob").await, forever(Level::Owner)).await;
    let idp = house.provider.token("alice", |_| ());

    let (status, answer) = house.token(&idp, "").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["expires_at"], NOW.plus(Duration::from_secs(300)).rfc3339());
    let body = house.read(&answer["token"]);
    let members = &body.members;
    assert_eq!(
        members["devices"],
        json!({"cam-01": {"level": "operator"}, "lamp": {"level": "viewer", "services": ["web"]}})
    );
    assert_eq!(members["sub"], json!(user));
    assert_eq!(members["tenant"], "default");
    assert_eq!(members["gv"], json!(gv + 1), "the tenant's sequence, bob's change included");
    assert_eq!(members["exp"], NOW.secs() + 300);
    assert_eq!(members["iat"], NOW.secs());
    assert_eq!(members["until"], NOW.secs() + 12 * 3600);
    let expected = ["aud", "devices", "exp", "gv", "iat", "iss", "jti", "sub", "tenant", "until"];
    assert_eq!(members.keys().collect::<HashSet<_>>(), expected.map(String::from).iter().collect());

    let (_, one) = house.token(&idp, r#"{"device":"lamp"}"#).await;
    assert_eq!(names(&house.read(&one["token"])), ["lamp"]);
    for device in ["bobs", "late", "absent"] {
        let (status, none) = house.token(&idp, &json!({ "device": device }).to_string()).await;
        assert_eq!(status, 200);
        assert!(names(&house.read(&none["token"])).is_empty(), "{device}");
    }
    for bad in [r#"{"device":"LAMP"}"#, r#"{"devices":["lamp"]}"#, "[", "null"] {
        assert_eq!(house.token(&idp, bad).await.0, 400, "{bad}");
    }
    let ids: HashSet<_> = [house.token(&idp, "").await, house.token(&idp, "").await]
        .map(|(_, answer)| house.read(&answer["token"]).text("jti").unwrap().to_owned())
        .into();
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn a_token_ends_no_later_than_the_grants_in_it() {
    let house = House::new().await;
    let user = house.user("alice").await;
    let until = NOW.plus(Duration::from_secs(100));
    house.grant("cam-01", &user, Grant { until: Some(until), ..forever(Level::Owner) }).await;
    let (_, answer) = house.token(&house.provider.token("alice", |_| ()), "").await;
    let body = house.read(&answer["token"]);
    assert_eq!((&body.members["until"], body.expires_at), (&json!(until.secs()), until));
}

#[tokio::test]
async fn a_token_names_fifty_devices_at_most_and_stays_readable() {
    let house = House::new().await;
    let user = house.user("alice").await;
    let many = ServiceSet::only(
        (0..64).map(|number| format!("service-with-a-long-name-{number:02}").parse().unwrap()),
    );
    for number in 0..60 {
        let device = format!("d{number:02}-{}", "x".repeat(59));
        house.grant(&device, &user, forever(Level::Operator)).await;
    }
    let idp = house.provider.token("alice", |_| ());
    let (_, answer) = house.token(&idp, "").await;
    assert_eq!(names(&house.read(&answer["token"])).len(), 50);
    for number in 0..60 {
        let device = format!("a{number:02}-{}", "x".repeat(59));
        house.grant(&device, &user, Grant { services: many.clone(), ..forever(Level::Operator) }).await;
    }
    let (_, answer) = house.token(&idp, "").await;
    let body = house.read(&answer["token"]);
    assert!(!names(&body).is_empty() && names(&body).len() < 50);
    let device = format!("a59-{}", "x".repeat(59));
    let (_, answer) = house.token(&idp, &json!({ "device": device }).to_string()).await;
    assert_eq!(names(&house.read(&answer["token"])), [&device]);
}

/// D14: what one place takes, the other refuses.
#[tokio::test]
async fn tokens_of_one_kind_do_not_pass_for_another() {
    let house = House::new().await;
    let idp = house.provider.token("alice", |_| ());
    let (_, answer) = house.token(&idp, "").await;
    let proxy = answer["token"].as_str().unwrap();
    let (status, _, body) = house.as_user(proxy).await;
    assert_eq!((status, &body["code"]), (401, &json!("TMX-4003")), "a proxy token at the API");
    assert_eq!(house.token(proxy, "").await.0, 401, "a proxy token for another proxy token");
    let at_proxy = Expectations {
        issuer: OURS,
        audience: AUDIENCE,
        typ: TypRule::AccessToken,
        now: NOW,
        leeway: Duration::ZERO,
    };
    assert!(verify(proxy, &house.gateway.key_set(), &at_proxy).is_ok(), "control");
    assert!(verify(&idp, &house.gateway.key_set(), &at_proxy).is_err(), "a provider's token at the proxy");
    let posing = house.provider.token("alice", |body| {
        body["iss"] = OURS.into();
        body["aud"] = AUDIENCE.into();
    });
    assert!(verify(&posing, &house.gateway.key_set(), &at_proxy).is_err());
    assert_eq!(house.as_user(&posing).await.0, 401);
}

#[tokio::test]
async fn a_provider_token_that_is_not_for_us_opens_nothing() {
    let house = House::new().await;
    let change = |change: fn(&mut Value)| house.provider.token("alice", change);
    for (token, code) in [
        (change(|body| body["aud"] = "other".into()), "TMX-4003"),
        (change(|body| body["exp"] = json!(NOW.secs() - 61)), "TMX-4002"),
        (change(|body| body["nbf"] = json!(NOW.secs() + 62)), "TMX-4002"),
        (change(|body| body["iss"] = "https://evil.example".into()), "TMX-4004"),
        (change(|body| drop(body.as_object_mut().unwrap().remove("sub"))), "TMX-4004"),
        (change(|body| body["exp"] = "9999999999".into()), "TMX-4004"),
        ("x".into(), "TMX-4004"),
    ] {
        let (status, headers, body) = house.as_user(&token).await;
        assert_eq!((status, &body["code"]), (401, &json!(code)), "{body}");
        assert!(headers.contains_key("www-authenticate"));
    }
    let (status, _, body) =
        send(house.user_door(), Request::get("/echo/user").body(Body::empty()).unwrap()).await;
    assert_eq!((status, &body["code"]), (401, &json!("TMX-4001")));
    assert_eq!(house.as_user(&change(|_| ())).await.0, 200, "control");
}

#[tokio::test]
async fn an_operator_gets_a_recorded_token_for_a_device_that_exists() {
    let house = House::new().await;
    crate::testing::enrolled(&house.store, "cam-01").await;
    let before = house.store.audit(0, 500).await.unwrap().len();
    let (status, answer) = house.admin_token("", r#"{"device":"cam-01"}"#).await;
    assert_eq!(status, 200, "{answer}");
    let body = house.read(&answer["token"]);
    assert_eq!(
        (body.subject.as_str(), &body.members["devices"]),
        ("admin", &json!({"cam-01": {"level": "operator"}}))
    );
    assert_eq!(body.expires_at, NOW.plus(Duration::from_secs(300)));
    let (_, answer) =
        house.admin_token("?tenant=default", r#"{"device":"cam-01","level":"viewer","ttl":"1h"}"#).await;
    let body = house.read(&answer["token"]);
    assert_eq!(
        (body.expires_at, &body.members["devices"]["cam-01"]["level"]),
        (NOW.plus(Duration::from_secs(3600)), &json!("viewer"))
    );
    for (query, body, status) in [
        ("", r#"{"device":"none"}"#, 404),
        ("?tenant=none", r#"{"device":"cam-01"}"#, 404),
        ("?tenant=NONE", r#"{"device":"cam-01"}"#, 400),
        ("", r#"{"device":"cam-01","ttl":"61m"}"#, 400),
        ("", r#"{"device":"cam-01","ttl":"0s"}"#, 400),
        ("", r#"{"device":"cam-01","ttl":"soon"}"#, 400),
        ("", r#"{"device":"cam-01","level":"root"}"#, 400),
        ("", "", 400),
    ] {
        assert_eq!(house.admin_token(query, body).await.0, status, "{query} {body}");
    }
    let rows = house.store.audit(0, 500).await.unwrap().split_off(before);
    assert_eq!(rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["token.mint", "token.mint"]);
    assert_eq!(rows[0].object, "device:default/cam-01");
    assert!(rows[1].detail.contains(&format!("level=viewer ttl=3600s jti={}", body.text("jti").unwrap())));
    house.store.verify_audit().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_change_before_a_restart_is_known_after_it() {
    let house = House::new().await;
    let user = house.user("alice").await;
    let device: DeviceRef = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
    let put = house.grant("cam-01", &user, forever(Level::Owner)).await;
    let tenant = TenantName::default();
    let removed =
        house.store.remove_grant(&tenant, &device.device, &user, &Actor::System, NOW).await.unwrap().unwrap();
    assert!(removed > put);
    assert_eq!(
        house.registry.grants().last_change(&tenant, &user, &device.device),
        None,
        "control: nobody told this registry"
    );
    let house = house.restarted().await;
    assert_eq!(house.registry.grants().last_change(&tenant, &user, &device.device), Some(removed));
    assert_eq!(house.registry.grants().sequence(&tenant), removed);

    // Older than any token that could still be shown: not loaded again.
    house.hand.advance(Duration::from_secs(2 * 3600));
    let house = house.restarted().await;
    assert_eq!(house.registry.grants().last_change(&tenant, &user, &device.device), None);
    assert_eq!(house.registry.grants().sequence(&tenant), removed);
}

#[tokio::test]
async fn a_restart_keeps_the_key_so_that_tokens_stay_good() {
    let house = House::new().await;
    let (_, answer) = house.token(&house.provider.token("alice", |_| ()), "").await;
    let house = house.restarted().await;
    house.read(&answer["token"]);
    let (_, _, jwks) =
        send(house.user_door(), Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap()).await;
    let key = &jwks["keys"][0];
    assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("EC"), &json!("ES256"), &json!("sig")));
    assert_eq!(key.get("d"), None, "no private part");
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn anybody_may_know_where_the_doors_are() {
    let house = House::new().await;
    let (status, _, about) =
        send(house.user_door(), Request::get("/.well-known/tcpmux").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(about["version"], "1.2.3");
    assert_eq!(about["ca_fingerprint"].as_str().unwrap().len(), 71);
    assert_eq!(about["endpoints"]["user"], OURS);
    assert_eq!(about["endpoints"]["device"], "cloud.example.com:7443");
}

#[tokio::test]
async fn a_provider_that_is_down_stops_nothing_but_its_own_people() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory().await.unwrap();
    let registry = Registry::in_process(model::NodeId::from_random([1; 16]), 1);
    let (clock, _) = Clock::manual(NOW);
    let down = ProviderConfig {
        issuer: "http://127.0.0.1:1".into(),
        audience: "tcpmux".into(),
        tenant: TenantRule::Fixed(TenantName::default()),
        ca: None,
        sign_in: SignInConfig::default(),
    };
    let config = config(folder.path().join("authorizer.key"), vec![down], None);
    let gateway = start(config, &store, &registry, &clock, &Tasks::new()).await.unwrap();
    let key = runtime::jose::SigningKey::generate().unwrap();
    let body = json!({"iss": "http://127.0.0.1:1", "sub": "a", "aud": "tcpmux", "exp": NOW.secs() + 60});
    let token = key.sign("JWT", &body).unwrap();
    let door = gateway.mount(crate::testing::echo_routes());
    let request = |authorization: String| {
        let path = if authorization.starts_with("Bearer") { "/echo/user" } else { "/echo/admin" };
        Request::get(path).header(AUTHORIZATION, authorization).body(Body::empty()).unwrap()
    };
    let (status, headers, body) = send(door.clone(), request(format!("Bearer {token}"))).await;
    assert_eq!((status, &body["code"]), (503, &json!("TMX-5003")));
    assert!(headers.contains_key("retry-after"));
    assert_eq!(send(door, request(format!("PROV-ADMIN {ADMIN_KEY}"))).await.0, 200);
}

#[tokio::test]
async fn a_configuration_that_would_blur_tokens_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory().await.unwrap();
    let registry = Registry::in_process(model::NodeId::from_random([1; 16]), 1);
    let provider = |issuer: &str, audience: &str| ProviderConfig {
        issuer: issuer.into(),
        audience: audience.into(),
        tenant: TenantRule::Fixed(TenantName::default()),
        ca: None,
        sign_in: SignInConfig::default(),
    };
    let good = || provider("https://login.example.com", "tcpmux");
    for (providers, is_good) in [
        (vec![good()], true),
        (vec![], true),
        (vec![provider(OURS, "tcpmux")], false),
        (vec![provider("https://login.example.com", AUDIENCE)], false),
        (vec![provider("https://login.example.com", "")], false),
        (vec![provider("http://login.example.com", "tcpmux")], false),
        (vec![ProviderConfig { tenant: TenantRule::Member(String::new()), ..good() }], false),
        (vec![good(), good()], false),
    ] {
        let text = format!("{providers:?}");
        let config = config(folder.path().join("authorizer.key"), providers, None);
        let tasks = Tasks::new();
        let outcome = start(config, &store, &registry, &Clock::system(), &tasks).await;
        tasks.end();
        assert_eq!(outcome.is_ok(), is_good, "{text}");
    }
}
