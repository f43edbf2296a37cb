//! A revocation told to the other nodes, and what they answer.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use model::NodeId;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Shared, messages::Message};
use crate::{Receipt, RevocationNotice};

/// A node's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) node: NodeId,
    pub(super) closed: usize,
    pub(super) complete: bool,
}

/// Revocations of this node that wait for answers: as many as callers wait.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
}

impl Receipts {
    pub(super) fn answered(&self, order: u64, answer: Answer) {
        if let Some(waiting) = self.waiting().get(&order) {
            // Who asked may have stopped waiting.
            let _ = waiting.try_send(answer);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Tells every other node, and waits at most `wait` for each to say that it closed what it held. Nodes
    /// that lived when the registry was last heard of count, also while it is away.
    pub(crate) async fn announce(&self, notice: RevocationNotice, wait: Duration) -> Receipt {
        let start = Instant::now();
        let mut others: HashSet<NodeId> = self.nodes_known().keys().cloned().collect();
        others.remove(&self.node);
        let mut receipt =
            Receipt { nodes: others.len(), nodes_acked: 0, tunnels_closed: 0, elapsed: Duration::ZERO };
        let order = self.receipts.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, mut answers) = mpsc::channel(others.len().max(1));
        self.receipts.waiting().insert(order, sender);
        let waiting = Waiting { receipts: &self.receipts, order };
        // Told in any case: a node that nobody knew of closes it too.
        self.outbox.push(Message::Revoke { order, notice });
        while !others.is_empty()
            && let Ok(Some(answer)) = timeout_at(start + wait, answers.recv()).await
        {
            if others.remove(&answer.node) {
                receipt.nodes_acked += usize::from(answer.complete);
                receipt.tunnels_closed += answer.closed;
            }
        }
        drop(waiting);
        receipt.elapsed = start.elapsed();
        receipt
    }
}

/// Forgets the order when the caller stops waiting, for whatever reason.
struct Waiting<'a> {
    receipts: &'a Receipts,
    order: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.receipts.waiting().remove(&self.order);
    }
}
