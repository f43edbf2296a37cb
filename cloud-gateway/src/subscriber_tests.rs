//! The guards of those who listen: which proof opens which address, once, for how long and for what.

use std::{collections::BTreeSet, time::Duration};

use axum::body::Body;
use http::{HeaderMap, Request, header::AUTHORIZATION};
use model::{Actor, Grant, Level, ServiceSet, TenantName, Ticket, TicketRecord, UserId};
use serde_json::{Value, json};

use crate::{
    subscribers::digest_of,
    testing::{ADMIN_KEY, House, NOW, enrolled, send},
};

/// A house with Alice, who may view two devices.
struct Scene {
    house: House,
    alice: UserId,
    token: String,
}

impl Scene {
    async fn set() -> Self {
        let house = House::new().await;
        let token = house.provider.token("alice", |_| ());
        let (tenant, fresh) = (TenantName::default(), UserId::from_random(runtime::random::bytes()));
        let issuer = &house.provider.issuer;
        let found = house.store.find_or_create_user(&tenant, issuer, "alice", None, fresh, NOW).await;
        let scene = Self { house, alice: found.unwrap().id, token };
        for device in ["cam-01", "cam-011"] {
            enrolled(&scene.house.store, device).await;
            scene.grant(device).await;
        }
        scene
    }

    async fn grant(&self, device: &str) {
        let grant = Grant { level: Level::Viewer, services: ServiceSet::all(), until: None };
        let (tenant, device) = (TenantName::default(), device.parse().unwrap());
        let store = &self.house.store;
        store.put_grant(&tenant, &device, &self.alice, grant, &Actor::System, NOW).await.unwrap();
    }

    async fn ticket(&self, asked: Value) -> String {
        let request = Request::post("/v1/tickets").header(AUTHORIZATION, format!("Bearer {}", self.token));
        let request = request.body(Body::from(asked.to_string())).unwrap();
        let (status, _, body) = send(self.house.user_door(), request).await;
        assert_eq!(status, 201, "{body}");
        body["ticket"].as_str().unwrap().to_owned()
    }

