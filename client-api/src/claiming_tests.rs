//! Claim codes and owners, against daemons in memory.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use model::{Actor, ClaimCode, DeviceRef, Event, Generation, Level, SessionId, UserActor};
use serde_json::{Value, json};

use crate::{
    FactoryReset,
    claiming::digest_of,
    fake_devices::FakeDevice,
    testing::{NOW, Room, forever},
};

/// A room with one enrolled device, and what is beside it.
struct Scene {
    room: Room,
    device: DeviceRef,
    daemon: Arc<FakeDevice>,
}

impl Scene {
    async fn new() -> Self {
        let room = Room::new().await;
        let device = room.device("default", "cam-01").await;
        Self { room, device, daemon: Arc::default() }
    }

    /// The tunnel stands, the record is there; no event yet.
    async fn connect(&self) {
        self.room.devices.connect(&self.device, &self.daemon).await;
        let told = self.daemon.code().as_ref().map(digest_of);
        self.room.connect_showing(&self.device, told).await;
    }

    fn tell_connected(&self) {
        self.room.registry.publish(Event::DeviceConnected {
            device: self.device.clone(),
            session: SessionId::from_random([1; 16]),
            generation: Generation(1),
            node: self.room.registry.node().clone(),
            at: NOW,
        });
    }

    async fn disconnect(&self) {
        self.room.devices.disconnect(&self.device);
        let generation = self.room.registry.lookup(&self.device).await.unwrap().generation;
        self.room.registry.disconnect(&self.device, generation).await;
    }

    /// Waits until the device shows a code that the cloud knows as delivered.
    async fn code(&self) -> ClaimCode {
        until(async || {
            let code = self.daemon.code().ok_or("none is shown")?;
            let state = self.room.store.claim_state(&self.device, NOW).await.unwrap().unwrap();
            match state.code {
                Some(stored) if stored.digest == digest_of(&code) && stored.delivered_at.is_some() => {
                    Ok(code)
                }
                stored => Err(format!("stored is {stored:?}")),
            }
        })
        .await
    }

    async fn no_code(&self) {
        until(async || self.daemon.code().map_or(Ok(()), |_| Err("it still shows one".to_owned()))).await;
    }

    async fn connected_code(&self) -> ClaimCode {
        self.connect().await;
        self.tell_connected();
        self.code().await
    }

    async fn claim(&self, user: &UserActor, code: &ClaimCode) -> (u16, Value) {
        self.say(user, code.reveal().expose()).await
    }

    async fn say(&self, user: &UserActor, code: &str) -> (u16, Value) {
        self.room.by_user(user, "POST", "/v1/claims", &json!({ "code": code }).to_string()).await
    }

    async fn owners(&self) -> Vec<model::UserId> {
        let grants =
            self.room.store.grants_on_device(&self.device.tenant, &self.device.device).await.unwrap();
        grants.into_iter().filter(|(_, grant)| grant.level == Level::Owner).map(|(user, _)| user).collect()
    }
}

