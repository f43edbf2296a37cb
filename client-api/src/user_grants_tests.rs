use std::time::Duration;

use model::{Actor, Event, Grant, Level, UserActor, UserId};
use serde_json::{Value, json};

use crate::testing::{Answered, NOW, Room, forever};

/// Alice owns a camera; Bob and Carol are her neighbours in the tenant, Eve is in another.
struct Home {
    room: Room,
    alice: UserActor,
    bob: UserActor,
    carol: UserActor,
    eve: UserActor,
}

impl Home {
    async fn new() -> Self {
        let room = Room::new().await;
        room.store.create_tenant(&"acme".parse().unwrap(), &Actor::System, NOW).await.unwrap();
        let alice = room.user("default", "alice").await;
        let (bob, carol) = (room.user("default", "bob").await, room.user("default", "carol").await);
        let eve = room.user("acme", "eve").await;
        let camera = room.device("default", "cam-01").await;
        room.grant(&camera, &alice, forever(Level::Owner)).await;
        Self { room, alice, bob, carol, eve }
    }

    async fn put(&self, by: &UserActor, user: &str, body: Value) -> Answered {
        self.room.asked(by, "PUT", &format!("/v1/devices/cam-01/grants/{user}"), &[], &body).await
    }

    async fn delete(&self, by: &UserActor, user: &str) -> Answered {
        let path = format!("/v1/devices/cam-01/grants/{user}");
        self.room.asked(by, "DELETE", &path, &[], &Value::Null).await
    }

    async fn list(&self, by: &UserActor) -> Answered {
        self.room.asked(by, "GET", "/v1/devices/cam-01/grants", &[], &Value::Null).await
    }
}

fn viewer() -> Value {
    json!({"level": "viewer"})
}

#[tokio::test]
async fn an_owner_shares_a_device_and_takes_it_back_and_it_is_told() {
    let home = Home::new().await;
    let (bob, mut events) = (home.bob.user(), home.room.registry.subscribe());
    let body = json!({"level": "operator", "services": ["web"], "until": "2027-06-01T00:00:00+02:00"});
    let shared = home.put(&home.alice, bob.as_str(), body).await;
    let expected = json!({
        "device": "cam-01", "user": bob, "level": "operator", "services": ["web"], "until": "2027-05-31T22:00:00Z",
    });
    assert_eq!((shared.status, &shared.body), (200, &expected));
    let last = || {
        let (tenant, device) = (home.bob.tenant(), "cam-01".parse().unwrap());
        home.room.registry.grants().last_change(tenant, bob, &device)
    };
    let sequence = last().expect("the doors know");
    assert!(matches!(events.try_recv(), Ok(Event::GrantChanged { user, sequence: told, .. })
        if user == *bob && told == sequence));
    let (status, seen) = home.room.as_user(&home.bob, "/v1/devices/cam-01").await;
    assert_eq!((status, &seen["level"]), (200, &json!("operator")));
    let page = home.list(&home.alice).await.body;
    let levels: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| &item["level"]).collect();
    assert_eq!((levels.len(), page["items"].as_array().unwrap().contains(&expected)), (2, true), "{page}");

    assert_eq!(home.delete(&home.alice, bob.as_str()).await.status, 204);
    assert_eq!(last(), Some(sequence + 1));
    assert_eq!(home.room.as_user(&home.bob, "/v1/devices/cam-01").await.0, 404);
    let again = home.delete(&home.alice, bob.as_str()).await;
    assert_eq!((again.status, last()), (404, Some(sequence + 1)));
    let by_alice = Actor::User(home.alice.clone()).audit_name();
    let rows = home.room.store.audit(0, 100).await.unwrap();
    let acts: Vec<_> = rows.iter().filter(|row| row.actor == by_alice).map(|row| &*row.action).collect();
    assert_eq!(acts, ["grant.put", "grant.remove"]);
}

#[tokio::test]
async fn foreign_users_absent_ones_and_what_is_no_user_have_one_answer() {
    let home = Home::new().await;
    let nobody = UserId::from_random([9; 16]);
    let absent = home.put(&home.alice, nobody.as_str(), viewer()).await;
    assert_eq!(absent.status, 404);
    assert_eq!(home.put(&home.alice, home.eve.user().as_str(), viewer()).await, absent);
    assert_eq!(home.put(&home.alice, "eve", viewer()).await, absent);
    let absent = home.delete(&home.alice, nobody.as_str()).await;
    assert_eq!(absent.status, 404);
    for user in [home.eve.user().as_str(), home.bob.user().as_str(), "eve"] {
        assert_eq!(home.delete(&home.alice, user).await, absent, "{user}");
    }
    assert_eq!(home.put(&home.alice, home.bob.user().as_str(), viewer()).await.status, 200, "control");
}

