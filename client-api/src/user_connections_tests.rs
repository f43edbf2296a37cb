use std::time::Duration;

use model::{DeviceRef, DisconnectCause, Event, Generation, Level, SessionId, Timestamp};
use serde_json::{Value, json};

use crate::testing::{NOW, Room, forever};

const PATH: &str = "/v1/devices/cam-01/connections";

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn began(room: &Room, device: &DeviceRef, generation: u64, at: Timestamp) -> Event {
    let session = SessionId::from_random([generation as u8; 16]);
    let (device, node) = (device.clone(), room.registry.node().clone());
    Event::DeviceConnected { device, session, generation: Generation(generation), node, at }
}

fn ended(device: &DeviceRef, generation: u64, cause: DisconnectCause, at: Timestamp) -> Event {
    let session = SessionId::from_random([generation as u8; 16]);
    Event::DeviceDisconnected {
        device: device.clone(),
        session,
        generation: Generation(generation),
        cause,
        at,
    }
}

/// Waits until the history has this many connections that ended.
async fn until_ended(room: &Room, device: &DeviceRef, count: usize) {
    let noted = async {
        loop {
            let rows = room.store.connections(device, None, 100).await.unwrap();
            if rows.iter().filter(|row| row.ended_at.is_some()).count() == count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted).await.expect("rows within 20 s");
}

#[tokio::test]
async fn a_device_has_a_history_of_connections_with_causes_and_lengths() {
    let room = Room::new().await;
    let alice = room.user("default", "alice").await;
    let camera = room.device("default", "cam-01").await;
    room.grant(&camera, &alice, forever(Level::Viewer)).await;
    room.registry.publish(began(&room, &camera, 1, at(0)));
    room.registry.publish(ended(&camera, 1, DisconnectCause::Silent, at(90)));
    room.registry.publish(began(&room, &camera, 2, at(100)));
    room.registry.publish(ended(&camera, 2, DisconnectCause::Closed, at(160)));
    until_ended(&room, &camera, 2).await;
    room.time.advance(Duration::from_secs(200));

    let (status, page) = room.as_user(&alice, PATH).await;
    assert_eq!(status, 200);
    let expected = json!([
        {"began_at": at(100).rfc3339(), "ended_at": at(160).rfc3339(), "seconds": 60, "cause": "closed"},
        {"began_at": at(0).rfc3339(), "ended_at": at(90).rfc3339(), "seconds": 90, "cause": "silent"},
    ]);
    assert_eq!((&page["items"], &page["next_cursor"]), (&expected, &Value::Null));
    let (_, first) = room.as_user(&alice, &format!("{PATH}?limit=1")).await;
    let (_, rest) = room
        .as_user(&alice, &format!("{PATH}?limit=1&cursor={}", first["next_cursor"].as_str().unwrap()))
        .await;
    assert_eq!((&first["items"][0], &rest["items"][0]), (&expected[0], &expected[1]));
    let subjects: Vec<String> = room
        .store
        .events_after(0, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.event.subject)
        .filter(|subject| subject.starts_with("device."))
        .collect();
    assert_eq!(
        subjects,
        ["device.connected", "device.disconnected", "device.connected", "device.disconnected"]
    );

    let bob = room.user("default", "bob").await;
    let absent = room.as_user(&bob, "/v1/devices/none/connections").await;
    assert_eq!((absent.0, room.as_user(&bob, PATH).await), (404, absent));
}

#[tokio::test]
async fn what_a_dead_process_left_open_is_lost_at_the_next_start_and_what_stands_is_not() {
    let room = Room::new().await;
    let (camera, lamp) = (room.device("default", "cam-01").await, room.device("default", "lamp").await);
    room.connect(&lamp, &["web"]).await;
    let stands = room.registry.lookup(&lamp).await.unwrap().generation.0;
    let fact = |device: &DeviceRef, generation: u64| store::ConnectionFact::Began {
        device: device.clone(),
        session: SessionId::from_random([7; 16]),
        generation: Generation(generation),
        services: None,
        at: at(0),
    };
    let facts = vec![fact(&camera, 1), fact(&lamp, 1), fact(&lamp, stands)];
    room.store.note_connections(facts).await.unwrap();

    let started_again = room.another();
    until_ended(&room, &camera, 1).await;
    until_ended(&room, &lamp, 1).await;
    let rows = room.store.connections(&lamp, None, 10).await.unwrap();
    let ends: Vec<_> = rows.iter().map(|row| (row.generation.0, row.cause.as_deref())).collect();
    assert_eq!(ends, [(stands, None), (1, Some("lost"))]);
    drop(started_again);
}