/// Waits for something that reports what it last saw.
async fn until<T, E: std::fmt::Display>(mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut last = String::new();
    for _ in 0..2000 {
        match look().await {
            Ok(seen) => return seen,
            Err(state) => last = state.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come about: {last}");
}

fn other_code(seed: u8) -> ClaimCode {
    ClaimCode::from_random([seed; 16])
}

#[tokio::test]
async fn a_device_without_an_owner_gets_a_code_and_its_claim_ends_the_code() {
    let scene = Scene::new().await;
    let alice = scene.room.user("default", "alice").await;
    let code = scene.connected_code().await;
    let mut events = scene.room.registry.subscribe();
    let typed = code.reveal().expose().to_lowercase().replace('-', " ");
    let (status, claimed) = scene.say(&alice, &typed).await;
    assert_eq!((status, claimed), (201, json!({"device": "cam-01", "level": "owner"})));
    assert_eq!(scene.owners().await, [alice.user().clone()]);
    scene.no_code().await;
    assert!(matches!(events.recv().await.unwrap(), Event::GrantChanged { sequence: 1, .. }));
    assert!(
        matches!(events.recv().await.unwrap(), Event::DeviceClaimed { user, .. } if user == *alice.user())
    );
    assert_eq!(scene.room.registry.grants().sequence(alice.tenant()), 1);
    let log = scene.room.store.events_after(0, 100).await.unwrap();
    assert!(log.iter().any(|row| row.event.subject == "device.claimed"));
    let (_, seen) = scene.room.as_user(&alice, "/v1/devices/cam-01").await;
    assert_eq!((&seen["owner"], &seen["level"]), (&json!(alice.user()), &json!("owner")));
    // The store has kept nothing that could be said again.
    assert_eq!(scene.claim(&alice, &code).await.0, 404);
}

#[tokio::test]
async fn a_doubled_event_and_one_that_came_before_a_restart_change_nothing() {
    let scene = Scene::new().await;
    let code = scene.connected_code().await;
    for _ in 0..20 {
        scene.tell_connected();
    }
    // The device comes back with its code; so does the cloud, with nothing but its rows.
    scene.disconnect().await;
    scene.connect().await;
    scene.tell_connected();
    let room = scene.room.again();
    let again = Scene { room, device: scene.device.clone(), daemon: Arc::clone(&scene.daemon) };
    assert_eq!(again.connected_code().await, code);
    again.tell_connected();
    let alice = again.room.user("default", "alice").await;
    assert_eq!(again.claim(&alice, &code).await.0, 201);
    assert_eq!(scene.daemon.count(|daemon| &daemon.given), 1, "one code was given in all that time");
}

#[tokio::test]
async fn a_lost_event_is_made_up_for_when_the_room_starts() {
    let scene = Scene::new().await;
    scene.connect().await;
    let room = scene.room.beside();
    let again = Scene { room, device: scene.device.clone(), daemon: Arc::clone(&scene.daemon) };
    again.code().await;
}

#[tokio::test]
async fn a_code_that_was_stored_and_never_came_is_replaced_by_one_that_comes() {
    let scene = Scene::new().await;
    let lost = other_code(1);
    assert!(scene.room.store.put_claim_code(&scene.device, None, digest_of(&lost), NOW).await.unwrap());
    let code = scene.connected_code().await;
    assert_ne!(code, lost);
    let alice = scene.room.user("default", "alice").await;
    assert_eq!(scene.claim(&alice, &lost).await.0, 404);
    assert_eq!(scene.claim(&alice, &code).await.0, 201);
}

#[tokio::test]
async fn a_code_whose_receipt_was_lost_is_kept() {
    let scene = Scene::new().await;
    scene.daemon.silent.store(true, Ordering::SeqCst);
    scene.connect().await;
    // Diagnosis fails too: nothing is handed over as long as the daemon says nothing.
    scene.tell_connected();
    until(async || match scene.daemon.count(|daemon| &daemon.calls) {
        0 => Err("it was not called"),
        _ => Ok(()),
    })
    .await;
    assert_eq!(scene.daemon.code(), None);
    // It wrote the code and died before it could say so.
    let code = other_code(7);
    assert!(scene.room.store.put_claim_code(&scene.device, None, digest_of(&code), NOW).await.unwrap());
    *scene.daemon.shown.lock().unwrap() = Some(code.clone());
    scene.daemon.silent.store(false, Ordering::SeqCst);
    scene.disconnect().await;
    assert_eq!(scene.connected_code().await, code);
    assert_eq!(scene.daemon.count(|daemon| &daemon.given), 0);
}

#[tokio::test]
async fn a_device_that_cannot_write_is_tried_again() {
    let scene = Scene::new().await;
    scene.daemon.refuses.store(true, Ordering::SeqCst);
    scene.connect().await;
    scene.tell_connected();
    until(async || match scene.daemon.count(|daemon| &daemon.calls) {
        0 => Err("it was not called"),
        _ => Ok(()),
    })
    .await;
    scene.daemon.refuses.store(false, Ordering::SeqCst);
    scene.code().await;
}

#[tokio::test]
async fn an_owned_device_that_shows_a_code_forgets_it_and_one_that_shows_none_is_left_alone() {
    let scene = Scene::new().await;
    let alice = scene.room.user("default", "alice").await;
    scene.room.grant(&scene.device, &alice, forever(Level::Owner)).await;
    *scene.daemon.shown.lock().unwrap() = Some(other_code(3));
    scene.connect().await;
    scene.tell_connected();
    scene.no_code().await;
    let calls = scene.daemon.count(|daemon| &daemon.calls);
    scene.disconnect().await;
    scene.connect().await;
    scene.tell_connected();
    // Another device's code shows that the event was worked off.
    let lamp = Scene {
        device: scene.room.device("default", "lamp").await,
        daemon: Arc::default(),
        room: scene.room.clone(),
    };
    lamp.connected_code().await;
    assert_eq!(scene.daemon.count(|daemon| &daemon.calls), calls);
}

#[tokio::test]
async fn operators_who_make_and_unmake_owners_bring_codes_and_take_them() {
    let scene = Scene::new().await;
    let alice = scene.room.user("default", "alice").await;
    let code = scene.connected_code().await;
    let path = format!("/admin/api/devices/cam-01/grants/{}", alice.user());
    assert_eq!(scene.room.as_admin("PUT", &path, r#"{"level":"owner"}"#).await.0, 200);
    scene.no_code().await;
    let (status, refused) = scene.claim(&alice, &code).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("already_owned")));
    assert_eq!(scene.room.as_admin("DELETE", &path, "").await.0, 204);
    let fresh = scene.code().await;
    assert_ne!(fresh, code);
    assert_eq!(scene.claim(&alice, &fresh).await.0, 201);
    scene.no_code().await;
    assert_eq!(scene.room.as_admin("DELETE", "/admin/api/devices/cam-01/owner", "").await.0, 204);
    assert_eq!(scene.room.as_admin("DELETE", "/admin/api/devices/cam-01/owner", "").await.0, 404);
    scene.code().await;
}

#[tokio::test]
async fn sixteen_who_say_one_code_together_make_one_owner() {
    let scene = Scene::new().await;
    let code = scene.connected_code().await;
    let mut users = vec![];
    for number in 0..16 {
        users.push(scene.room.user("default", &number.to_string()).await);
    }
    let answers = join_all(users.iter().map(|user| scene.claim(user, &code))).await;
    let mut statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 404 | 409)), "{answers:?}");
    assert_eq!(scene.owners().await.len(), 1);
    scene.no_code().await;
}

