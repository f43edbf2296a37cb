use std::{sync::atomic::Ordering, time::Duration};

use model::{
    Actor, CertificateStatus, DeviceId, Event, Generation, Grant, Level, ServiceSet, SessionId, Timestamp,
    UserActor, UserId,
};
use serde_json::{Value, json};

use super::*;
use crate::testing::{NOW, Room, forever, ids};

#[tokio::test]
async fn a_person_sees_themselves() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let (status, me) = room.as_user(&alice, "/v1/me").await;
    assert_eq!(status, 200);
    let expected = json!({"id": alice.user(), "issuer": "https://idp", "subject": "alice", "email": "a@x", "tenant": "default"});
    assert_eq!(me, expected);
}

#[tokio::test]
async fn a_person_sees_the_devices_granted_to_them_and_no_others() {
    let room = Room::new().await;
    let (alice, bob) = (room.user("default", "alice").await, room.user("default", "bob").await);
    let camera = room.device("default", "cam-01").await;
    let lamp = room.device("default", "lamp").await;
    let late = room.device("default", "late").await;
    room.device("default", "secret").await;
    room.grant(&camera, &alice, forever(Level::Owner)).await;
    let web_only = ServiceSet::only(["web".parse().unwrap()]);
    room.grant(&lamp, &alice, Grant { level: Level::Viewer, services: web_only, until: None }).await;
    room.grant(&late, &alice, Grant { until: Some(NOW), ..forever(Level::Owner) }).await;
    room.grant(&lamp, &bob, forever(Level::Owner)).await;
    room.connect(&lamp, &["web", "shell"]).await;

    let (_, page) = room.as_user(&alice, "/v1/devices").await;
    assert_eq!(ids(&page), ["cam-01", "lamp"]);
    assert_eq!(page["next_cursor"], Value::Null);
    let (status, shown) = room.as_user(&alice, "/v1/devices/lamp").await;
    assert_eq!(status, 200);
    let expected = json!({
        "id": "lamp", "name": null, "tags": [], "online": true, "verified_at": NOW.rfc3339(),
        "level": "viewer", "services": ["web"], "owner": bob.user(),
    });
    assert_eq!(shown, expected);
    let (_, camera) = room.as_user(&alice, "/v1/devices/cam-01").await;
    assert_eq!((&camera["online"], &camera["owner"]), (&json!(false), &json!(alice.user())));
}

#[tokio::test]
async fn foreign_and_absent_devices_have_the_same_answer() {
    let room = Room::new().await;
    room.store.create_tenant(&"acme".parse().unwrap(), &Actor::System, NOW).await.unwrap();
    let (alice, eve) = (room.user("default", "alice").await, room.user("acme", "eve").await);
    let camera = room.device("default", "cam-01").await;
    let late = room.device("default", "late").await;
    room.grant(&camera, &alice, forever(Level::Owner)).await;
    room.grant(&late, &eve_in_default(&room).await, Grant { until: Some(NOW), ..forever(Level::Owner) })
        .await;
    assert_eq!(room.as_user(&alice, "/v1/devices/cam-01").await.0, 200, "control");

    let absent = room.as_user(&eve, "/v1/devices/no-such").await;
    assert_eq!((absent.0, &absent.1["code"]), (404, &json!("TMX-4030")));
    assert_eq!(room.as_user(&eve, "/v1/devices/cam-01").await, absent, "another tenant's");
    let bob = room.user("default", "bob").await;
    assert_eq!(room.as_user(&bob, "/v1/devices/cam-01").await, absent, "not granted");
    let ended = eve_in_default(&room).await;
    assert_eq!(room.as_user(&ended, "/v1/devices/late").await, absent, "grant ended");
    for strange in ["CAM-01", "..", "%2e%2e", "%ff", "a--b"] {
        assert_eq!(room.as_user(&eve, &format!("/v1/devices/{strange}")).await, absent, "{strange}");
    }
    assert_eq!(ids(&room.as_user(&eve, "/v1/devices").await.1), [""; 0]);
}

