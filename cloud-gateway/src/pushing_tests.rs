//! When tokens are pushed, on a clock that the test moves.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use model::{DisconnectCause, Fingerprint, Generation, NodeId, Secret, SessionId, TenantName, Timestamp};
use registry::SessionRecord;
use runtime::{Clock, jose::SigningKey};
use store::Store;

use super::*;
use crate::{
    authorizer::Authorizer,
    testing::{NOW, OURS},
};

const LIFE: Duration = Duration::from_secs(900);

/// Daemons that note what they get.
#[derive(Default)]
struct Daemons {
    taken: Mutex<Vec<(DeviceRef, Instant, Secret<String>)>>,
    refuse: AtomicBool,
    slow: AtomicBool,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl TokenDelivery for Daemons {
    fn deliver<'a>(
        &'a self,
        device: &'a DeviceRef,
        token: DeviceToken,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            if self.slow.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            self.taken.lock().unwrap().push((device.clone(), Instant::now(), token.token));
            if self.refuse.load(Ordering::SeqCst) { Err("no".into()) } else { Ok(()) }
        })
    }
}

struct Scene {
    registry: Registry,
    daemons: Arc<Daemons>,
    tasks: Tasks,
}

impl Scene {
    async fn new() -> Self {
        let store = Store::in_memory().await.unwrap();
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
        let (clock, _) = Clock::manual(NOW);
        let keys = vec![SigningKey::generate().unwrap()];
        let authorizer = Arc::new(Authorizer::new(OURS.into(), keys, store, clock.clone()).unwrap());
        let tokens = Arc::new(DeviceTokens::new(authorizer, registry.clone(), clock, LIFE, "localhost:1"));
        let (daemons, tasks) = (Arc::new(Daemons::default()), Tasks::new());
        let delivery: Arc<dyn TokenDelivery> = daemons.clone();
        let events = registry.subscribe();
        let pusher = Pusher { tokens, delivery, registry: registry.clone(), tasks: tasks.clone() };
        tasks.spawn(Arc::new(pusher).run(events));
        Self { registry, daemons, tasks }
    }

    async fn connect(&self, id: &str) -> SessionRecord {
        let device = DeviceRef::new(TenantName::default(), id.parse().unwrap());
        let record = SessionRecord {
            device: device.clone(),
            session: SessionId::from_random(runtime::random::bytes()),
            generation: Generation(0),
            node: self.registry.node().clone(),
            certificate: Fingerprint([3; 32]),
            boot_id: "boot".into(),
            claim_digest: None,
            services: vec![],
            viewer_websockets: vec![],
            since: NOW,
            verified_at: NOW,
        };
        self.registry.connect(record).await;
        let session = self.registry.lookup(&device).await.unwrap();
        self.tell(&session, session.node.clone());
        session
    }

    fn tell(&self, session: &SessionRecord, node: NodeId) {
        self.registry.publish(Event::DeviceConnected {
            device: session.device.clone(),
            session: session.session.clone(),
            generation: session.generation,
            node,
            at: Timestamp(0),
        });
    }

    async fn disconnect(&self, session: &SessionRecord) {
        assert!(self.registry.disconnect(&session.device, session.generation).await);
        self.registry.publish(Event::DeviceDisconnected {
            device: session.device.clone(),
            session: session.session.clone(),
            generation: session.generation,
            cause: DisconnectCause::Lost,
            at: Timestamp(0),
        });
    }

    fn pushed(&self) -> usize {
        self.daemons.taken.lock().unwrap().len()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

/// Time stands still otherwise, and every task has run as far as it can when this returns.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_gets_a_token_when_it_has_connected_and_the_next_at_two_thirds_of_its_life() {
    let scene = Scene::new().await;
    let session = scene.connect("cam-01").await;
    pass(1).await;
    assert_eq!(scene.pushed(), 1);
    pass(LIFE.as_secs() / 2).await;
    assert_eq!(scene.pushed(), 1, "not before its time");
    pass(LIFE.as_secs() / 6).await;
    assert_eq!(scene.pushed(), 2);
    pass(10 * LIFE.as_secs()).await;
    let pushed = scene.pushed();
    assert!((17..=20).contains(&pushed), "{pushed}");
    {
        let taken = scene.daemons.taken.lock().unwrap();
        assert!(taken.windows(2).all(|pair| pair[1].1 - pair[0].1 <= LIFE.mul_f64(0.67)), "no gap");
        let mut tokens: Vec<_> = taken.iter().map(|(.., token)| token.expose()).collect();
        tokens.dedup();
        assert_eq!(tokens.len(), pushed, "each is another");
    }
    scene.disconnect(&session).await;
    pass(10 * LIFE.as_secs()).await;
    assert_eq!(scene.pushed(), pushed, "a session that is over gets none");
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_gets_its_own_token_and_another_nodes_session_none_from_here() {
    let scene = Scene::new().await;
    let first = scene.connect("cam-01").await;
    pass(1).await;
    scene.connect("cam-01").await;
    scene.registry.publish(Event::DeviceDisconnected {
        device: first.device.clone(),
        session: first.session.clone(),
        generation: first.generation,
        cause: DisconnectCause::Replaced,
        at: Timestamp(0),
    });
    pass(1).await;
    assert_eq!(scene.pushed(), 2);
    scene.tell(&first, NodeId::from_random([9; 16]));
    pass(1).await;
    assert_eq!(scene.pushed(), 2);
    pass(LIFE.as_secs() * 2 / 3).await;
    assert_eq!(scene.pushed(), 3, "one is renewed, not two");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_takes_none_is_asked_again_later_and_later() {
    let scene = Scene::new().await;
    scene.daemons.refuse.store(true, Ordering::SeqCst);
    scene.connect("cam-01").await;
    pass(60).await;
    let soon = scene.pushed();
    assert!((3..=6).contains(&soon), "{soon}");
    pass(3 * 3600).await;
    let later = scene.pushed() - soon;
    assert!((10..=40).contains(&later), "{later}");
    scene.daemons.refuse.store(false, Ordering::SeqCst);
    pass(2 * LIFE.as_secs()).await;
    assert!(scene.pushed() > soon + later);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_devices_is_served_a_few_at_once() {
    let scene = Scene::new().await;
    scene.daemons.slow.store(true, Ordering::SeqCst);
    for number in 0..200 {
        scene.connect(&format!("cam-{number}")).await;
    }
    pass(5).await;
    assert_eq!(scene.daemons.most_at_once.load(Ordering::SeqCst), AT_ONCE);
    pass(100).await;
    let devices: std::collections::BTreeSet<_> =
        scene.daemons.taken.lock().unwrap().iter().map(|(device, ..)| device.clone()).collect();
    assert_eq!(devices.len(), 200, "everybody gets one in the end");
    assert_eq!(scene.daemons.most_at_once.load(Ordering::SeqCst), AT_ONCE);
}