#[tokio::test]
async fn a_device_has_to_be_there_and_show_the_code_in_that_moment() {
    let scene = Scene::new().await;
    let alice = scene.room.user("default", "alice").await;
    let code = scene.connected_code().await;
    // The record still stands; the tunnel does not.
    scene.room.devices.disconnect(&scene.device);
    let (status, refused) = scene.claim(&alice, &code).await;
    assert_eq!(
        (status, &refused["reason"], &refused["code"]),
        (409, &json!("device_offline"), &json!("TMX-3001"))
    );
    // Another device of that name, which shows something else.
    let stranger = Arc::new(FakeDevice::default());
    scene.room.devices.connect(&scene.device, &stranger).await;
    assert_eq!(scene.claim(&alice, &code).await.0, 409);
    assert_eq!(scene.owners().await, []);
    scene.room.devices.connect(&scene.device, &scene.daemon).await;
    assert_eq!(scene.claim(&alice, &code).await.0, 201);
}

#[tokio::test]
async fn malformed_codes_are_told_from_wrong_ones_and_foreign_ones_are_wrong() {
    let scene = Scene::new().await;
    let alice = scene.room.user("default", "alice").await;
    scene.room.store.create_tenant(&"acme".parse().unwrap(), &Actor::System, NOW).await.unwrap();
    let eve = scene.room.user("acme", "eve").await;
    let code = scene.connected_code().await;
    let shown = code.reveal();
    let mut mistyped = shown.expose().clone().into_bytes();
    mistyped[0] = if mistyped[0] == b'B' { b'C' } else { b'B' };
    for bad in ["", "short", "ABCD-EFGH-IJKL-MNOP-QRST", &String::from_utf8(mistyped).unwrap()] {
        let (status, refused) = scene.say(&alice, bad).await;
        assert_eq!(status, 400, "{bad}: {refused}");
        assert!(bad.is_empty() || !refused.to_string().contains(bad), "{refused}");
    }
    let (absent, foreign) = (scene.claim(&alice, &other_code(9)).await, scene.claim(&eve, &code).await);
    assert_eq!(absent.0, 404);
    assert_eq!(absent, foreign);
    assert_eq!(scene.claim(&alice, &code).await.0, 201);
    let used = scene.claim(&eve, &code).await;
    assert_eq!(used, absent);
    assert_eq!(scene.claim(&alice, &code).await, absent, "also to the one who used it");
}

