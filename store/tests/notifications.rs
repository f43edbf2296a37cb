//! Inboxes, webhooks and what is on its way to them, as `client-api` uses them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use model::{
    Actor, DeliveryId, DeviceId, DeviceRef, DoorKey, Grant, Level, PushRegistrationId, ServiceSet,
    TenantName, Timestamp, UserActor, UserId, WebhookId,
};
use scene::Scene;
use serde_json::json;
use store::{
    Attempt, Attempted, EventRow, InboxQuery, NewDelivery, NewEvent, Platform, PushRegistrationRow, Sorted,
    Store, StoreError, WebhookWish,
};

const NOW: Timestamp = Timestamp(1_000_000);
const LATER: Timestamp = Timestamp(2_000_000);

struct Room {
    _scene: Scene,
    store: Store,
    tenant: TenantName,
    device: DeviceId,
    alice: UserActor,
    bob: UserActor,
}

impl Room {
    /// Alice owns `cam-01`; Bob is there.
    async fn new() -> Self {
        let scene = Scene::new().await;
        scene.enrol("cam-01", 1).await;
        let (store, tenant) = (scene.store.clone(), TenantName::default());
        let mut people = vec![];
        for (number, name) in ["alice", "bob"].into_iter().enumerate() {
            let fresh = UserId::from_random([number as u8; 16]);
            let user =
                store.find_or_create_user(&tenant, "https://idp", name, None, fresh, NOW).await.unwrap();
            people.push(UserActor::new(
                &DoorKey::cut(),
                user.id,
                tenant.clone(),
                user.issuer,
                user.subject,
                user.email,
            ));
        }
        let bob = people.pop().unwrap();
        let alice = people.pop().unwrap();
        let room = Self { _scene: scene, store, tenant, device: "cam-01".parse().unwrap(), alice, bob };
        room.grant(&room.alice, Level::Owner, None).await;
        room.settle().await;
        room
    }

    async fn grant(&self, user: &UserActor, level: Level, until: Option<Timestamp>) {
        let grant = Grant { level, services: ServiceSet::all(), until };
        let put = self.store.put_grant(&self.tenant, &self.device, user.user(), grant, &Actor::System, NOW);
        put.await.unwrap();
    }

    async fn ungrant(&self, user: &UserActor) {
        let removed =
            self.store.remove_grant(&self.tenant, &self.device, user.user(), &Actor::System, NOW).await;
        assert!(removed.unwrap().is_some());
    }

    /// Reads the log to its end.
    async fn settle(&self) {
        let from = self.store.sorted_upto().await.unwrap();
        let upto = *self.store.newest_event().borrow();
        assert!(self.store.file_sorted(from, upto, vec![], NOW).await.unwrap());
    }

    async fn event(&self, subject: &str) -> EventRow {
        let device = DeviceRef::new(self.tenant.clone(), self.device.clone());
        let event = NewEvent::of_device(&device, subject, NOW).with(json!({"title": "hello"}));
        let seq = self.store.append_events(vec![event], NOW).await.unwrap()[0].unwrap();
        self.store.events_after(seq - 1, 1).await.unwrap().remove(0)
    }

    async fn webhook(&self, owner: &UserActor, number: u8, types: Option<&str>) -> WebhookId {
        let id = WebhookId::from_random([number; 16]);
        let types = types.map(|types| types.split(' ').map(str::to_owned).collect());
        let wish = WebhookWish { url: "https://example.com/".into(), types, devices: None, enabled: true };
        self.store.add_webhook(owner, &id, wish, vec![number; 60], 10, NOW).await.unwrap();
        id
    }

    fn delivery(&self, user: &UserActor, target: &WebhookId, number: u8) -> NewDelivery {
        NewDelivery {
            id: DeliveryId::from_random([number; 16]),
            user: user.user().clone(),
            channel: "webhook",
            target: target.as_str().into(),
            body: "{}".into(),
        }
    }

    async fn file(&self, event: EventRow, inboxes: &[&UserActor], deliveries: Vec<NewDelivery>) {
        let inboxes = inboxes.iter().map(|user| user.user().clone()).collect();
        let (from, upto) = (self.store.sorted_upto().await.unwrap(), event.seq);
        let sorted = vec![Sorted { event, inboxes, deliveries }];
        assert!(self.store.file_sorted(from, upto, sorted, NOW).await.unwrap());
    }

