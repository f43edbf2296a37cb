use std::sync::atomic::Ordering;

use model::{Grant, Level, ServiceSet};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::testing::{NOW, Room};

const OPERATOR: Grant = Grant { level: Level::Operator, services: ServiceSet::all(), until: None };

fn acme() -> TenantName {
    "acme".parse().unwrap()
}

async fn status_of_acme(room: &Room) -> Option<String> {
    let (_, list) = room.as_admin("GET", "/admin/api/tenants", "").await;
    let acme = list["items"].as_array().unwrap().iter().find(|tenant| tenant["name"] == "acme").cloned();
    acme.map(|tenant| tenant["status"].as_str().unwrap().to_owned())
}

async fn until_gone(room: &Room) {
    let looking = async {
        while status_of_acme(room).await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("the tenant is gone in time");
}

#[tokio::test]
async fn a_tenant_goes_with_all_its_devices_and_people_and_no_other_tenants() {
    let room = Room::new().await;
    assert_eq!(room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await.0, 201);
    let (alice, ours) = (room.user("acme", "alice").await, room.user("default", "alice").await);
    let mine = room.device("default", "cam-01").await;
    room.grant(&mine, &ours, OPERATOR).await;
    let mut devices = vec![];
    for number in 0..DEVICES_IN_A_PAGE + 5 {
        devices.push(room.device("acme", &format!("cam-{number:04}")).await);
    }
    room.grant(&devices[0], &alice, OPERATOR).await;
    let granted = room.store.grant_sequence(&acme()).await.unwrap();
    let mut events = room.registry.subscribe();

    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/acme?confirm=acne", "").await.0, 400);
    assert_eq!(status_of_acme(&room).await.as_deref(), Some("active"));
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/acme?confirm=acme", "").await.0, 204);

    assert_eq!(status_of_acme(&room).await, None);
    let mut revoked = room.revoked.devices.lock().unwrap().clone();
    revoked.sort();
    assert_eq!(revoked, devices, "each one's certificates and tunnels were ended, once");
    let changed = room.registry.grants().last_change(&acme(), alice.user(), &devices[0].device);
    assert!(changed > Some(granted), "tokens and streams of before are stale: {changed:?}");
    assert!(room.store.user(&acme(), alice.user()).await.unwrap().is_none());
    assert!(room.store.device(&acme(), &devices[0].device).await.unwrap().is_none());
    let mut heard = vec![];
    loop {
        match events.try_recv() {
            Ok(event) => heard.push(event),
            Err(TryRecvError::Lagged(_)) => {}
            Err(_) => break,
        }
    }
    assert_eq!(heard.last(), Some(&Event::TenantDeleted { tenant: acme(), at: NOW }));

    assert!(room.store.grant_of(&mine.tenant, ours.user(), &mine.device).await.unwrap().is_some());
    assert_eq!(room.as_user(&ours, "/v1/devices").await.1["items"][0]["id"], "cam-01");
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/acme", "").await.0, 404);
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/default", "").await.0, 409);
    room.store.verify_audit().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_tenant_made_anew_is_a_new_one_and_old_tokens_are_stale_in_it() {
    let room = Room::new().await;
    room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await;
    let alice = room.user("acme", "alice").await;
    let device = room.device("acme", "cam-01").await;
    room.grant(&device, &alice, OPERATOR).await;
    let held = room.store.grant_sequence(&acme()).await.unwrap();
    assert_eq!(room.as_admin("DELETE", "/admin/api/tenants/acme", "").await.0, 204);
    let mut events = room.registry.subscribe();
    assert_eq!(room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await.0, 201);
    assert_eq!(events.recv().await.unwrap(), Event::TenantCreated { tenant: acme(), at: NOW });
    let fresh = room.store.grant_sequence(&acme()).await.unwrap();
    let anything = "some-other".parse().unwrap();
    let floor = room.registry.grants().last_change(&acme(), alice.user(), &anything).unwrap();
    assert!(held < floor && floor <= fresh, "old {held}, floor {floor}, new {fresh}");
    let again = room.user("acme", "alice").await;
    assert_ne!(again.user(), alice.user(), "nobody is who they were");
    assert_eq!(room.as_user(&again, "/v1/devices").await.1["items"], json!([]));
}

#[tokio::test]
async fn what_fails_on_the_way_is_tried_again_and_whoever_asks_again_waits_for_the_same() {
    let room = Room::new().await;
    room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await;
    room.device("acme", "cam-01").await;
    room.revoked.fails.store(true, Ordering::SeqCst);
    let delete = || room.as_admin("DELETE", "/admin/api/tenants/acme", "");
    let mending = async {
        while status_of_acme(&room).await.as_deref() != Some("deleting") {
            tokio::task::yield_now().await;
        }
        let (status, said) = room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await;
        assert_eq!(status, 409, "{said}");
        assert_eq!(room.as_admin("GET", "/admin/api/devices?tenant=acme", "").await.0, 404);
        room.revoked.fails.store(false, Ordering::SeqCst);
    };
    let ((first, _), (second, _), ()) = tokio::join!(delete(), delete(), mending);
    assert_eq!((first, second), (204, 204));
    let begun = room.audited().await.into_iter().filter(|(action, _)| action == "tenant.remove").count();
    assert_eq!(begun, 2, "one beginning, one end");
}

#[tokio::test]
async fn the_next_start_goes_on_with_a_deletion_that_was_cut_short() {
    let room = Room::new().await;
    room.as_admin("POST", "/admin/api/tenants", r#"{"name":"acme"}"#).await;
    room.device("acme", "cam-01").await;
    // The process ends right after the mark.
    room.store.begin_tenant_deletion(&acme(), &Actor::System, NOW).await.unwrap();
    assert_eq!(status_of_acme(&room).await.as_deref(), Some("deleting"));
    let next = room.again();
    until_gone(&next).await;
    assert_eq!(next.revoked.devices.lock().unwrap().len(), 1);
    let (_, audit) = next.as_admin("GET", "/admin/api/audit?order=newest&limit=1", "").await;
    let row = |member: &str| audit["items"][0][member].as_str().map(str::to_owned);
    assert_eq!((row("action"), row("outcome")), (Some("tenant.remove".into()), Some("ok".into())));
    assert_ne!(audit["next_cursor"], Value::Null, "older ones follow");
}