#[tokio::test]
async fn however_many_wrong_codes_are_said_the_owner_gets_in() {
    let scene = Scene::new().await;
    let owner = scene.room.user("default", "owner").await;
    let code = scene.connected_code().await;
    let mut attackers = vec![owner.clone()];
    for number in 0..100 {
        attackers.push(scene.room.user("default", &format!("attacker-{number}")).await);
    }
    let (mut wrong, mut limited) = (0, 0);
    for number in 0..10_000_u32 {
        // The first half by one user, the owner himself; then by a hundred.
        let attacker = &attackers[if number < 5_000 { 0 } else { 1 + number as usize % 100 }];
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        match scene.claim(attacker, &ClaimCode::from_random(bytes)).await {
            (404, _) => wrong += 1,
            (429, _) => limited += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((wrong, limited), (10, 9_990), "his own ten; then the fleet's thousand were used up");
    assert_eq!(scene.claim(&owner, &code).await.0, 201);
}

#[tokio::test]
async fn a_release_ends_all_rights_and_brings_a_new_code() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.room.user("default", "alice").await, scene.room.user("default", "bob").await);
    let code = scene.connected_code().await;
    assert_eq!(scene.claim(&alice, &code).await.0, 201);
    scene.no_code().await;
    scene.room.grant(&scene.device, &bob, forever(Level::Operator)).await;
    let mut changes = scene.room.registry.grants().subscribe();
    let owner = "/v1/devices/cam-01/owner";
    assert_eq!(scene.room.by_user(&bob, "DELETE", owner, "").await.0, 403);
    let eve = scene.room.user("default", "eve").await;
    let foreign = scene.room.by_user(&eve, "DELETE", owner, "").await;
    assert_eq!(foreign, scene.room.by_user(&eve, "DELETE", "/v1/devices/absent/owner", "").await);
    assert_eq!(foreign.0, 404);
    assert_eq!(scene.room.by_user(&alice, "DELETE", owner, "").await.0, 204);
    let change = changes.recv().await.unwrap();
    assert_eq!((change.user, change.sequence), (None, 3));
    for user in [&alice, &bob] {
        assert_eq!(scene.room.as_user(user, "/v1/devices/cam-01").await.0, 404);
    }
    let fresh = scene.code().await;
    assert_ne!(fresh, code);
    assert_eq!(scene.claim(&bob, &fresh).await.0, 201);
    let (_, seen) = scene.room.as_user(&bob, "/v1/devices/cam-01").await;
    assert_eq!((&seen["name"], &seen["owner"]), (&Value::Null, &json!(bob.user())));
}