#[tokio::test]
async fn only_the_owner_decides_about_others_and_strangers_learn_nothing() {
    let home = Home::new().await;
    let (alice, bob, carol) = (home.alice.user(), home.bob.user(), home.carol.user());
    assert_eq!(home.put(&home.alice, bob.as_str(), json!({"level": "operator"})).await.status, 200);
    assert_eq!(home.put(&home.alice, carol.as_str(), viewer()).await.status, 200);
    for user in [alice, bob, carol] {
        assert_eq!(
            home.put(&home.bob, user.as_str(), viewer()).await.status,
            403,
            "no level raised or lowered"
        );
    }
    for user in [alice.as_str(), carol.as_str(), "nobody"] {
        assert_eq!(home.delete(&home.bob, user).await.status, 403, "{user}");
    }
    assert_eq!(home.list(&home.bob).await.status, 403);
    let path = "/v1/devices/none/grants";
    let absent = home.room.asked(&home.eve, "GET", path, &[], &Value::Null).await;
    assert_eq!(absent.status, 404);
    assert_eq!(home.list(&home.eve).await, absent);
    assert_eq!(home.put(&home.eve, bob.as_str(), viewer()).await, absent);
    assert_eq!(home.delete(&home.eve, bob.as_str()).await, absent);
    assert_eq!(home.list(&home.alice).await.body["items"].as_array().unwrap().len(), 3, "nothing changed");
}

#[tokio::test]
async fn anybody_gives_up_their_own_right_but_an_owner() {
    let home = Home::new().await;
    assert_eq!(home.put(&home.alice, home.bob.user().as_str(), viewer()).await.status, 200);
    assert_eq!(home.delete(&home.bob, home.bob.user().as_str()).await.status, 204);
    assert_eq!(home.room.as_user(&home.bob, "/v1/devices/cam-01").await.0, 404);

    let own = home.delete(&home.alice, home.alice.user().as_str()).await;
    assert_eq!(own.status, 409);
    assert!(own.body["detail"].as_str().unwrap().contains("release"), "{own:?}");
    let demoted = home.put(&home.alice, home.alice.user().as_str(), viewer()).await;
    assert_eq!(demoted.status, 409);
    let second = home.put(&home.alice, home.bob.user().as_str(), json!({"level": "owner"})).await;
    assert_eq!(second.status, 409);
    assert!(second.body["detail"].as_str().unwrap().contains("transfer"), "{second:?}");
    assert_eq!(home.list(&home.alice).await.body["items"][0]["level"], "owner", "still");
}

#[tokio::test]
async fn ended_grants_are_not_shown_and_make_room_and_living_ones_are_bounded() {
    let home = Home::new().await;
    let camera = crate::testing::device("default", "cam-01");
    let soon = Grant { until: Some(NOW.plus(Duration::from_secs(1))), ..forever(Level::Viewer) };
    for number in 0..200 {
        let friend = home.room.user("default", &format!("friend-{number}")).await;
        home.room.grant(&camera, &friend, soon.clone()).await;
    }
    let full = home.put(&home.alice, home.bob.user().as_str(), viewer()).await;
    assert_eq!(full.status, 409, "{full:?}");
    assert_eq!(home.list(&home.alice).await.body["items"].as_array().unwrap().len(), 201);
    home.room.time.advance(Duration::from_secs(2));
    assert_eq!(home.list(&home.alice).await.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(home.put(&home.alice, home.bob.user().as_str(), viewer()).await.status, 200);
}

#[tokio::test]
async fn whoever_lost_the_device_in_between_changes_nothing() {
    let home = Home::new().await;
    let camera = crate::testing::device("default", "cam-01");
    home.room.grant(&camera, &home.alice, forever(Level::Operator)).await;
    home.room.grant(&camera, &home.bob, forever(Level::Owner)).await;
    let (alice, bob, by) = (home.alice.user(), home.bob.user(), Actor::User(home.alice.clone()));
    // As if the door had still seen Alice as the owner.
    let store = &home.room.store;
    let late = store.share_device(&camera, alice, home.carol.user(), forever(Level::Viewer), &by, NOW).await;
    assert!(late.is_err(), "{late:?}");
    let late = store.unshare_device(&camera, Some(alice), bob, &by, NOW).await;
    assert!(late.is_err(), "{late:?}");
    let edit = store::DeviceEdit { name: Some(None), tags: None };
    assert!(store.edit_device(&camera, alice, edit, 1, &by, NOW).await.is_err());
    assert_eq!(home.list(&home.bob).await.body["items"].as_array().unwrap().len(), 2);
}
