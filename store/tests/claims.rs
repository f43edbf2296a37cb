//! Claim codes, claims, releases and transfers, as `client-api` uses them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use futures_util::future::join_all;
use model::{Actor, ClaimDigest, DeviceRef, Grant, Level, ServiceSet, TenantName, Timestamp, UserId};
use scene::Scene;
use store::{Claim, Claimable, DeviceEdit, NewEvent, Offer, Store, StoreError, TransferRow};

const BY: Actor = Actor::System;
const AT: Timestamp = Timestamp(1000);

fn digest(number: u8) -> ClaimDigest {
    ClaimDigest([number; 32])
}

fn grant(level: Level) -> Grant {
    Grant { level, services: ServiceSet::all(), until: None }
}

async fn user(store: &Store, tenant: &TenantName, number: u8) -> UserId {
    let fresh = UserId::from_random([number; 16]);
    let subject = number.to_string();
    let user = store.find_or_create_user(tenant, "https://idp", &subject, None, fresh, AT);
    user.await.unwrap().id
}

async fn enrolled(scene: &Scene) -> (&Store, DeviceRef) {
    scene.enrol("cam-01", 1).await;
    (&scene.store, scene::device("cam-01"))
}

async fn share(store: &Store, device: &DeviceRef, user: &UserId, level: Level) {
    store.put_grant(&device.tenant, &device.device, user, grant(level), &BY, AT).await.unwrap();
}

async fn events(store: &Store) -> Vec<NewEvent> {
    let rows = store.events_after(0, 1000).await.unwrap();
    rows.into_iter().map(|row| row.event).filter(|event| event.subject.starts_with("device.")).collect()
}

fn subjects(events: &[NewEvent]) -> Vec<(&str, Option<&UserId>)> {
    events.iter().map(|event| (event.subject.as_str(), event.user.as_ref())).collect()
}

