//! Subscriptions on a real store: what is handed out, to whom, in which order, and when it ends.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use model::{
    Actor, DeviceId, DeviceRef, DoorKey, Grant, Level, ServiceSet, SubscriberActor, TenantName, Timestamp,
    UserId,
};
use runtime::{Clock, ManualClock, Tasks};
use serde_json::json;
use store::{EventsKept, ForgettingStep, NewEvent};
use tokio::time::timeout;

use super::{
    conditions::Conditions,
    feed::{Ending, Feed, Interest, QUEUE},
    subscription::Subscription,
    topic::Pattern,
};
use crate::testing::{NOW, Room};

#[derive(Clone)]
struct Scene {
    room: Room,
    feed: Arc<Feed>,
    clock: Clock,
    hand: ManualClock,
    _tasks: Tasks,
}

impl Scene {
    /// Two devices, and a feed that follows the log.
    async fn new() -> Self {
        let room = Room::new().await;
        room.device("default", "cam-01").await;
        room.device("default", "cam-02").await;
        let (clock, hand) = Clock::manual(NOW);
        let feed = Feed::new(room.store.clone(), clock.clone());
        let tasks = Tasks::new();
        tasks.spawn(Arc::clone(&feed).run());
        Self { room, feed, clock, hand, _tasks: tasks }
    }

    async fn person(&self, name: &str) -> UserId {
        let fresh = UserId::from_random([name.as_bytes()[0]; 16]);
        let tenant = tenant();
        let found = self.room.store.find_or_create_user(&tenant, "https://idp", name, None, fresh, NOW);
        found.await.unwrap().id
    }

    async fn grant(&self, user: &UserId, device: &str, level: Level, until: Option<Timestamp>) {
        let grant = Grant { level, services: ServiceSet::all(), until };
        let (tenant, device) = (tenant(), id(device));
        let put = self.room.store.put_grant(&tenant, &device, user, grant, &Actor::System, NOW);
        put.await.unwrap();
    }

    async fn take_away(&self, user: &UserId, device: &str) {
        let (tenant, device) = (tenant(), id(device));
        let removed = self.room.store.remove_grant(&tenant, &device, user, &Actor::System, NOW);
        removed.await.unwrap().unwrap();
    }

    async fn tell(&self, device: &str, numbers: std::ops::Range<u64>) -> Vec<u64> {
        let events = numbers.map(|number| telemetry(device, number)).collect();
        let told = self.room.store.append_events(events, NOW).await.unwrap();
        told.into_iter().map(Option::unwrap).collect()
    }

    /// Leaves so many of the newest events.
    async fn forget(&self, at_most: u64) {
        let kept = EventsKept { since: Timestamp(0), at_most, bytes: u64::MAX, looked_at: u64::MAX };
        let step = ForgettingStep { events: 100_000, bytes: u64::MAX >> 1 };
        self.room.store.forget_events(kept, step).await.unwrap();
    }

    async fn listen(&self, user: &UserId, interest: Interest, after: Option<u64>) -> Subscription {
        self.open(user, interest, false, after).await
    }

    async fn open(
        &self,
        user: &UserId,
        interest: Interest,
        sticky: bool,
        after: Option<u64>,
    ) -> Subscription {
        let until = NOW.plus(Duration::from_secs(3600));
        let actor = SubscriberActor::new(&DoorKey::cut(), tenant(), user.clone(), None, None, until);
        let (store, clock, feed) = (self.room.store.clone(), self.clock.clone(), Arc::clone(&self.feed));
        let opened = Subscription::open(store, clock, feed, &actor, interest, sticky, after);
        opened.await.unwrap_or_else(|refusal| panic!("{}", refusal.detail))
    }
}

fn tenant() -> TenantName {
    TenantName::default()
}

fn id(device: &str) -> DeviceId {
    device.parse().unwrap()
}

fn telemetry(device: &str, number: u64) -> NewEvent {
    let device = DeviceRef::new(tenant(), id(device));
    NewEvent::of_device(&device, "telemetry", NOW).with(json!({ "n": number }))
}

fn all() -> Interest {
    Interest { pattern: Pattern::all(), conditions: Conditions::default(), devices: None }
}

fn only(pattern: &str) -> Interest {
    Interest { pattern: Pattern::parse(pattern).unwrap(), ..all() }
}

