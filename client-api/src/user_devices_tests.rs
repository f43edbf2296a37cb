use model::{Actor, Code, Grant, Level, ServiceSet, TenantName, UserActor};
use serde_json::{Value, json};

use crate::testing::{Answered, NOW, Room, forever, ids};

const CAMERA: &str = "/v1/devices/cam-01";

/// Alice owns a camera, Bob may operate it.
async fn home() -> (Room, UserActor, UserActor) {
    let room = Room::new().await;
    let (alice, bob) = (room.user("default", "alice").await, room.user("default", "bob").await);
    let camera = room.device("default", "cam-01").await;
    room.grant(&camera, &alice, forever(Level::Owner)).await;
    room.grant(&camera, &bob, forever(Level::Operator)).await;
    (room, alice, bob)
}

async fn patch(room: &Room, user: &UserActor, condition: &str, body: Value) -> Answered {
    room.asked(user, "PATCH", CAMERA, &[("if-match", condition)], &body).await
}

#[tokio::test]
async fn the_owner_names_a_device_and_whoever_is_late_is_told() {
    let (room, alice, bob) = home().await;
    let read = room.asked(&alice, "GET", CAMERA, &[], &Value::Null).await;
    let tag = read.tag.expect("an ETag");
    let edited =
        patch(&room, &alice, &tag, json!({"name": "Haustür", "tags": ["home", "door", "home"]})).await;
    assert_eq!(edited.status, 200, "{edited:?}");
    assert_eq!((&edited.body["name"], &edited.body["tags"]), (&json!("Haustür"), &json!(["door", "home"])));
    let newer = edited.tag.expect("an ETag");
    assert_ne!(newer, tag);
    let late = patch(&room, &alice, &tag, json!({"name": "Late"})).await;
    assert_eq!((late.status, &late.body["code"]), (412, &json!("TMX-4012")));
    let (_, seen) = room.as_user(&bob, CAMERA).await;
    assert_eq!(seen["name"], "Haustür", "and the late change changed nothing");

    let cleared = patch(&room, &alice, "*", json!({"name": null})).await;
    assert_eq!((cleared.status, &cleared.body["name"]), (200, &Value::Null));
    assert_eq!(cleared.body["tags"], json!(["door", "home"]), "what a patch leaves out stays");
    let unchanged =
        patch(&room, &alice, &format!("\"other\", {}", cleared.tag.clone().unwrap()), json!({})).await;
    assert_eq!(unchanged, cleared, "a patch of nothing changes nothing");
    let audited = room.store.audit(0, 100).await.unwrap();
    let edits = audited.iter().filter(|row| row.action == "device.edit").count();
    assert_eq!(edits, 2);
    assert!(audited.iter().any(|row| row.actor == Actor::User(alice.clone()).audit_name()));
}

#[tokio::test]
async fn a_patch_changes_name_and_tags_and_nothing_else() {
    let (room, alice, _) = home().await;
    let before = room.asked(&alice, "GET", CAMERA, &[], &Value::Null).await;
    let many: Vec<String> = (0..17).map(|number| format!("t{number}")).collect();
    for bad in [
        json!({"id": "other"}),
        json!({"name": "x", "owner": "me"}),
        json!({"online": true}),
        json!({"tenant": "acme"}),
        json!({"level": "owner"}),
        json!({"services": []}),
        json!({"revision": 7}),
        json!({"name": ""}),
        json!({"name": " x"}),
        json!({"name": "a\nb"}),
        json!({"name": "a".repeat(65)}),
        json!({"name": 1}),
        json!({"tags": "home"}),
        json!({"tags": ["Home"]}),
        json!({"tags": ["a b"]}),
        json!({"tags": many}),
        json!([]),
        json!("name"),
    ] {
        let refused = patch(&room, &alice, "*", bad.clone()).await;
        assert_eq!(refused.status, 400, "{bad}");
    }
    let after = room.asked(&alice, "GET", CAMERA, &[], &Value::Null).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_patch_is_the_owners_names_its_state_and_is_json() {
    let (room, alice, bob) = home().await;
    let body = json!({"name": "x"});
    let missing = room.asked(&alice, "PATCH", CAMERA, &[], &body).await;
    assert_eq!((missing.status, &missing.body["code"]), (428, &json!("TMX-4028")));
    assert_eq!(patch(&room, &alice, "W/\"1\"", body.clone()).await.status, 412);
    let operator = patch(&room, &bob, "*", body.clone()).await;
    assert_eq!((operator.status, &operator.body["code"]), (403, &json!(Code::LevelOrService.as_str())));
    let kind = [("if-match", "*"), ("content-type", "text/plain")];
    assert_eq!(room.asked(&alice, "PATCH", CAMERA, &kind, &body).await.status, 415);
    let kind = [("if-match", "*"), ("content-type", "application/merge-patch+json; charset=utf-8")];
    assert_eq!(room.asked(&alice, "PATCH", CAMERA, &kind, &body).await.status, 200);
    // Who may not know of the device learns nothing, whatever is wrong with the rest.
    let carol = room.user("default", "carol").await;
    let absent = room.asked(&carol, "PATCH", "/v1/devices/none", &[("if-match", "*")], &body).await;
    assert_eq!(absent.status, 404);
    assert_eq!(patch(&room, &carol, "*", body).await, absent);
    assert_eq!(room.asked(&carol, "PATCH", CAMERA, &[], &json!({"id": 1})).await, absent);
}

#[tokio::test]
async fn one_of_many_who_change_the_same_state_wins() {
    let (room, alice, _) = home().await;
    let tag = room.asked(&alice, "GET", CAMERA, &[], &Value::Null).await.tag.unwrap();
    let racers = (0..16).map(|number| patch(&room, &alice, &tag, json!({"name": format!("n{number}")})));
    let statuses: Vec<u16> =
        futures_util::future::join_all(racers).await.into_iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 15, "{statuses:?}");
}

