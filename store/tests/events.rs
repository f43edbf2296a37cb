//! Facts that append their own event, in their own transaction.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use model::{Actor, DeviceId, Grant, Level, ServiceSet, TenantName, Timestamp, UserId};
use scene::Scene;
use store::Renewal;

#[tokio::test]
async fn certificates_grants_and_removal_are_told_in_the_order_of_their_making() {
    let scene = Scene::new().await;
    let (store, tenant) = (&scene.store, TenantName::default());
    let device: DeviceId = "cam-01".parse().unwrap();
    let first = scene.enrol("cam-01", 1).await;
    let Renewal::Intended(row) = scene.renew("cam-01", first, 2, scene::START).await else {
        panic!("not renewed")
    };
    scene.record(&row, scene::START).await;
    let fresh = UserId::from_random([7; 16]);
    let alice = store.find_or_create_user(&tenant, "https://idp", "alice", None, fresh, Timestamp(1)).await;
    let alice = alice.unwrap().id;
    let grant = Grant { level: Level::Viewer, services: ServiceSet::all(), until: None };
    store.put_grant(&tenant, &device, &alice, grant, &Actor::System, Timestamp(5)).await.unwrap();
    let absent = "absent".parse().unwrap();
    let grant = Grant { level: Level::Viewer, services: ServiceSet::all(), until: None };
    store.put_grant(&tenant, &absent, &alice, grant, &Actor::System, Timestamp(5)).await.unwrap_err();
    let reference = scene::device("cam-01");
    store.revoke_device(&reference, Default::default(), &Actor::System, Timestamp(6)).await.unwrap();
    store.remove_device(&tenant, &device, &Actor::System, Timestamp(7)).await.unwrap();

    let events = scene.reopened().await.events_after(0, 100).await.unwrap();
    let subjects: Vec<_> = events.iter().map(|row| row.event.subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "certificate.issued",
            "certificate.renewed",
            "grant.changed",
            "certificate.revoked",
            "certificate.revoked",
            "grant.changed",
            "device.removed",
        ]
    );
    assert_eq!(events[2].event.user, Some(alice));
    assert_eq!(events[2].event.data["sequence"], 1);
    assert_eq!(events[5].event.user, None, "everybody's");
    assert!(events.iter().all(|row| row.event.device.as_ref() == Some(&device)));
    assert_eq!(events[0].event.data["fingerprint"], first.to_string());
}