    async fn open(&self, query: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Value) {
        let mut request = Request::get(format!("/echo/ticket{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(self.house.user_door(), request.body(Body::empty()).unwrap()).await
    }

    async fn websocket(&self, query: &str) -> (u16, Value) {
        let (status, _, body) = self.open(query, &[("upgrade", "websocket")]).await;
        (status, body)
    }
}

#[tokio::test]
async fn a_ticket_opens_what_it_was_made_for_once_in_its_time_and_nothing_else_does() {
    let scene = Scene::set().await;
    let good = scene.ticket(json!({})).await;
    let (stranger, short) = ("0".repeat(64), &good[..63]);
    let bearer = format!("Bearer {}", scene.token);
    for (query, headers, status) in [
        (String::new(), vec![("upgrade", "websocket")], 401),
        ("?ticket=".into(), vec![("upgrade", "websocket")], 401),
        (format!("?ticket={stranger}"), vec![("upgrade", "websocket")], 401),
        (format!("?ticket={short}"), vec![("upgrade", "websocket")], 401),
        (format!("?ticket={good}0"), vec![("upgrade", "websocket")], 401),
        (format!("?ticket={good}"), vec![], 426),
        (format!("?ticket={good}"), vec![("upgrade", "h2c")], 426),
        (String::new(), vec![("upgrade", "websocket"), ("authorization", bearer.as_str())], 401),
        (String::new(), vec![("upgrade", "websocket"), ("cookie", good.as_str())], 401),
        (format!("?token={good}"), vec![("upgrade", "websocket")], 401),
    ] {
        let (code, _, body) = scene.open(&query, &headers).await;
        assert_eq!(code, status, "{query} {headers:?}: {body}");
        assert!(!body.to_string().contains(&good), "an answer says no ticket: {body}");
    }
    // Control: none of those was it, and none of them used it up.
    let (status, seen) = scene.websocket(&format!("?a=b&ticket={good}&c=d")).await;
    assert_eq!((status, &seen["subscriber"]["devices"]), (200, &Value::Null), "{seen}");
    assert_eq!(seen["address"], "/echo/ticket?a=b&c=d", "whoever answers does not see it");
    assert_eq!(scene.websocket(&format!("?ticket={good}")).await.0, 401, "once");
    let late = scene.ticket(json!({})).await;
    let (just, early) = (scene.ticket(json!({})).await, Duration::from_secs(59));
    scene.house.hand.advance(early);
    assert_eq!(scene.websocket(&format!("?ticket={just}")).await.0, 200, "control: before its end");
    scene.house.hand.advance(Duration::from_secs(1));
    assert_eq!(scene.websocket(&format!("?ticket={late}")).await.0, 401, "at its end");
}

#[tokio::test]
async fn tickets_of_the_same_moment_have_nothing_in_common() {
    let scene = Scene::set().await;
    let mut tickets = BTreeSet::new();
    for _ in 0..32 {
        tickets.insert(scene.ticket(json!({})).await);
    }
    assert_eq!(tickets.len(), 32);
    let starts: BTreeSet<&str> = tickets.iter().map(|ticket| &ticket[..8]).collect();
    let ends: BTreeSet<&str> = tickets.iter().map(|ticket| &ticket[56..]).collect();
    assert_eq!((starts.len(), ends.len()), (32, 32), "no time and no counter is in them");
    for ticket in &tickets {
        assert_eq!(scene.websocket(&format!("?ticket={ticket}")).await.0, 200);
    }
}

#[tokio::test]
async fn a_ticket_of_one_device_ends_with_a_change_of_the_grant_on_that_device() {
    let scene = Scene::set().await;
    let of = |device: &str| json!({"device": device});
    let (changed, control) = (scene.ticket(of("cam-01")).await, scene.ticket(of("cam-011")).await);
    let sequence = scene.house.store.grant_sequence(&TenantName::default()).await.unwrap() + 1;
    let change = registry::GrantChange {
        tenant: TenantName::default(),
        user: Some(scene.alice.clone()),
        device: "cam-01".parse().unwrap(),
        sequence,
        at: NOW,
    };
    scene.house.registry.grants().put(change);
    assert_eq!(scene.websocket(&format!("?ticket={changed}")).await.0, 401);
    let (status, seen) = scene.websocket(&format!("?ticket={control}")).await;
    assert_eq!((status, &seen["subscriber"]["devices"]), (200, &json!(["cam-011"])), "control");
}

#[tokio::test]
async fn whoever_listens_shows_a_providers_token_or_a_proxy_token_and_nothing_else() {
    let scene = Scene::set().await;
    let (_, minted) = scene.house.token(&scene.token, "{\"device\":\"cam-01\"}").await;
    let minted = minted["token"].as_str().unwrap();
    let ticket = scene.ticket(json!({})).await;
    let expired = scene.house.provider.token("alice", |body| body["exp"] = json!(NOW.secs() - 120));
    let elsewhere = scene.house.provider.token("alice", |body| body["aud"] = json!("another-app"));
    let forged = format!("{}AAAA", &minted[..minted.len() - 4]);
    for (what, credential, status, devices) in [
        ("a provider's token", format!("Bearer {}", scene.token), 200, Value::Null),
        ("a proxy token", format!("Bearer {minted}"), 200, json!(["cam-01"])),
        ("nothing", String::new(), 401, Value::Null),
        ("a ticket", format!("Bearer {ticket}"), 401, Value::Null),
        ("an expired token", format!("Bearer {expired}"), 401, Value::Null),
        ("a token for another", format!("Bearer {elsewhere}"), 401, Value::Null),
        ("a forged proxy token", format!("Bearer {forged}"), 401, Value::Null),
        ("the admin key", format!("PROV-ADMIN {ADMIN_KEY}"), 401, Value::Null),
        ("the admin key as bearer", format!("Bearer {ADMIN_KEY}"), 401, Value::Null),
    ] {
        let mut request = Request::get("/echo/subscriber");
        if !credential.is_empty() {
            request = request.header(AUTHORIZATION, &credential);
        }
        let answer = send(scene.house.user_door(), request.body(Body::empty()).unwrap()).await;
        let (code, _, seen) = answer;
        assert_eq!(code, status, "{what}: {seen}");
        if status == 200 {
            assert_eq!(seen["subscriber"]["devices"], devices, "{what}");
            assert!(!seen["headers"].as_array().unwrap().contains(&json!("authorization")), "{what}");
        }
    }
    let asked = Request::get(format!("/echo/subscriber?ticket={ticket}")).body(Body::empty()).unwrap();
    assert_eq!(send(scene.house.user_door(), asked).await.0, 401, "a ticket opens WebSockets alone");
    let parsed: Ticket = ticket.parse().unwrap();
    let left: Option<TicketRecord> =
        scene.house.registry.take_ticket(&digest_of(&parsed), NOW).await.unwrap();
    assert!(left.is_some(), "control: it was good all the time");
}
