//! What is true now: which node holds which device, what just happened, and the view of
//! certificates, revocations and grant changes by which the doors decide.
//!
//! Nothing here has to last: every fact that must is a row in the store first, and is put here by
//! the room that wrote the row (`prov-server`, `client-api`). Losing all of it loses no fact.
//!
//! Read [`Registry`] first, then [`CertificateView`] (who may connect) and [`GrantView`] (whose
//! token is older than a change).

mod bus;
mod certificates;
mod error;
mod grants;
mod revocation;
mod sessions;
mod tickets;

use std::{sync::Arc, time::Duration};

use model::{DeviceRef, Event, Fingerprint, Generation, NodeId, TicketDigest, TicketRecord, Timestamp};
use tokio::sync::{broadcast, mpsc};

pub use certificates::{
    Admission, Admitted, AnyOfThisAuthority, CertificateEntry, CertificateView, NotAdmitted, Presented,
};
pub use error::{RegistryError, TICKETS_KEPT, TICKETS_PER_USER};
pub use grants::{CHANGES_KEPT, GrantChange, GrantView};
pub use revocation::{Receipt, RevocationNotice, RevocationOrder};
pub use sessions::{Connected, SessionRecord};

/// The registry of one deployment, in this process. Cloning shares it.
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
}

impl Registry {
    /// A registry that lives and ends with this process.
    ///
    /// `epoch` grows with every start (a counter in the store): generations begin at
    /// `epoch << 32`, so that they grow across restarts too.
    pub fn in_process(node: NodeId, epoch: u32) -> Self {
        Self(Arc::new(Inner {
            node,
            sessions: sessions::Sessions::starting_at(Generation(u64::from(epoch) << 32)),
            bus: bus::Bus::default(),
            certificates: Arc::new(CertificateView::default()),
            grants: GrantView::default(),
            revocations: revocation::Revocations::default(),
            tickets: tickets::Tickets::default(),
        }))
    }

    /// This process, as others know it.
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// Records that a device's session stands here and gives it a generation newer than any before.
    ///
    /// What it takes the place of is returned, so that the holder can close it.
    #[expect(clippy::unused_async, reason = "another backend asks a server here")]
    pub async fn connect(&self, record: SessionRecord) -> Connected {
        self.0.sessions.connect(record)
    }

    /// Removes a device's session if it is still this generation. False if a newer one stands.
    #[expect(clippy::unused_async, reason = "another backend asks a server here")]
    pub async fn disconnect(&self, device: &DeviceRef, generation: Generation) -> bool {
        self.0.sessions.disconnect(device, generation)
    }

    /// The session of a device, if one stands.
    #[expect(clippy::unused_async, reason = "another backend asks a server here")]
    pub async fn lookup(&self, device: &DeviceRef) -> Option<SessionRecord> {
        self.0.sessions.lookup(device)
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
    pub fn publish(&self, event: Event) {
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
        self.0.revocations.announce(notice, wait).await
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
    #[expect(clippy::unused_async, reason = "another backend asks a server here")]
    pub async fn put_ticket(
        &self,
        digest: TicketDigest,
        record: TicketRecord,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.0.tickets.put(digest, record, now)
    }

    /// Gives a ticket's record to one caller, and to nobody after that; `None` if there is no such
    /// ticket, if it was taken, or if it has expired.
    ///
    /// # Errors
    /// If it cannot be known whether it was taken before.
    #[expect(clippy::unused_async, reason = "another backend asks a server here")]
    pub async fn take_ticket(
        &self,
        digest: &TicketDigest,
        now: Timestamp,
    ) -> Result<Option<TicketRecord>, RegistryError> {
        Ok(self.0.tickets.take(digest, now))
    }
}