async fn eve_in_default(room: &Room) -> UserActor {
    room.user("default", "eve").await
}

#[tokio::test]
async fn lists_come_in_pages() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    for number in 0..5 {
        let device = room.device("default", &format!("d{number}")).await;
        room.grant(&device, &alice, forever(Level::Viewer)).await;
    }
    let (_, first) = room.as_user(&alice, "/v1/devices?limit=3").await;
    assert_eq!((ids(&first), &first["next_cursor"]), (vec!["d0", "d1", "d2"], &json!("d2")));
    let (_, rest) = room.as_user(&alice, "/v1/devices?limit=3&cursor=d2").await;
    assert_eq!((ids(&rest), &rest["next_cursor"]), (vec!["d3", "d4"], &Value::Null));
    let (_, first) = room.as_admin("GET", "/admin/api/devices?limit=5", "").await;
    assert_eq!((ids(&first).len(), &first["next_cursor"]), (5, &Value::Null));
    let (_, first) = room.as_admin("GET", "/admin/api/devices?limit=4", "").await;
    assert_eq!((ids(&first).len(), &first["next_cursor"]), (4, &json!("d3")));
    for bad in ["limit=0", "limit=501", "limit=x", "cursor=A", "limit=1&limit=2"] {
        assert_eq!(room.as_user(&alice, &format!("/v1/devices?{bad}")).await.0, 400, "{bad}");
        assert_eq!(room.as_admin("GET", &format!("/admin/api/devices?{bad}"), "").await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn an_operator_sees_session_certificate_owner_and_grants_of_a_device() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let camera = room.device("default", "cam-01").await;
    room.grant(&camera, &alice, forever(Level::Owner)).await;
    let (_, before) = room.as_admin("GET", "/admin/api/devices/cam-01", "").await;
    assert_eq!(
        (&before["online"], &before["node"], &before["generation"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    room.connect(&camera, &["web"]).await;
    let (status, shown) = room.as_admin("GET", "/admin/api/devices/cam-01?tenant=default", "").await;
    assert_eq!(status, 200);
    assert_eq!(shown["online"], true);
    assert_eq!(shown["verified_at"], NOW.rfc3339());
    assert_eq!(shown["node"], json!(room.registry.node()));
    assert!(shown["generation"].is_u64());
    assert_eq!(shown["certificate"]["status"], json!(CertificateStatus::Active));
    assert_eq!(shown["certificate"]["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(shown["owner"], json!(alice.user()));
    assert_eq!(shown["services"], json!(["web"]));
    assert_eq!(shown["grants"][0]["level"], "owner");
    for (path, status) in [
        ("/admin/api/devices/none", 404),
        ("/admin/api/devices/cam-01?tenant=none", 404),
        ("/admin/api/devices?tenant=none", 404),
        ("/admin/api/devices?tenant=NONE", 400),
    ] {
        assert_eq!(room.as_admin("GET", path, "").await.0, status, "{path}");
    }
}

#[tokio::test]
async fn a_device_that_went_away_shows_when_it_was_last_there_and_what_it_served() {
    let room = Room::new().await;
    let camera = room.device("default", "cam-01").await;
    let (session, generation) = (SessionId::from_random([1; 16]), Generation(1));
    room.connect(&camera, &["web", "shell"]).await;
    let node = room.registry.node().clone();
    let (device, at) = (camera.clone(), NOW);
    room.registry.publish(Event::DeviceConnected { device, session: session.clone(), generation, node, at });
    let shown_at = async |at: Timestamp| {
        let row = async || room.store.device(&camera.tenant, &camera.device).await.unwrap().unwrap();
        let noted = async {
            while row().await.verified_at != Some(at) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), noted).await.expect("a row within 20 s");
        room.as_admin("GET", "/admin/api/devices/cam-01", "").await.1
    };
    shown_at(NOW).await;

    let (device, at) = (camera.clone(), NOW.plus(Duration::from_secs(60)));
    let stands = room.registry.lookup(&camera).await.unwrap().generation;
    room.registry.disconnect(&camera, stands).await;
    let cause = model::DisconnectCause::Lost;
    room.registry.publish(Event::DeviceDisconnected { device, session, generation, cause, at });
    let shown = shown_at(at).await;
    assert_eq!((&shown["online"], &shown["services"]), (&json!(false), &json!(["web", "shell"])));
    assert_eq!(shown["verified_at"], json!(at.rfc3339()));
}

#[tokio::test]
async fn a_changed_grant_is_a_row_then_known_then_told() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let camera = room.device("default", "cam-01").await;
    let mut events = room.registry.subscribe();
    let path = format!("/admin/api/devices/cam-01/grants/{}", alice.user());
    let last = || room.registry.grants().last_change(&camera.tenant, alice.user(), &camera.device);
    assert_eq!(last(), None);

    let body = r#"{"level":"operator","services":["web"],"until":"2027-06-01T00:00:00+02:00"}"#;
    let (status, put) = room.as_admin("PUT", &path, body).await;
    assert_eq!((status, &put["until"]), (200, &json!("2027-05-31T22:00:00Z")));
    let stored = room.store.grant_of(&camera.tenant, alice.user(), &camera.device).await.unwrap().unwrap();
    assert_eq!(stored.services, ServiceSet::only(["web".parse().unwrap()]));
    let first = room.store.grant_sequence(&camera.tenant).await.unwrap();
    assert_eq!(last(), Some(first));
    let Ok(Event::GrantChanged { user, sequence, .. }) = events.try_recv() else { panic!("no event") };
    assert_eq!((&user, sequence), (alice.user(), first));

    assert_eq!(room.as_admin("DELETE", &path, "").await.0, 204);
    assert_eq!(last(), Some(first + 1));
    assert_eq!(room.as_user(&alice, "/v1/devices/cam-01").await.0, 404);
    assert_eq!(room.as_admin("DELETE", &path, "").await.0, 404, "there is none any more");
    assert_eq!(last(), Some(first + 1), "nothing changed");
    let object = String::from("device:default/cam-01");
    let acts = [("grant.put".to_owned(), object.clone()), ("grant.remove".to_owned(), object)];
    assert_eq!(room.audited().await, acts);
}

#[tokio::test]
async fn a_grant_that_makes_no_sense_changes_nothing() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let camera = room.device("default", "cam-01").await;
    let path = format!("/admin/api/devices/cam-01/grants/{}", alice.user());
    let many: Vec<_> = (0..65).map(|number| format!("s{number}")).collect();
    for body in [
        "",
        r#"{"level":"root"}"#,
        r#"{"level":"viewer","x":1}"#,
        r#"{"level":"viewer","services":["WEB"]}"#,
        r#"{"level":"viewer","until":"tomorrow"}"#,
        r#"{"level":"viewer","until":1900000000}"#,
        r#"{"level":"viewer","until":"2020-01-01T00:00:00Z"}"#,
        &json!({"level": "viewer", "services": many}).to_string(),
    ] {
        assert_eq!(room.as_admin("PUT", &path, body).await.0, 400, "{body:.60}");
    }
    let body = r#"{"level":"viewer"}"#;
    let stranger = UserId::from_random([9; 16]);
    for path in [
        format!("/admin/api/devices/cam-01/grants/{stranger}"),
        "/admin/api/devices/cam-01/grants/alice".into(),
        format!("/admin/api/devices/none/grants/{}", alice.user()),
    ] {
        assert_eq!(room.as_admin("PUT", &path, body).await.0, 404, "{path}");
    }
    assert_eq!(room.store.grant_sequence(&camera.tenant).await.unwrap(), 0);
    assert_eq!(room.as_admin("PUT", &path, body).await.0, 200, "control");
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_half_of_a_change() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let camera = room.device("default", "cam-01").await;
    let mut changes = room.registry.grants().subscribe();
    let path = format!("/admin/api/devices/cam-01/grants/{}", alice.user());
    {
        let call = room.as_admin("PUT", &path, r#"{"level":"viewer"}"#);
        let mut call = std::pin::pin!(call);
        // Polled until the change is on its way, then dropped.
        let (tasks, before) = (&room.api.0.tasks, room.api.0.tasks.len());
        while tasks.len() == before {
            let step = std::future::poll_fn(|context| {
                let _ = call.as_mut().poll(context);
                std::task::Poll::Ready(())
            });
            step.await;
            if tasks.len() == before {
                tokio::task::yield_now().await;
            }
        }
    }
    let change = tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap();
    assert_eq!(change.sequence, room.store.grant_sequence(&camera.tenant).await.unwrap());
}

#[tokio::test]
async fn a_removed_device_loses_certificates_grants_and_its_row() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let camera = room.device("default", "cam-01").await;
    room.grant(&camera, &alice, forever(Level::Owner)).await;
    let mut events = room.registry.subscribe();

    room.revoked.fails.store(true, Ordering::SeqCst);
    assert_eq!(room.as_admin("DELETE", "/admin/api/devices/cam-01", "").await.0, 503);
    assert_eq!(room.as_user(&alice, "/v1/devices/cam-01").await.0, 200, "nothing was taken apart");
    room.revoked.fails.store(false, Ordering::SeqCst);

    assert_eq!(room.as_admin("DELETE", "/admin/api/devices/cam-01", "").await, (204, Value::Null));
    assert_eq!(room.revoked.devices.lock().unwrap().as_slice(), std::slice::from_ref(&camera));
    assert_eq!(room.as_user(&alice, "/v1/devices/cam-01").await.0, 404);
    let changed = room.registry.grants().last_change(&camera.tenant, alice.user(), &camera.device);
    assert_eq!(changed, Some(room.store.grant_sequence(&camera.tenant).await.unwrap()));
    assert!(matches!(events.try_recv(), Ok(Event::GrantChanged { user, .. }) if user == *alice.user()));
    assert_eq!(room.as_admin("DELETE", "/admin/api/devices/cam-01", "").await.0, 404);
    let id: DeviceId = "cam-01".parse().unwrap();
    assert!(room.store.device(&camera.tenant, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn tenants_are_made_listed_and_removed() {
    let room = Room::new().await;
    assert_eq!(room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await.0, 201);
    assert_eq!(room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await.0, 409);
    for bad in ["", "{}", r#"{"name":"ACME"}"#, r#"{"name":"a","x":1}"#] {
        assert_eq!(room.as_admin("POST", "/admin/api/tenants", bad).await.0, 400, "{bad}");
    }
    let (_, list) = room.as_admin("GET", "/admin/api/tenants", "").await;
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["acme", "default"]);
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/default", "").await.0, 409);
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/acme", "").await.0, 204);
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/acme", "").await.0, 404);
    let acts = [
        ("tenant.create".to_owned(), "tenant:acme".to_owned()),
        ("tenant.remove".into(), "tenant:acme".into()),
        ("tenant.remove".into(), "tenant:acme".into()),
    ];
    assert_eq!(room.audited().await, acts);
}

#[tokio::test]
async fn the_audit_log_is_read_in_pages_and_hangs_together() {
    let room = Room::new().await;
    for name in ["a", "b", "c"] {
        room.as_admin("POST", "/admin/api/tenants", &json!({"name": name}).to_string()).await;
    }
    let (_, first) = room.as_admin("GET", "/admin/api/audit?limit=2", "").await;
    assert_eq!(first["next_cursor"], "2");
    let (_, rest) = room.as_admin("GET", "/admin/api/audit?limit=2&cursor=2", "").await;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    assert_eq!(rest["items"][0]["prev_hash"], first["items"][1]["hash"]);
    assert_eq!(first["items"][0]["actor"], "admin@127.0.0.1:5");
}