    async fn inbox(&self, user: &UserActor) -> Vec<u64> {
        let query = InboxQuery { limit: 100, ..InboxQuery::default() };
        let rows = self.store.inbox(&self.tenant, user.user(), query, NOW).await.unwrap();
        rows.iter().map(|row| row.sequence).collect()
    }
}

#[tokio::test]
async fn those_who_may_know_are_those_with_a_live_grant_at_that_moment() {
    let room = Room::new().await;
    room.grant(&room.bob, Level::Viewer, Some(Timestamp(NOW.0 + 10))).await;
    let event = room.event("notification").await;
    let users = |all: Vec<store::Recipient>| all.into_iter().map(|one| one.user).collect::<Vec<_>>();
    let both = users(room.store.audience(&event, NOW).await.unwrap());
    assert_eq!(both, [room.alice.user().clone(), room.bob.user().clone()]);
    let after = users(room.store.audience(&event, Timestamp(NOW.0 + 10)).await.unwrap());
    assert_eq!(after, [room.alice.user().clone()]);
    // What became of Bob's right is told to Bob and the owner, also once nothing of it is left.
    room.grant(&room.bob, Level::Viewer, None).await;
    room.ungrant(&room.bob).await;
    let newest = *room.store.newest_event().borrow();
    let change = room.store.events_after(newest - 1, 1).await.unwrap().remove(0);
    assert_eq!(
        (change.event.subject.as_str(), change.event.user.as_ref()),
        ("grant.changed", Some(room.bob.user()))
    );
    let told = users(room.store.audience(&change, NOW).await.unwrap());
    assert_eq!(told, [room.alice.user().clone(), room.bob.user().clone()]);
    // The next owner sees nothing of the last.
    room.event("device.released").await;
    assert_eq!(users(room.store.audience(&event, NOW).await.unwrap()), []);
}