/// The next event's number in the log, or why there is none.
async fn next(subscription: &mut Subscription) -> Result<u64, Ending> {
    let next = timeout(Duration::from_secs(20), subscription.next()).await;
    next.expect("an event or an end").map(|event| event.row.seq)
}

#[tokio::test]
async fn people_hear_of_their_own_devices_in_order_and_of_no_other() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.person("alice").await, scene.person("bob").await);
    scene.grant(&alice, "cam-01", Level::Owner, None).await;
    scene.grant(&bob, "cam-02", Level::Viewer, None).await;
    let mut of_alice = scene.listen(&alice, only("telemetry"), None).await;
    let mut of_bob = scene.listen(&bob, only("telemetry"), None).await;
    let first = scene.tell("cam-01", 0..5).await;
    let second = scene.tell("cam-02", 5..8).await;
    let third = scene.tell("cam-01", 8..10).await;
    for expected in first.into_iter().chain(third) {
        assert_eq!(next(&mut of_alice).await, Ok(expected));
    }
    for expected in second {
        assert_eq!(next(&mut of_bob).await, Ok(expected));
    }
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_and_then_what_is_live_nothing_twice() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    let mut expected = scene.tell("cam-01", 0..6000).await;
    let after = expected[9];
    let mut subscription = scene.listen(&alice, only("telemetry"), Some(after)).await;
    let (more, heard) = tokio::join!(
        async {
            let mut more = vec![];
            for batch in 0..40 {
                more.extend(scene.tell("cam-01", batch * 20..batch * 20 + 20).await);
            }
            more
        },
        async {
            let mut heard = vec![];
            while heard.len() < 6000 - 10 + 800 {
                heard.push(next(&mut subscription).await.unwrap());
            }
            heard
        }
    );
    expected.drain(..10);
    expected.extend(more);
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn conditions_and_devices_narrow_what_is_heard() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    scene.grant(&alice, "cam-02", Level::Viewer, None).await;
    let conditions = Conditions::parse("n=gte:3").unwrap();
    let interest =
        Interest { conditions, devices: Some(BTreeSet::from([id("cam-02")])), ..only("telemetry") };
    let mut subscription = scene.listen(&alice, interest, None).await;
    scene.tell("cam-01", 0..9).await;
    let told = scene.tell("cam-02", 0..5).await;
    assert_eq!(next(&mut subscription).await, Ok(told[3]));
    assert_eq!(next(&mut subscription).await, Ok(told[4]));
}

#[tokio::test]
async fn a_right_that_is_lost_ends_a_topic_and_silences_a_stream() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    scene.grant(&alice, "cam-02", Level::Viewer, None).await;
    let mut topic = scene.open(&alice, only("telemetry"), true, None).await;
    let mut stream = scene.listen(&alice, only("telemetry"), None).await;
    let heard = scene.tell("cam-01", 0..1).await;
    assert_eq!(next(&mut topic).await, Ok(heard[0]));
    assert_eq!(next(&mut stream).await, Ok(heard[0]));
    scene.take_away(&alice, "cam-01").await;
    scene.tell("cam-01", 1..3).await;
    let other = scene.tell("cam-02", 3..4).await;
    assert_eq!(next(&mut topic).await, Err(Ending::RightsLost));
    assert_eq!(next(&mut stream).await, Ok(other[0]), "of cam-01 nothing, of cam-02 everything");
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    let again = scene.tell("cam-01", 4..5).await;
    assert_eq!(next(&mut stream).await, Ok(again[0]), "a right that is given is heard at once");
}

#[tokio::test]
async fn a_grant_that_ends_by_itself_ends_a_topic() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, Some(NOW.plus(Duration::from_secs(60)))).await;
    let mut topic = scene.open(&alice, only("telemetry"), true, None).await;
    scene.hand.advance(Duration::from_secs(61));
    assert_eq!(next(&mut topic).await, Err(Ending::RightsLost));
}

