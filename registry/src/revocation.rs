//! From a revocation to the last byte: every node is told, and says how many tunnels it closed.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::{DeviceRef, Fingerprint};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationNotice {
    /// The revocation's sequence number in the store.
    pub sequence: u64,
    /// Whose certificates.
    pub device: DeviceRef,
    /// Which.
    pub certificates: Vec<Fingerprint>,
}

/// A notice that a node has to carry out and acknowledge.
#[derive(Debug)]
pub struct RevocationOrder {
    /// What was revoked.
    pub notice: RevocationNotice,
    /// Takes the number of tunnels closed, once they are.
    pub done: oneshot::Sender<usize>,
}

/// What the nodes said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Live nodes.
    pub nodes: usize,
    /// Those that carried it out in time.
    pub nodes_acked: usize,
    /// Tunnels that they closed.
    pub tunnels_closed: usize,
    /// How long it took.
    pub elapsed: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Revocations {
    nodes: Mutex<Vec<mpsc::Sender<RevocationOrder>>>,
}

impl Revocations {
    pub(crate) fn orders(&self) -> mpsc::Receiver<RevocationOrder> {
        let (sender, receiver) = mpsc::channel(ORDERS_QUEUED);
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    pub(crate) async fn announce(&self, notice: RevocationNotice, wait: Duration) -> Receipt {
        let start = Instant::now();
        let deadline = start + wait;
        let nodes: Vec<_> = {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.retain(|node| !node.is_closed());
            nodes.clone()
        };
        let mut answers = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let (done, answer) = oneshot::channel();
            let order = RevocationOrder { notice: notice.clone(), done };
            if let Ok(Ok(())) = tokio::time::timeout_at(deadline, node.send(order)).await {
                answers.push(answer);
            }
        }
        let mut receipt =
            Receipt { nodes: nodes.len(), nodes_acked: 0, tunnels_closed: 0, elapsed: Duration::ZERO };
        for answer in answers {
            if let Ok(Ok(closed)) = tokio::time::timeout_at(deadline, answer).await {
                receipt.nodes_acked += 1;
                receipt.tunnels_closed += closed;
            }
        }
        receipt.elapsed = start.elapsed();
        receipt
    }
}

const ORDERS_QUEUED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> RevocationNotice {
        RevocationNotice {
            sequence: 1,
            device: DeviceRef::new(model::TenantName::default(), "cam-01".parse().unwrap()),
            certificates: vec![],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_receipt_tells_who_answered_and_who_did_not() {
        let revocations = Revocations::default();
        let mut quick = revocations.orders();
        let _mute = revocations.orders();
        let gone = revocations.orders();
        drop(gone);
        let carrying_out = async {
            let order = quick.recv().await.unwrap();
            order.done.send(2).unwrap();
        };
        let (receipt, ()) =
            tokio::join!(revocations.announce(notice(), Duration::from_secs(3)), carrying_out);
        assert_eq!((receipt.nodes, receipt.nodes_acked, receipt.tunnels_closed), (2, 1, 2));
        assert_eq!(receipt.elapsed, Duration::from_secs(3));
    }
}