#[tokio::test]
async fn the_log_is_filed_once_and_a_lost_grant_files_nothing() {
    let room = Room::new().await;
    room.grant(&room.bob, Level::Viewer, None).await;
    let hook = room.webhook(&room.bob, 1, None).await;
    let from = room.store.sorted_upto().await.unwrap();
    let event = room.event("notification").await;
    let sorted = || {
        vec![Sorted {
            event: event.clone(),
            inboxes: vec![room.alice.user().clone(), room.bob.user().clone()],
            deliveries: vec![room.delivery(&room.bob, &hook, 1)],
        }]
    };
    // Between the reading and the filing.
    room.ungrant(&room.bob).await;
    assert!(room.store.file_sorted(from, event.seq, sorted(), NOW).await.unwrap());
    assert_eq!(room.inbox(&room.alice).await, [event.seq]);
    assert!(room.store.due_deliveries(NOW, 10).await.unwrap().is_empty());
    room.grant(&room.bob, Level::Viewer, None).await;
    assert_eq!(room.inbox(&room.bob).await, [] as [u64; 0]);
    assert!(!room.store.file_sorted(from, event.seq, sorted(), NOW).await.unwrap(), "the mark has moved");
    assert!(room.store.due_deliveries(NOW, 10).await.unwrap().is_empty());
    assert!(room.store.file_sorted(event.seq, event.seq, sorted(), NOW).await.unwrap(), "control");
    assert_eq!(room.inbox(&room.bob).await, [event.seq]);
    assert_eq!(room.store.due_deliveries(NOW, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_inbox_shows_what_its_user_may_see_now_and_remembers_what_was_read() {
    let room = Room::new().await;
    room.grant(&room.bob, Level::Viewer, None).await;
    let first = room.event("notification").await;
    let second = room.event("notification").await;
    for event in [&first, &second] {
        room.file(event.clone(), &[&room.alice, &room.bob], vec![]).await;
    }
    assert_eq!(room.inbox(&room.bob).await, [second.seq, first.seq]);
    let (store, tenant, bob) = (&room.store, &room.tenant, room.bob.user());
    assert!(store.note_read(tenant, bob, first.seq, NOW).await.unwrap());
    assert!(!store.note_read(tenant, bob, 9999, NOW).await.unwrap());
    let unread = InboxQuery { unread: true, limit: 100, ..InboxQuery::default() };
    let rows = store.inbox(tenant, bob, unread, NOW).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [second.seq]);
    room.ungrant(&room.bob).await;
    assert_eq!(room.inbox(&room.bob).await, [] as [u64; 0]);
    assert!(!store.note_read(tenant, bob, second.seq, NOW).await.unwrap());
    assert_eq!(room.inbox(&room.alice).await.len(), 2, "control");
    let released = room.event("device.released").await;
    assert_eq!(room.inbox(&room.alice).await, [] as [u64; 0], "hidden before the log was read");
    room.file(released, &[], vec![]).await;
    assert_eq!(store.forget_old_notifications(LATER).await.unwrap(), 0, "forgotten with the device");
}

#[tokio::test]
async fn a_receiver_gets_one_at_a_time_and_a_failing_one_is_left_alone_without_delaying_others() {
    let room = Room::new().await;
    let (slow, quick) = (room.webhook(&room.alice, 1, None).await, room.webhook(&room.alice, 2, None).await);
    for number in 0..2 {
        let event = room.event("notification").await;
        let deliveries = vec![
            room.delivery(&room.alice, &slow, 10 + number),
            room.delivery(&room.alice, &quick, 20 + number),
        ];
        room.file(event, &[], deliveries).await;
    }
    let due = room.store.due_deliveries(NOW, 10).await.unwrap();
    assert_eq!(due.len(), 2, "one of each: {due:?}");
    assert!(due.iter().all(|one| one.is_granted && one.endpoint.is_some()));
    let (resume_at, next_at) = (Timestamp(NOW.0 + 10), Timestamp(NOW.0 + 20));
    let failed = Attempt {
        outcome: Attempted::Again { next_at, resume_at },
        status: Some(500),
        reason: Some("it answered 500".into()),
    };
    let done = Attempt { outcome: Attempted::Delivered, status: Some(204), reason: None };
    room.store.note_attempt(&due[0], failed, NOW).await.unwrap();
    room.store.note_attempt(&due[1], done.clone(), NOW).await.unwrap();
    let due_at = |at| {
        let store = room.store.clone();
        async move {
            let due = store.due_deliveries(at, 10).await.unwrap();
            due.into_iter().map(|one| (one.target, one.attempts)).collect::<Vec<_>>()
        }
    };
    assert_eq!(due_at(NOW).await, [(quick.as_str().to_owned(), 0)]);
    assert_eq!(room.store.next_delivery_at().await.unwrap(), Some(NOW));
    let both = due_at(resume_at).await;
    assert!(
        both.contains(&(slow.as_str().to_owned(), 0)),
        "the second is tried before the first again: {both:?}"
    );
    let listed = room.store.deliveries(&room.tenant, room.alice.user(), slow.as_str(), None, None, 10).await;
    let listed = listed.unwrap();
    assert_eq!((listed[1].attempts, listed[1].status, listed[1].next_at), (1, Some(500), next_at));
    let hook = room.store.webhook(&room.tenant, room.alice.user(), &slow).await.unwrap().unwrap();
    assert_eq!(hook.failing_since, Some(NOW));
    // Delivered ones are not due again but by name.
    let id =
        room.store.deliveries(&room.tenant, room.alice.user(), quick.as_str(), Some("delivered"), None, 10);
    let id = id.await.unwrap()[0].id.clone();
    let foreign = room.store.redeliver(&room.tenant, room.bob.user(), quick.as_str(), &id, NOW).await;
    assert!(matches!(foreign, Err(StoreError::NotFound("delivery"))));
    let again =
        room.store.redeliver(&room.tenant, room.alice.user(), quick.as_str(), &id, NOW).await.unwrap();
    assert_eq!((again.id, again.state.as_str(), again.attempts), (id, "pending", 0));
}

#[tokio::test]
async fn what_waits_when_a_grant_ends_is_not_to_be_told() {
    let room = Room::new().await;
    room.grant(&room.bob, Level::Viewer, None).await;
    let hook = room.webhook(&room.bob, 1, None).await;
    let event = room.event("notification").await;
    room.file(event, &[], vec![room.delivery(&room.bob, &hook, 1)]).await;
    assert!(room.store.due_deliveries(NOW, 10).await.unwrap()[0].is_granted, "control");
    room.ungrant(&room.bob).await;
    assert!(!room.store.due_deliveries(NOW, 10).await.unwrap()[0].is_granted);
}

#[tokio::test]
async fn what_waits_is_bounded_for_each_user_and_given_up_and_forgotten_in_time() {
    let room = Room::new().await;
    let hook = room.webhook(&room.alice, 1, None).await;
    let mut from = room.store.sorted_upto().await.unwrap();
    for _ in 0..1003_u32 {
        let event = room.event("notification").await;
        let id = DeliveryId::from_random(u128::from(event.seq).to_be_bytes());
        let delivery = NewDelivery { id, ..room.delivery(&room.alice, &hook, 0) };
        let (upto, inboxes) = (event.seq, vec![room.alice.user().clone()]);
        let sorted = vec![Sorted { event, inboxes, deliveries: vec![delivery] }];
        assert!(room.store.file_sorted(from, upto, sorted, NOW).await.unwrap());
        from = upto;
    }
    let row = room.store.webhook(&room.tenant, room.alice.user(), &hook).await.unwrap().unwrap();
    assert_eq!(row.overflowed, 3);
    let all = InboxQuery { limit: 5000, ..InboxQuery::default() };
    assert_eq!(room.store.inbox(&room.tenant, room.alice.user(), all, NOW).await.unwrap().len(), 1000);
    let mut given_up = 0;
    loop {
        let some = room.store.forget_old_deliveries(LATER, NOW, LATER).await.unwrap();
        given_up += some;
        if some == 0 {
            break;
        }
    }
    assert_eq!(given_up, 1000);
    assert!(room.store.due_deliveries(LATER, 10).await.unwrap().is_empty());
    let after = Timestamp(LATER.0 + 1);
    assert_eq!(room.store.forget_old_deliveries(NOW, after, after).await.unwrap(), 500, "some at a time");
}

#[tokio::test]
async fn only_what_may_concern_somebody_is_read_from_the_log() {
    let room = Room::new().await;
    let from = *room.store.newest_event().borrow();
    for subject in ["telemetry", "device.connected", "notification"] {
        room.event(subject).await;
    }
    let subjects =
        |stretch: store::Stretch| stretch.events.into_iter().map(|row| row.event.subject).collect::<Vec<_>>();
    let stretch = room.store.stretch_of_events(from, 100).await.unwrap();
    assert_eq!(stretch.upto, from + 3);
    assert_eq!(subjects(stretch), ["notification"]);
    room.webhook(&room.bob, 1, None).await;
    let stretch = room.store.stretch_of_events(from, 100).await.unwrap();
    assert_eq!(subjects(stretch), ["device.connected", "notification"]);
    room.webhook(&room.bob, 2, Some("device.claimed telemetry")).await;
    let stretch = room.store.stretch_of_events(from, 2).await.unwrap();
    assert_eq!(stretch.upto, from + 2);
    assert_eq!(subjects(stretch), ["telemetry", "device.connected"]);
}

#[tokio::test]
async fn an_app_belongs_to_who_signed_in_last_and_the_oldest_makes_room() {
    let room = Room::new().await;
    let register = |user: &UserActor, number: u8, token: &str, most| {
        let row = PushRegistrationRow {
            id: PushRegistrationId::from_random([number; 16]),
            tenant: room.tenant.clone(),
            user: user.user().clone(),
            platform: Platform::Android,
            token: token.into(),
            created_at: Timestamp(NOW.0 + i64::from(number)),
        };
        let store = room.store.clone();
        async move { store.put_push_registration(row, most).await.unwrap() }
    };
    let of = |user: &UserActor| {
        let (store, tenant, user) = (room.store.clone(), room.tenant.clone(), user.user().clone());
        async move {
            let all = store.push_registrations_of(&tenant, &user).await.unwrap();
            all.into_iter().map(|row| row.token).collect::<Vec<_>>()
        }
    };
    let first = register(&room.alice, 1, "phone", 2).await;
    assert_eq!(register(&room.alice, 2, "phone", 2).await, first, "the same again");
    register(&room.bob, 3, "phone", 2).await;
    assert_eq!((of(&room.alice).await, of(&room.bob).await), (vec![], vec!["phone".to_owned()]));
    register(&room.bob, 4, "tablet", 2).await;
    register(&room.bob, 5, "watch", 2).await;
    assert_eq!(of(&room.bob).await, ["watch", "tablet"]);
    let (tenant, bob) = (&room.tenant, room.bob.user());
    assert!(!room.store.remove_push_token(tenant, room.alice.user(), "watch").await.unwrap());
    assert!(room.store.remove_push_token(tenant, bob, "watch").await.unwrap());
    assert_eq!(of(&room.bob).await, ["tablet"]);
}
