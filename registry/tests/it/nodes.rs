//! Nodes with their registries, and what they hold.

use std::{collections::BTreeMap, time::Duration};

use model::{
    DeviceRef, Event, Fingerprint, Generation, NodeId, ServiceSet, SessionId, TenantName, TicketDigest,
    TicketPurpose, TicketRecord, Timestamp, UserId,
};
use registry::{Connected, Registry, SessionRecord};
use tokio::{sync::broadcast, task::JoinSet, time::Instant};

use crate::server::Server;

/// A node; dropped, it is as dead as a process that was killed.
pub(crate) struct Node {
    pub(crate) registry: Registry,
    _keeping: JoinSet<()>,
}

impl Node {
    /// A node whose link to the server is up.
    pub(crate) async fn join(server: &Server, number: u8) -> Self {
        let node = Self::start(server, number, u32::from(number));
        node.linked().await;
        node
    }

    pub(crate) fn start(server: &Server, number: u8, epoch: u32) -> Self {
        let id = NodeId::from_random([number; 16]);
        let (registry, keeping) = Registry::on_redis(&server.address(), id, epoch).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(keeping.run());
        Self { registry, _keeping: tasks }
    }

    pub(crate) async fn linked(&self) {
        until("the node is linked", async || self.registry.health().problem.is_none().then_some(())).await;
    }

    /// Connects some devices and returns their generations.
    pub(crate) async fn connect(&self, names: impl IntoIterator<Item = String>) -> BTreeMap<String, u64> {
        let mut held = BTreeMap::new();
        for name in names {
            let generation = connect(&self.registry, &name).await.generation;
            held.insert(format!("default/{name}"), generation.0);
        }
        held
    }
}

/// Two nodes that see each other.
pub(crate) async fn two(server: &Server) -> (Node, Node) {
    let (one, two) = tokio::join!(Node::join(server, 1), Node::join(server, 2));
    until("each node knows both", async || {
        let seen = (one.registry.health().nodes, two.registry.health().nodes);
        (seen == (2, 2)).then_some(()).ok_or(seen)
    })
    .await;
    (one, two)
}

pub(crate) fn device(name: &str) -> DeviceRef {
    DeviceRef::new(TenantName::default(), name.parse().unwrap())
}

pub(crate) fn record(registry: &Registry, name: &str) -> SessionRecord {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(name).to_be_bytes();
    let mut session = [0; 16];
    session[..8].copy_from_slice(&random);
    SessionRecord {
        device: device(name),
        session: SessionId::from_random(session),
        generation: Generation(0),
        node: registry.node().clone(),
        certificate: Fingerprint([3; 32]),
        boot_id: "boot".into(),
        claim_digest: None,
        services: vec!["web".parse().unwrap()],
        viewer_websockets: vec![],
        since: Timestamp(1),
        verified_at: Timestamp(1),
    }
}

pub(crate) async fn connect(registry: &Registry, name: &str) -> Connected {
    registry.connect(record(registry, name)).await
}

pub(crate) fn digest(number: u64) -> TicketDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    TicketDigest(bytes)
}

/// A ticket that lives from 0 to 60 s.
pub(crate) fn ticket(user: u8) -> TicketRecord {
    TicketRecord {
        tenant: TenantName::default(),
        user: UserId::from_random([user; 16]),
        device: Some("cam-01".parse().unwrap()),
        only: None,
        service: None,
        level: None,
        services: ServiceSet::all(),
        grant_sequence: 7,
        until: Timestamp::from_secs(600),
        expires_at: Timestamp::from_secs(60),
        purpose: TicketPurpose::Topics,
    }
}

/// An event that says a number.
pub(crate) fn event(number: i64) -> Event {
    Event::CloneSuspected { device: device("cam-01"), at: Timestamp(number) }
}

/// The numbers of the events that are there to be heard.
pub(crate) fn heard(events: &mut broadcast::Receiver<Event>) -> Vec<i64> {
    let mut numbers = vec![];
    while let Ok(event) = events.try_recv() {
        if let Event::CloneSuspected { at, .. } = event {
            numbers.push(at.0);
        }
    }
    numbers
}

/// Waits until the condition gives a value; else says what it gave last.
pub(crate) async fn until<T, S: Outcome<T>>(what: &str, condition: impl AsyncFnMut() -> S) -> T {
    within(Duration::from_secs(30), what, condition).await
}

pub(crate) async fn within<T, S: Outcome<T>>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> S,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match condition().await.outcome() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < end, "not within {limit:?}: {what}; last seen: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A value, or what was seen instead.
pub(crate) trait Outcome<T> {
    fn outcome(self) -> Result<T, String>;
}

impl<T> Outcome<T> for Option<T> {
    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "no".into())
    }
}

impl<T, E: std::fmt::Debug> Outcome<T> for Result<T, E> {
    fn outcome(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}
