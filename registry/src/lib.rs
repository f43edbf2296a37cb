//! What is true now: which node holds which device, what just happened, and the view of
//! certificates, revocations and grant changes by which the doors decide.
//!
//! Nothing here has to last: every fact that must is a row in the store first, and is put here by
//! the room that wrote the row (`prov-server`, `client-api`). Losing all of it loses no fact.
//!
//! Read [`Registry`] first, then `shared` (what is different where several nodes have one registry), then
//! [`CertificateView`] (who may connect) and [`GrantView`] (whose token is older than a change).

mod bus;
mod certificates;
mod error;
mod grants;
mod revocation;
mod sessions;
mod shared;
mod tickets;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use model::{DeviceRef, Event, Fingerprint, Generation, NodeId, TicketDigest, TicketRecord, Timestamp};
use tokio::sync::{broadcast, mpsc};

pub use certificates::{
    Admission, Admitted, AnyOfThisAuthority, CertificateEntry, CertificateView, NotAdmitted, Presented,
    Wanted,
};
pub use error::{RegistryError, TICKETS_KEPT, TICKETS_PER_USER};
pub use grants::{CHANGES_KEPT, GrantChange, GrantView};
pub use revocation::{Receipt, RevocationNotice, RevocationOrder};
pub use sessions::{Connected, SessionRecord};
pub use shared::{Keeping, RedisAddress};

use shared::Shared;

/// The registry of one deployment: in this process alone, or shared with other nodes on a Redis server.
/// Cloning shares it.
///
/// Shared or not, what this node holds is in its memory, and what concerns it is answered from there. A
/// server that is away, slow, empty or may not be written delays nobody for longer than a second, and is
/// made whole from the nodes when it is back.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    sessions: sessions::Sessions,
    bus: bus::Bus,
    certificates: Arc<CertificateView>,
    grants: GrantView,
    revocations: revocation::Revocations,
    tickets: tickets::Tickets,
    shared: Option<Arc<Shared>>,
    address: Option<String>,
    superseded: mpsc::Sender<Superseded>,
    superseded_taken: Mutex<Option<mpsc::Receiver<Superseded>>>,
}

/// A session of this node in whose place a newer one stands on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// Whose.
    pub device: DeviceRef,
    /// The generation of the newer one.
    pub by: Generation,
}

/// How the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where it is, without a password; `None`: in this process alone.
    pub shared: Option<String>,
    /// Why it cannot be shared just now.
    pub problem: Option<String>,
    /// Live nodes, this one among them, as they were last heard of.
    pub nodes: usize,
    /// Sessions on this node.
    pub sessions: usize,
    /// Sessions on all live nodes, as they were last heard of.
    pub sessions_of_all: usize,
    /// Messages for other nodes that wait to be sent.
    pub waiting: usize,
    /// Messages that were never sent, and times when those of other nodes may have been missed.
    pub lost: u64,
}

impl Registry {
    /// A registry that lives and ends with this process.
    ///
    /// `epoch` grows with every start (a counter in the store): generations begin at
    /// `epoch << 32`, so that they grow across restarts too.
    pub fn in_process(node: NodeId, epoch: u32) -> Self {
        Self(Arc::new(Inner::new(node, epoch, None)))
    }

    /// A registry that is shared with every other node that names this server. It works from the start;
    /// it is shared while [`Keeping::run`] runs and the server can be used.
    ///
    /// # Errors
    /// If the address cannot be used at all. A server that does not answer is no error.
    pub fn on_redis(address: &RedisAddress, node: NodeId, epoch: u32) -> Result<(Self, Keeping), String> {
        let shared = Arc::new(Shared::new(address, node.clone())?);
        let inner = Arc::new(Inner::new(node, epoch, Some((address.to_string(), Arc::clone(&shared)))));
        inner.grants.tell_onward(move |change| shared.tell_grant(change));
        Ok((Self(Arc::clone(&inner)), Keeping(inner)))
    }