#[tokio::test]
async fn the_next_owner_hears_nothing_of_the_last() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.person("alice").await, scene.person("bob").await);
    scene.grant(&alice, "cam-01", Level::Owner, None).await;
    scene.tell("cam-01", 0..5).await;
    scene.take_away(&alice, "cam-01").await;
    let released = NewEvent::of_device(&DeviceRef::new(tenant(), id("cam-01")), "device.released", NOW);
    let released = scene.room.store.append_events(vec![released], NOW).await.unwrap()[0].unwrap();
    scene.grant(&bob, "cam-01", Level::Owner, None).await;
    let after = scene.tell("cam-01", 5..7).await;
    let mut subscription = scene.listen(&bob, only("telemetry"), Some(0)).await;
    assert!(after[0] > released);
    assert_eq!(next(&mut subscription).await, Ok(after[0]));
    let mut everything = scene.listen(&bob, all(), Some(0)).await;
    let first = next(&mut everything).await.unwrap();
    assert!(first > released, "{first}: not even the release itself");
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_others_are_not() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    let mut idle = scene.listen(&alice, only("telemetry"), None).await;
    let mut busy = scene.listen(&alice, only("telemetry"), None).await;
    let mut told = vec![];
    for _ in 0..=QUEUE / 64 {
        for expected in scene.tell("cam-01", 0..64).await {
            told.push(expected);
            assert_eq!(next(&mut busy).await, Ok(expected));
        }
    }
    assert!(told.len() > QUEUE);
    assert_eq!(next(&mut idle).await, Err(Ending::Slow));
}

#[tokio::test]
async fn changes_of_rights_are_told_to_whom_they_concern_and_to_the_owner() {
    let scene = Scene::new().await;
    let [owner, viewer, guest] =
        [scene.person("owner").await, scene.person("viewer").await, scene.person("guest").await];
    scene.grant(&owner, "cam-01", Level::Owner, None).await;
    scene.grant(&viewer, "cam-01", Level::Viewer, None).await;
    let mut of_owner = scene.listen(&owner, only("grant.changed"), None).await;
    let mut of_viewer = scene.listen(&viewer, only("grant.changed"), None).await;
    let mut of_guest = scene.listen(&guest, only("grant.changed"), None).await;
    scene.grant(&guest, "cam-01", Level::Operator, None).await;
    let concerning_guest = next(&mut of_guest).await.unwrap();
    assert_eq!(next(&mut of_owner).await, Ok(concerning_guest));
    scene.grant(&viewer, "cam-01", Level::Operator, None).await;
    let concerning_viewer = next(&mut of_viewer).await.unwrap();
    assert!(concerning_viewer > concerning_guest, "the guest's change was not for the viewer");
}

#[tokio::test]
async fn whoever_is_overtaken_by_retention_is_told_and_misses_nothing_silently() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    let told = scene.tell("cam-01", 0..4000).await;
    let mut slow = scene.listen(&alice, only("telemetry"), Some(0)).await;
    let mut patient = scene.listen(&alice, only("telemetry"), Some(0)).await;
    assert_eq!(next(&mut slow).await, Ok(told[0]));
    scene.forget(1000).await;
    assert_eq!(next(&mut patient).await, Err(Ending::Forgotten), "before its first page");
    // What was read before is given; then there is a gap.
    let mut last = told[0];
    let ending = loop {
        match next(&mut slow).await {
            Ok(seq) => {
                assert_eq!(seq, last + 1);
                last = seq;
            }
            Err(ending) => break ending,
        }
    };
    assert_eq!(ending, Ending::Forgotten);
    assert!(last < told[2999], "{last}");
    let mut anew = scene.listen(&alice, only("telemetry"), Some(told[2999])).await;
    assert_eq!(next(&mut anew).await, Ok(told[3000]), "control: what is left is whole");
}

#[tokio::test]
async fn live_listeners_are_cut_off_where_the_log_was_deleted_before_it_was_told() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    scene.grant(&alice, "cam-01", Level::Viewer, None).await;
    for (left, expected) in [(5, None), (2, Some(Ending::Forgotten))] {
        // A feed that has not begun to read.
        let feed = Feed::new(scene.room.store.clone(), scene.clock.clone());
        let scene = Scene { feed: Arc::clone(&feed), ..scene.clone() };
        let mut live = scene.listen(&alice, only("telemetry"), None).await;
        let told = scene.tell("cam-01", 0..5).await;
        scene.forget(left).await;
        let tasks = Tasks::new();
        tasks.spawn(feed.run());
        assert_eq!(next(&mut live).await, expected.map_or(Ok(told[0]), Err), "{left} left");
        tasks.end();
    }
}