#[tokio::test]
async fn a_device_is_handed_on_to_the_one_it_was_offered_to() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.room.user("default", "alice").await, scene.room.user("default", "bob").await);
    let eve = scene.room.user("default", "eve").await;
    let code = scene.connected_code().await;
    scene.claim(&alice, &code).await;
    scene.room.grant(&scene.device, &eve, forever(Level::Viewer)).await;
    let path = "/v1/devices/cam-01/transfers";
    let to = |user: &UserActor| json!({ "to": user.user() }).to_string();
    assert_eq!(scene.room.by_user(&eve, "POST", path, &to(&bob)).await.0, 403);
    assert_eq!(scene.room.by_user(&alice, "POST", path, &to(&alice)).await.0, 400);
    let (status, offer) = scene.room.by_user(&alice, "POST", path, &to(&bob)).await;
    assert_eq!((status, &offer["to"], &offer["device"]), (201, &json!(bob.user()), &json!("cam-01")));
    let one = format!("/v1/transfers/{}", offer["id"].as_str().unwrap());
    for user in [&alice, &bob] {
        assert_eq!(scene.room.as_user(user, "/v1/transfers").await.1["items"], json!([offer]));
    }
    assert_eq!(scene.room.as_user(&eve, "/v1/transfers").await.1["items"], json!([]));
    let accept = format!("{one}/accept");
    for user in [&eve, &alice] {
        assert_eq!(scene.room.by_user(user, "POST", &accept, "").await.0, 404);
        assert_eq!(scene.owners().await, [alice.user().clone()]);
    }
    let (status, taken) = scene.room.by_user(&bob, "POST", &accept, "").await;
    assert_eq!((status, taken), (200, json!({"device": "cam-01", "level": "owner"})));
    assert_eq!(scene.room.by_user(&bob, "POST", &accept, "").await.0, 404);
    assert_eq!(scene.owners().await, [bob.user().clone()]);
    for user in [&alice, &eve] {
        assert_eq!(scene.room.as_user(user, "/v1/devices/cam-01").await.0, 404);
    }
    let (_, offer) = scene.room.by_user(&bob, "POST", path, &to(&eve)).await;
    let one = format!("/v1/transfers/{}", offer["id"].as_str().unwrap());
    assert_eq!(scene.room.by_user(&alice, "DELETE", &one, "").await.0, 404);
    assert_eq!(scene.room.by_user(&eve, "DELETE", &one, "").await.0, 204);
    assert_eq!(scene.room.by_user(&eve, "POST", &format!("{one}/accept"), "").await.0, 404);
}

#[tokio::test]
async fn a_reset_of_the_device_ends_an_ownership_where_the_operator_lets_it() {
    for (policy, status) in [(FactoryReset::Owner, 403), (FactoryReset::Device, 204)] {
        let room = Room::with(policy).await;
        let device = room.device("default", "cam-01").await;
        let scene = Scene { room, device, daemon: Arc::default() };
        let alice = scene.room.user("default", "alice").await;
        let code = scene.connected_code().await;
        scene.claim(&alice, &code).await;
        scene.no_code().await;
        assert_eq!(scene.room.as_device(&scene.device, "POST", "/device/v1/reset", "").await.0, status);
        if policy == FactoryReset::Device {
            scene.code().await;
            assert_eq!(scene.owners().await, []);
            assert_eq!(scene.room.as_device(&scene.device, "POST", "/device/v1/reset", "").await.0, 204);
        } else {
            assert_eq!(scene.owners().await, [alice.user().clone()]);
        }
    }
}

#[tokio::test]
async fn a_thousand_devices_that_come_at_once_all_get_codes() {
    let scene = Scene::new().await;
    let mut fleet = vec![];
    for number in 0..1000 {
        let device = scene.room.device("default", &format!("d{number}")).await;
        let one = Scene { room: scene.room.clone(), device, daemon: Arc::default() };
        one.connect().await;
        fleet.push(one);
    }
    for one in &fleet {
        one.tell_connected();
    }
    for one in &fleet {
        one.code().await;
        assert_eq!(one.daemon.count(|daemon| &daemon.given), 1);
    }
}