    /// This process, as others know it.
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// Records that a device's session stands here and gives it a generation newer than any before.
    ///
    /// What it takes the place of is returned, so that the holder can close it. While a shared registry is
    /// away the generation is this node's alone; the row follows.
    pub async fn connect(&self, record: SessionRecord) -> Connected {
        let sessions = &self.0.sessions;
        let Some(shared) = &self.0.shared else { return sessions.connect(record) };
        match shared.enter(&record, sessions.draw()).await {
            Ok((generation, elsewhere)) => {
                let Connected { generation, replaced } = sessions.place(record, generation);
                Connected { generation, replaced: replaced.or(elsewhere) }
            }
            Err(_) => sessions.connect(record),
        }
    }

    /// Removes a device's session if it is still this generation. False if a newer one stands.
    #[expect(clippy::unused_async, reason = "callers need not know that nobody is waited for")]
    pub async fn disconnect(&self, device: &DeviceRef, generation: Generation) -> bool {
        if let Some(shared) = &self.0.shared {
            shared.leave(device, generation);
        }
        self.0.sessions.disconnect(device, generation)
    }

    /// The session of a device, if one stands. One on this node is answered from memory; of one on another
    /// node nothing is known while a shared registry is away.
    pub async fn lookup(&self, device: &DeviceRef) -> Option<SessionRecord> {
        if let Some(here) = self.0.sessions.lookup(device) {
            return Some(here);
        }
        let shared = self.0.shared.as_ref()?;
        // A row of this node whose session is not here any more is on its way out.
        shared.find(device).await.ok().flatten().filter(|session| session.node != self.0.node)
    }

    /// Sessions of this node that have to be closed because a newer one stands on another node. There is
    /// one taker (the room that holds them).
    pub fn superseded(&self) -> mpsc::Receiver<Superseded> {
        let taken = self.0.superseded_taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A second taker gets a channel that is closed: it sees its mistake at once.
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let sessions = self.session_count();
        let shared = self.0.shared.as_deref();
        let mut nodes = shared.map(Shared::nodes).unwrap_or_default();
        nodes.insert(self.0.node.clone(), sessions);
        Health {
            shared: self.0.address.clone(),
            problem: shared.and_then(Shared::problem),
            nodes: nodes.len(),
            sessions,
            sessions_of_all: nodes.values().sum(),
            waiting: shared.map_or(0, Shared::waiting),
            lost: shared.map_or(0, Shared::lost),
        }
    }

    /// Waits until a shared registry was found, or found away: a few seconds at most.
    pub async fn settle(&self) {
        if let Some(shared) = &self.0.shared {
            shared.settle().await;
        }
    }

    /// Takes this node off a shared registry, after its sessions have ended.
    pub async fn close(&self) {
        if let Some(shared) = &self.0.shared {
            // Those that were cut off said no goodbye.
            for session in (0..sessions::SHARDS).flat_map(|part| self.0.sessions.part(part)) {
                shared.leave(&session.device, session.generation);
            }
            shared.close().await;
        }
    }

    /// Notes that an echo went through a device's tunnel, unless a newer session stands.
    pub fn verified(&self, device: &DeviceRef, generation: Generation, at: Timestamp) {
        self.0.sessions.verified(device, generation, at);
    }

    /// How many devices are connected.
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// Tells everybody who listens. Never waits; a listener that is too slow is told that it lagged.
    ///
    /// Whoever listens here hears it at once and once; other nodes as soon as they can be told.
    pub fn publish(&self, event: Event) {
        if let Some(shared) = &self.0.shared {
            shared.tell_event(event.clone());
        }
        self.0.bus.publish(event);
    }

