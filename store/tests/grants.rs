//! Devices, grants and their change log, as `client-api` and the gateway use them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use model::{Actor, DeviceId, Grant, Level, ServiceSet, TenantName, Timestamp, UserId};
use scene::Scene;
use store::{Store, StoreError};

fn grant(level: Level) -> Grant {
    Grant { level, services: ServiceSet::all(), until: None }
}

async fn user(store: &Store, tenant: &TenantName, name: &str) -> UserId {
    let fresh = UserId::from_random([name.as_bytes()[0]; 16]);
    let user = store.find_or_create_user(tenant, "https://idp", name, None, fresh, Timestamp(1));
    user.await.unwrap().id
}

#[tokio::test]
async fn a_grant_is_put_replaced_and_removed_and_every_change_has_a_number() {
    let scene = Scene::new().await;
    let (store, tenant) = (&scene.store, TenantName::default());
    scene.enrol("cam-01", 1).await;
    let device: DeviceId = "cam-01".parse().unwrap();
    let alice = user(store, &tenant, "alice").await;
    let by = Actor::System;

    let limited = Grant {
        level: Level::Viewer,
        services: ServiceSet::only(["web".parse().unwrap(), "shell".parse().unwrap()]),
        until: Some(Timestamp(99)),
    };
    assert_eq!(
        store.put_grant(&tenant, &device, &alice, limited.clone(), &by, Timestamp(10)).await.unwrap(),
        1
    );
    assert_eq!(store.grant_of(&tenant, &alice, &device).await.unwrap(), Some(limited));
    let none = Grant { level: Level::Viewer, services: ServiceSet::only([]), until: None };
    assert_eq!(store.put_grant(&tenant, &device, &alice, none.clone(), &by, Timestamp(20)).await.unwrap(), 2);
    assert_eq!(store.grants_of_user(&tenant, &alice).await.unwrap(), [(device.clone(), none.clone())]);
    assert_eq!(store.grants_on_device(&tenant, &device).await.unwrap(), [(alice.clone(), none)]);
    assert_eq!(store.remove_grant(&tenant, &device, &alice, &by, Timestamp(30)).await.unwrap(), Some(3));
    assert_eq!(store.remove_grant(&tenant, &device, &alice, &by, Timestamp(40)).await.unwrap(), None);
    assert_eq!(store.grant_of(&tenant, &alice, &device).await.unwrap(), None);

    assert_eq!(store.grant_sequence(&tenant).await.unwrap(), 3);
    assert_eq!(store.grant_sequences().await.unwrap(), [(tenant, 3)]);
    let changes = store.grant_changes_since(Timestamp(20)).await.unwrap();
    assert_eq!(
        changes.iter().map(|c| (c.sequence, c.user.clone())).collect::<Vec<_>>(),
        [(2, Some(alice.clone())), (3, Some(alice))]
    );
    assert_eq!(store.forget_grant_changes(Timestamp(30)).await.unwrap(), 2);
    assert_eq!(store.grant_changes_since(Timestamp(0)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_grant_names_a_device_and_a_user_of_one_tenant() {
    let scene = Scene::new().await;
    let (store, tenant) = (&scene.store, TenantName::default());
    let acme: TenantName = "acme".parse().unwrap();
    store.create_tenant(&acme, &Actor::System, Timestamp(0)).await.unwrap();
    scene.enrol("cam-01", 1).await;
    let device: DeviceId = "cam-01".parse().unwrap();
    let here = user(store, &tenant, "alice").await;
    let there = user(store, &acme, "bob").await;
    let put = |tenant: TenantName, user: UserId, device: DeviceId| async move {
        store.put_grant(&tenant, &device, &user, grant(Level::Owner), &Actor::System, Timestamp(1)).await
    };
    assert!(matches!(
        put(tenant.clone(), there.clone(), device.clone()).await,
        Err(StoreError::NotFound("user"))
    ));
    assert!(matches!(put(acme.clone(), there, device.clone()).await, Err(StoreError::NotFound("device"))));
    let unknown = "cam-02".parse().unwrap();
    assert!(matches!(put(tenant.clone(), here.clone(), unknown).await, Err(StoreError::NotFound("device"))));
    put(tenant.clone(), here.clone(), device.clone()).await.unwrap();
    assert_eq!(store.grant_of(&acme, &here, &device).await.unwrap(), None);
    assert_eq!(store.grants_of_user(&acme, &here).await.unwrap(), []);
    assert_eq!(store.grants_on_device(&acme, &device).await.unwrap(), []);
    assert_eq!(store.grant_sequence(&acme).await.unwrap(), 0);
}

#[tokio::test]
async fn a_device_goes_only_after_its_certificates_and_takes_its_grants_along() {
    let scene = Scene::new().await;
    let (store, tenant) = (&scene.store, TenantName::default());
    scene.enrol("cam-01", 1).await;
    let device: DeviceId = "cam-01".parse().unwrap();
    let alice = user(store, &tenant, "alice").await;
    store
        .put_grant(&tenant, &device, &alice, grant(Level::Owner), &Actor::System, Timestamp(5))
        .await
        .unwrap();

    let early = store.remove_device(&tenant, &device, &Actor::System, Timestamp(6)).await;
    assert!(matches!(early, Err(StoreError::Conflict { .. })));
    let reference = scene::device("cam-01");
    store.revoke_device(&reference, Default::default(), &Actor::System, Timestamp(7)).await.unwrap();
    let removed = store.remove_device(&tenant, &device, &Actor::System, Timestamp(8)).await.unwrap();
    assert_eq!(removed.grant_sequence, 2);
    assert_eq!(store.device(&tenant, &device).await.unwrap(), None);
    assert_eq!(store.grants_of_user(&tenant, &alice).await.unwrap(), []);
    let change = store.grant_changes_since(Timestamp(8)).await.unwrap().remove(0);
    assert_eq!((change.user, change.sequence), (None, 2));
    let twice = store.remove_device(&tenant, &device, &Actor::System, Timestamp(9)).await;
    assert!(matches!(twice, Err(StoreError::NotFound("device"))));
}

#[tokio::test]
async fn devices_are_listed_by_page_and_only_in_their_tenant() {
    let scene = Scene::new().await;
    let (store, tenant) = (&scene.store, TenantName::default());
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        scene.enrol(name, number as u8 + 1).await;
    }
    let ids = |rows: Vec<store::DeviceRow>| {
        rows.into_iter().map(|r| r.device.device.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(store.devices(&tenant, None, 2).await.unwrap()), ["a", "b"]);
    let after = "b".parse().unwrap();
    assert_eq!(ids(store.devices(&tenant, Some(&after), 2).await.unwrap()), ["c"]);
    assert_eq!(ids(store.devices(&"acme".parse().unwrap(), None, 2).await.unwrap()), Vec::<String>::new());
}
