//! When devices were connected, as `client-api` notes and shows it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use model::{Actor, DisconnectCause, Generation, ServiceName, SessionId, TenantName, Timestamp};
use scene::Scene;
use store::ConnectionFact;

fn began(device: &str, generation: u64, services: &[&str], at: i64) -> ConnectionFact {
    ConnectionFact::Began {
        device: scene::device(device),
        session: session(generation),
        generation: Generation(generation),
        services: (!services.is_empty())
            .then(|| services.iter().map(|name| name.parse::<ServiceName>().unwrap()).collect()),
        at: Timestamp(at),
    }
}

fn ended(device: &str, generation: u64, cause: Option<DisconnectCause>, at: i64) -> ConnectionFact {
    ConnectionFact::Ended {
        device: scene::device(device),
        session: session(generation),
        generation: Generation(generation),
        cause,
        at: Timestamp(at),
    }
}

fn session(generation: u64) -> SessionId {
    SessionId::from_random([generation as u8; 16])
}

/// Generation, end and cause of a device's connections, the latest first.
async fn history(scene: &Scene, device: &str) -> Vec<(u64, Option<i64>, Option<String>)> {
    let rows = scene.store.connections(&scene::device(device), None, 1000).await.unwrap();
    rows.into_iter().map(|row| (row.generation.0, row.ended_at.map(|at| at.0), row.cause)).collect()
}

async fn subjects(scene: &Scene) -> Vec<String> {
    let rows = scene.store.events_after(0, 10_000).await.unwrap();
    let subjects = rows.into_iter().map(|row| row.event.subject);
    subjects.filter(|subject| subject.starts_with("device.")).collect()
}

#[tokio::test]
async fn a_connection_is_noted_once_however_often_it_is_told() {
    let scene = Scene::new().await;
    scene.enrol("a", 1).await;
    let closed = Some(DisconnectCause::Closed);
    let facts = vec![
        began("nobody", 1, &["web"], 9),
        began("a", 5, &["web", "shell"], 50),
        began("a", 5, &[], 50),
        ended("a", 5, closed, 70),
        ended("a", 5, Some(DisconnectCause::Silent), 90),
        began("a", 5, &[], 50),
        began("a", 6, &[], 80),
    ];
    scene.store.note_connections(facts).await.unwrap();
    assert_eq!(history(&scene, "a").await, [(6, None, None), (5, Some(70), Some("closed".into()))]);
    assert_eq!(subjects(&scene).await, ["device.connected", "device.disconnected", "device.connected"]);
    let row = scene.store.device(&TenantName::default(), &"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.verified_at, Some(Timestamp(90)));
    assert_eq!(row.services.len(), 2, "a fact that says nothing of services leaves them");
    let before = scene.store.connections(&scene::device("a"), Some(Generation(6)), 10).await.unwrap();
    assert_eq!(before.len(), 1);
}

#[tokio::test]
async fn an_end_nobody_saw_does_not_say_that_the_device_was_there() {
    let scene = Scene::new().await;
    scene.enrol("a", 1).await;
    scene.store.note_connections(vec![began("a", 5, &[], 50)]).await.unwrap();
    let open = scene.store.open_connections(None, 10).await.unwrap();
    assert_eq!(open.iter().map(|row| row.generation.0).collect::<Vec<_>>(), [5]);
    let after = Some((scene::device("a"), Generation(5)));
    assert!(scene.store.open_connections(after, 10).await.unwrap().is_empty());

    scene.store.note_connections(vec![ended("a", 5, None, 900)]).await.unwrap();
    assert_eq!(history(&scene, "a").await, [(5, Some(900), Some("lost".into()))]);
    assert!(scene.store.open_connections(None, 10).await.unwrap().is_empty());
    let row = scene.store.device(&TenantName::default(), &"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.verified_at, Some(Timestamp(50)));
    // An end without a beginning is noted, and its beginning does not open it again.
    scene.store.note_connections(vec![ended("a", 7, None, 950), began("a", 7, &[], 940)]).await.unwrap();
    assert_eq!(history(&scene, "a").await[0], (7, Some(950), Some("lost".into())));
}

#[tokio::test]
async fn only_the_last_connections_are_kept_and_none_of_a_device_that_went() {
    let scene = Scene::new().await;
    scene.enrol("a", 1).await;
    let many = (1..=600).map(|generation| began("a", generation, &[], 50)).collect();
    scene.store.note_connections(many).await.unwrap();
    let kept = history(&scene, "a").await;
    assert_eq!((kept.len(), kept[0].0, kept[499].0), (500, 600, 101));

    let (device, tenant) = (scene::device("a"), TenantName::default());
    let reason = model::RevocationReason::CessationOfOperation;
    scene.store.revoke_device(&device, reason, &Actor::System, Timestamp(60)).await.unwrap();
    scene.store.remove_device(&tenant, &device.device, &Actor::System, Timestamp(60)).await.unwrap();
    assert_eq!(history(&scene, "a").await, []);
    assert!(scene.store.open_connections(None, 10).await.unwrap().is_empty());
}