    /// Events from now on. `Lagged` means: some were dropped for this listener, reconcile.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.bus.subscribe()
    }

    /// The certificates by which the device door decides.
    pub fn certificates(&self) -> &Arc<CertificateView> {
        &self.0.certificates
    }

    /// Fingerprints admitted for the first time. There is one taker (the room that issues).
    pub fn first_uses(&self) -> mpsc::Receiver<Fingerprint> {
        self.0.certificates.first_uses()
    }

    /// The grant changes by which the user door decides.
    pub fn grants(&self) -> &GrantView {
        &self.0.grants
    }

    /// Marks certificates as revoked in the view, tells every node, and waits at most `wait` for
    /// each to say that it closed what it held.
    pub async fn revoke(&self, notice: RevocationNotice, wait: Duration) -> Receipt {
        for fingerprint in &notice.certificates {
            self.0.certificates.set_status(*fingerprint, model::CertificateStatus::Revoked);
        }
        let Some(shared) = &self.0.shared else { return self.0.revocations.announce(notice, wait).await };
        let (here, elsewhere) =
            tokio::join!(self.0.revocations.announce(notice.clone(), wait), shared.announce(notice, wait));
        Receipt {
            nodes: here.nodes + elsewhere.nodes,
            nodes_acked: here.nodes_acked + elsewhere.nodes_acked,
            tunnels_closed: here.tunnels_closed + elsewhere.tunnels_closed,
            elapsed: here.elapsed.max(elsewhere.elapsed),
        }
    }

    /// Orders to close the tunnels of revoked devices; each has to be acknowledged with the number closed.
    pub fn revocation_orders(&self) -> mpsc::Receiver<RevocationOrder> {
        self.0.revocations.orders()
    }

    /// Keeps a ticket until it is taken or `expires_at` of its record has come.
    ///
    /// # Errors
    /// If its user, or all users together, hold too many unused ones; or if no promise can be made
    /// that it will be given only once. A [`model::Refusal`] can be made of each.
    pub async fn put_ticket(
        &self,
        digest: TicketDigest,
        record: TicketRecord,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        match &self.0.shared {
            // What has expired already is kept nowhere.
            _ if record.expires_at <= now => Ok(()),
            Some(shared) => shared.put_ticket(digest, &record, now).await,
            None => self.0.tickets.put(digest, record, now),
        }
    }

    /// Gives a ticket's record to one caller, and to nobody after that; `None` if there is no such
    /// ticket, if it was taken, or if it has expired.
    ///
    /// # Errors
    /// If it cannot be known whether it was taken before.
    pub async fn take_ticket(
        &self,
        digest: &TicketDigest,
        now: Timestamp,
    ) -> Result<Option<TicketRecord>, RegistryError> {
        match &self.0.shared {
            Some(shared) => shared.take_ticket(digest, now).await,
            None => Ok(self.0.tickets.take(digest, now)),
        }
    }
}

impl Inner {
    fn new(node: NodeId, epoch: u32, shared: Option<(String, Arc<Shared>)>) -> Self {
        let (address, shared) = shared.unzip();
        let (superseded, receiver) = mpsc::channel(SUPERSEDED_QUEUED);
        Self {
            node,
            sessions: sessions::Sessions::starting_at(Generation(u64::from(epoch) << 32)),
            bus: bus::Bus::default(),
            certificates: Arc::new(CertificateView::default()),
            grants: GrantView::default(),
            revocations: revocation::Revocations::default(),
            tickets: tickets::Tickets::default(),
            shared,
            address,
            superseded,
            superseded_taken: Mutex::new(Some(receiver)),
        }
    }

    /// Lets go of a device's session for the sake of a newer one elsewhere.
    fn give_way(&self, device: &DeviceRef, by: Generation) {
        // Without room it stands until its row is looked at again.
        let Ok(order) = self.superseded.try_reserve() else { return };
        if self.sessions.give_way(device, by) {
            order.send(Superseded { device: device.clone(), by });
        }
    }
}

const SUPERSEDED_QUEUED: usize = 4096;