#[tokio::test]
async fn devices_are_found_by_id_name_tag_and_presence() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    for (id, name, tags) in [
        ("cam-01", Some("Küche"), vec!["home", "video"]),
        ("cam-02", Some("100% Garage_A"), vec!["home"]),
        ("lamp", None, vec!["video-wall"]),
        ("pump", None, vec![]),
    ] {
        let device = room.device("default", id).await;
        room.grant(&device, &alice, forever(Level::Owner)).await;
        let body = json!({"name": name, "tags": tags});
        let path = format!("/v1/devices/{id}");
        assert_eq!(room.asked(&alice, "PATCH", &path, &[("if-match", "*")], &body).await.status, 200);
        if id != "pump" {
            room.connect(&device, &["web"]).await;
        }
    }
    let mallory = room.user("default", "mallory").await;
    for (query, found) in [
        ("q=cam", vec!["cam-01", "cam-02"]),
        ("q=K%C3%9CCHE", vec!["cam-01"]),
        ("q=%25", vec!["cam-02"]),
        ("q=_", vec!["cam-02"]),
        ("q=video", vec!["cam-01", "lamp"]),
        ("tag=video", vec!["cam-01"]),
        ("tag=home&q=garage", vec!["cam-02"]),
        ("online=true", vec!["cam-01", "cam-02", "lamp"]),
        ("online=false", vec!["pump"]),
        ("online=true&tag=home&limit=1&cursor=cam-01", vec!["cam-02"]),
        ("q='%20OR%201=1--", vec![]),
    ] {
        let (status, page) = room.as_user(&alice, &format!("/v1/devices?{query}")).await;
        assert_eq!((status, ids(&page)), (200, found), "{query}");
        assert_eq!(ids(&room.as_user(&mallory, &format!("/v1/devices?{query}")).await.1), [""; 0], "{query}");
    }
    for bad in ["q=", &format!("q={}", "x".repeat(65)), "tag=HOME", "tag=", "online=yes"] {
        assert_eq!(room.as_user(&alice, &format!("/v1/devices?{bad}")).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn following_the_cursor_shows_every_device_once_also_with_a_filter() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    for number in 0..7 {
        let device = room.device("default", &format!("d{number}")).await;
        room.grant(&device, &alice, forever(Level::Viewer)).await;
        if number % 3 == 0 {
            room.connect(&device, &["web"]).await;
        }
    }
    for (filter, wanted) in [("", 7), ("&online=true", 3), ("&online=false", 4)] {
        let (mut seen, mut cursor) = (vec![], String::new());
        loop {
            let (_, page) = room.as_user(&alice, &format!("/v1/devices?limit=2{filter}{cursor}")).await;
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(seen.is_sorted() && seen.len() == wanted, "{filter}: {seen:?}");
    }
}

#[tokio::test]
async fn services_outside_the_grant_and_other_tenants_devices_of_the_same_name_are_not_seen() {
    let room = Room::new().await;
    let acme: TenantName = "acme".parse().unwrap();
    room.store.create_tenant(&acme, &Actor::System, NOW).await.unwrap();
    let (alice, eve) = (room.user("default", "alice").await, room.user("acme", "eve").await);
    let (ours, theirs) = (room.device("default", "cam-01").await, room.device("acme", "cam-01").await);
    let web = ServiceSet::only(["web".parse().unwrap()]);
    room.grant(&ours, &alice, Grant { services: web, ..forever(Level::Owner) }).await;
    room.grant(&theirs, &eve, forever(Level::Owner)).await;
    room.connect(&ours, &["web", "shell"]).await;
    assert_eq!(patch(&room, &alice, "*", json!({"name": "ours"})).await.status, 200);
    let (_, seen) = room.as_user(&alice, CAMERA).await;
    assert_eq!(seen["services"], json!(["web"]));
    let (_, seen) = room.as_user(&eve, CAMERA).await;
    assert_eq!((&seen["name"], &seen["online"]), (&Value::Null, &json!(false)));
}
