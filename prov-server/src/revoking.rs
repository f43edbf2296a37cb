//! Taking certificates back: one transaction, then every node, then the published lists.

use std::{sync::Arc, time::Duration};

use model::{Actor, CertificateStatus, DeviceRef, Event, Fingerprint, RevocationReason};
use registry::{Receipt, RevocationNotice};
use serde::Serialize;
use store::{Revocation, StoreError, Subject};
use tokio::time::Instant;

use crate::provisioning::Provisioning;

/// What came of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RevocationReceipt {
    /// The revocation's number.
    pub seq: u64,
    /// Nodes that carried it out in time.
    pub nodes_acked: usize,
    /// Live nodes.
    pub nodes: usize,
    /// Tunnels closed.
    pub tunnels_closed: usize,
    /// Milliseconds from the call to the last acknowledgement.
    pub ms: u64,
}

/// Why nothing was revoked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RevokeError {
    /// There is no such certificate or device.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The store could not keep it.
    #[error(transparent)]
    Store(StoreError),
}

impl Provisioning {
    /// Revokes a certificate and every other one of its device, closes the device's tunnels, and says
    /// what came of it: at once when every live node has acknowledged, after three seconds otherwise.
    pub async fn revoke_certificate(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        reason: RevocationReason,
        by: &Actor,
    ) -> Result<RevocationReceipt, RevokeError> {
        let start = Instant::now();
        let act = self.store.revoke_certificate(fingerprint, reason, by, self.clock.now()).await?;
        self.carry_out(act, start).await
    }

    /// The same for all certificates of a device, by its name: what removing a device begins with.
    pub async fn revoke_device(
        self: &Arc<Self>,
        device: &DeviceRef,
        reason: RevocationReason,
        by: &Actor,
    ) -> Result<RevocationReceipt, RevokeError> {
        let start = Instant::now();
        let act = self.store.revoke_device(device, reason, by, self.clock.now()).await?;
        self.carry_out(act, start).await
    }

    /// In a task of its own: a caller who leaves does not keep a revocation from being carried out.
    async fn carry_out(
        self: &Arc<Self>,
        act: Revocation,
        start: Instant,
    ) -> Result<RevocationReceipt, RevokeError> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move { this.spread(act, start).await });
        task.await.ok().flatten().ok_or(RevokeError::Store(StoreError::Closed))
    }

    async fn spread(self: Arc<Self>, act: Revocation, start: Instant) -> RevocationReceipt {
        metrics::counter!("tcpmux_revocations_total").increment(1);
        let receipt = match &act.subject {
            Subject::Device(device) => self.close_tunnels(device, &act).await,
            Subject::Door(name) => {
                tracing::info!(door = name, sequence = act.sequence, "door certificate revoked");
                Receipt { nodes: 0, nodes_acked: 0, tunnels_closed: 0, elapsed: Duration::ZERO }
            }
        };
        self.renew_lists();
        RevocationReceipt {
            seq: act.sequence,
            nodes_acked: receipt.nodes_acked,
            nodes: receipt.nodes,
            tunnels_closed: receipt.tunnels_closed,
            ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn close_tunnels(&self, device: &DeviceRef, act: &Revocation) -> Receipt {
        let notice = RevocationNotice {
            sequence: act.sequence,
            device: device.clone(),
            certificates: act.certificates.clone(),
        };
        let receipt = self.registry.revoke(notice, NODES_WAIT).await;
        tracing::info!(
            %device,
            sequence = act.sequence,
            certificates = act.certificates.len(),
            tunnels = receipt.tunnels_closed,
            nodes = receipt.nodes,
            acknowledged = receipt.nodes_acked,
            "certificates revoked"
        );
        let at = self.clock.now();
        for certificate in &act.certificates {
            self.registry.certificates().set_status(*certificate, CertificateStatus::Revoked);
            let (device, certificate, sequence) = (device.clone(), *certificate, act.sequence);
            self.registry.publish(Event::CertificateRevoked { device, certificate, sequence, at });
        }
        receipt
    }
}

impl From<StoreError> for RevokeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::NotFound(what),
            other => Self::Store(other),
        }
    }
}

/// How long a node may take to say that it closed what it held.
const NODES_WAIT: Duration = Duration::from_secs(3);