#[tokio::test]
async fn a_code_is_replaced_only_by_one_who_saw_it() {
    let scene = Scene::new().await;
    let (store, device) = enrolled(&scene).await;
    let state = async || store.claim_state(&device, AT).await.unwrap().unwrap();
    assert_eq!((state().await.owned, state().await.code), (false, None));
    assert!(store.put_claim_code(&device, None, digest(1), AT).await.unwrap());
    assert!(!store.put_claim_code(&device, None, digest(2), AT).await.unwrap());
    assert!(!store.claim_code_delivered(&device, digest(2), AT).await.unwrap());
    assert!(store.claim_code_delivered(&device, digest(1), Timestamp(5)).await.unwrap());
    assert!(store.claim_code_delivered(&device, digest(1), Timestamp(9)).await.unwrap());
    let code = state().await.code.unwrap();
    assert_eq!((code.digest, code.delivered_at), (digest(1), Some(Timestamp(5))));
    assert!(store.put_claim_code(&device, Some(digest(1)), digest(2), AT).await.unwrap());
    assert_eq!(state().await.code.unwrap().delivered_at, None);
    let nobody = scene::device("nobody");
    assert_eq!(store.claim_state(&nobody, AT).await.unwrap(), None);
    assert!(!store.put_claim_code(&nobody, None, digest(3), AT).await.unwrap());
    let racers = (10..26).map(|number| store.put_claim_code(&device, Some(digest(2)), digest(number), AT));
    let won = join_all(racers).await.into_iter().filter(|outcome| *outcome.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn sixteen_who_claim_with_one_code_make_one_owner() {
    let scene = Scene::new().await;
    let (store, device) = enrolled(&scene).await;
    let tenant = TenantName::default();
    let mut users = vec![];
    for number in 1..=16 {
        users.push(user(store, &tenant, number).await);
    }
    store.put_claim_code(&device, None, digest(1), AT).await.unwrap();
    let racers = users.iter().map(|user| store.claim(&tenant, digest(1), user, &BY, AT));
    let outcomes: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> =
        outcomes.iter().zip(&users).filter(|(outcome, _)| matches!(outcome, Claim::Done { .. })).collect();
    let [(Claim::Done { device: claimed, grant_sequence }, winner)] = winners[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((claimed, *grant_sequence), (&device, 1));
    assert!(outcomes.iter().filter(|outcome| **outcome == Claim::NoSuchCode).count() == 15, "{outcomes:?}");
    let grants = store.grants_on_device(&tenant, &device.device).await.unwrap();
    assert_eq!(grants, [((*winner).clone(), grant(Level::Owner))]);
    assert_eq!(subjects(&events(store).await), [("device.claimed", Some(winner))]);
    let audited = store.audit(0, 100).await.unwrap();
    assert_eq!(audited.iter().filter(|row| row.action == "device.claim").count(), 1);
    // The code died with the claim; no new one comes while somebody owns the device.
    let state = store.claim_state(&device, AT).await.unwrap().unwrap();
    assert!(state.owned && state.code.is_none());
    assert!(!store.put_claim_code(&device, None, digest(2), AT).await.unwrap());
}

#[tokio::test]
async fn a_code_is_found_by_its_tenant_alone_and_says_whether_the_device_is_owned() {
    let scene = Scene::new().await;
    let (store, device) = enrolled(&scene).await;
    let (tenant, acme): (TenantName, TenantName) = (TenantName::default(), "acme".parse().unwrap());
    store.create_tenant(&acme, &BY, AT).await.unwrap();
    store.put_claim_code(&device, None, digest(1), AT).await.unwrap();
    let free = Claimable { device: device.device.clone(), owned: false };
    assert_eq!(store.claimable(&tenant, digest(1), AT).await.unwrap(), Some(free.clone()));
    assert_eq!(store.claimable(&acme, digest(1), AT).await.unwrap(), None);
    assert_eq!(store.claimable(&tenant, digest(2), AT).await.unwrap(), None);
    let eve = user(store, &acme, 9).await;
    assert_eq!(store.claim(&acme, digest(1), &eve, &BY, AT).await.unwrap(), Claim::NoSuchCode);
    // An operator made somebody the owner, until a moment.
    let alice = user(store, &tenant, 1).await;
    let until = Grant { until: Some(Timestamp(2000)), ..grant(Level::Owner) };
    store.put_grant(&tenant, &device.device, &alice, until, &BY, AT).await.unwrap();
    assert!(store.claimable(&tenant, digest(1), AT).await.unwrap().unwrap().owned);
    let bob = user(store, &tenant, 2).await;
    assert_eq!(store.claim(&tenant, digest(1), &bob, &BY, AT).await.unwrap(), Claim::AlreadyOwned);
    let later = Timestamp(2000);
    assert_eq!(store.claimable(&tenant, digest(1), later).await.unwrap(), Some(free));
    assert!(matches!(
        store.claim(&tenant, digest(1), &bob, &BY, later).await.unwrap(),
        Claim::Done { grant_sequence: 2, .. }
    ));
}

#[tokio::test]
async fn a_release_ends_everything_that_hung_on_the_owner() {
    let scene = Scene::new().await;
    let (store, device) = enrolled(&scene).await;
    let tenant = TenantName::default();
    let (alice, bob, carol) =
        (user(store, &tenant, 1).await, user(store, &tenant, 2).await, user(store, &tenant, 3).await);
    assert_eq!(store.release_device(&device, None, "owner", &BY, AT).await.unwrap(), None);
    share(store, &device, &alice, Level::Owner).await;
    share(store, &device, &bob, Level::Viewer).await;
    let edit = DeviceEdit {
        name: Some(Some("Alice's bedroom".parse().unwrap())),
        tags: Some(vec!["private".parse().unwrap()]),
    };
    let edited = store.edit_device(&device, &alice, edit, 1, &BY, AT).await.unwrap().unwrap();
    assert!(edited.name.is_some() && edited.tags.len() == 1);
    let offer = offer("tr_1", &device, &alice, &carol);
    assert_eq!(store.offer_transfer(offer, &BY).await.unwrap(), Offer::Made);
    assert_eq!(store.release_device(&device, Some(&bob), "owner", &BY, AT).await.unwrap(), None);
    let released = store.release_device(&device, Some(&alice), "owner", &BY, AT).await.unwrap().unwrap();
    assert_eq!((released.owner, released.users), (alice.clone(), vec![alice.clone(), bob]));
    assert_eq!(released.grant_sequence, 3);
    assert!(store.grants_on_device(&tenant, &device.device).await.unwrap().is_empty());
    assert_eq!(store.transfers_of_user(&tenant, &carol, AT, 10).await.unwrap(), []);
    let left = store.device(&tenant, &device.device).await.unwrap().unwrap();
    assert_eq!((left.name, left.tags), (None, vec![]));
    assert_eq!(subjects(&events(store).await), [("device.released", Some(&alice))]);
    let changes = store.grant_changes_since(AT).await.unwrap();
    assert_eq!((changes[2].user.as_ref(), changes[2].sequence), (None, 3));
    // A new code can come now.
    assert!(store.put_claim_code(&device, None, digest(7), AT).await.unwrap());
}

fn offer(id: &str, device: &DeviceRef, from: &UserId, to: &UserId) -> TransferRow {
    TransferRow {
        id: id.into(),
        device: device.clone(),
        from: from.clone(),
        to: to.clone(),
        offered_at: AT,
        expires_at: Timestamp(2000),
    }
}

#[tokio::test]
async fn a_device_changes_hands_once_and_only_as_it_was_offered() {
    let scene = Scene::new().await;
    let (store, device) = enrolled(&scene).await;
    let tenant = TenantName::default();
    let (alice, bob, carol) =
        (user(store, &tenant, 1).await, user(store, &tenant, 2).await, user(store, &tenant, 3).await);
    share(store, &device, &alice, Level::Owner).await;
    share(store, &device, &carol, Level::Operator).await;
    let stranger = UserId::from_random([77; 16]);
    let offered = async |from, to| store.offer_transfer(offer("tr_1", &device, from, to), &BY).await.unwrap();
    assert_eq!(offered(&carol, &bob).await, Offer::NotOwner);
    assert_eq!(offered(&alice, &stranger).await, Offer::NoSuchUser);
    assert_eq!(offered(&alice, &bob).await, Offer::Made);
    for person in [&alice, &bob] {
        let seen = store.transfers_of_user(&tenant, person, AT, 10).await.unwrap();
        assert_eq!(seen, [offer("tr_1", &device, &alice, &bob)]);
    }
    assert_eq!(store.transfers_of_user(&tenant, &carol, AT, 10).await.unwrap(), []);
    let accept = async |who, at| store.accept_transfer(&tenant, "tr_1", who, &BY, at).await.unwrap();
    assert_eq!(accept(&carol, AT).await, None);
    assert_eq!(accept(&alice, AT).await, None);
    assert_eq!(accept(&bob, Timestamp(2000)).await, None, "it has ended by itself");
    let racers = (0..8).map(|_| accept(&bob, AT));
    let won: Vec<_> = join_all(racers).await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].users, [alice.clone(), carol]);
    assert_eq!((won[0].ended_sequence, won[0].grant_sequence), (3, 4));
    let grants = store.grants_on_device(&tenant, &device.device).await.unwrap();
    assert_eq!(grants, [(bob.clone(), grant(Level::Owner))]);
    let log = events(store).await;
    assert_eq!(subjects(&log), [("device.released", Some(&alice)), ("device.claimed", Some(&bob))]);
}

#[tokio::test]
async fn an_offer_is_withdrawn_declined_or_replaced_and_dies_with_the_ownership() {
    let scene = Scene::new().await;
    let (store, device) = enrolled(&scene).await;
    let tenant = TenantName::default();
    let (alice, bob, carol) =
        (user(store, &tenant, 1).await, user(store, &tenant, 2).await, user(store, &tenant, 3).await);
    share(store, &device, &alice, Level::Owner).await;
    let offered = async |id, to| {
        let made = store.offer_transfer(offer(id, &device, &alice, to), &BY).await.unwrap();
        assert_eq!(made, Offer::Made);
    };
    let end = async |id, who| store.end_transfer(&tenant, id, who, &BY, AT).await.unwrap();
    let accept = async |id, who| store.accept_transfer(&tenant, id, who, &BY, AT).await.unwrap();
    offered("tr_1", &bob).await;
    assert!(!end("tr_1", &carol).await, "not hers to end");
    assert!(end("tr_1", &bob).await && !end("tr_1", &bob).await);
    offered("tr_2", &bob).await;
    assert!(end("tr_2", &alice).await && accept("tr_2", &bob).await.is_none());
    offered("tr_3", &bob).await;
    offered("tr_4", &carol).await;
    assert_eq!(accept("tr_3", &bob).await, None);
    // The operator took the device from her in the meantime.
    store.remove_grant(&tenant, &device.device, &alice, &BY, AT).await.unwrap();
    assert_eq!(accept("tr_4", &carol).await, None);
    let done: Vec<_> = store.audit(0, 100).await.unwrap().into_iter().map(|row| row.action).collect();
    for action in ["transfer.offer", "transfer.decline", "transfer.withdraw"] {
        assert!(done.iter().any(|one| one == action), "{action}: {done:?}");
    }
    // What is left does not stand in the way of a removal.
    let error = store.remove_device(&tenant, &device.device, &BY, AT).await;
    assert!(matches!(error, Err(StoreError::Conflict { .. })), "the certificate lives: {error:?}");
    store.revoke_device(&device, model::RevocationReason::CessationOfOperation, &BY, AT).await.unwrap();
    store.put_claim_code(&device, None, digest(1), AT).await.unwrap();
    store.remove_device(&tenant, &device.device, &BY, AT).await.unwrap();
    assert_eq!(store.claimable(&tenant, digest(1), AT).await.unwrap(), None);
}
