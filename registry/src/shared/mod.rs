//! The registry that several nodes share, on a Redis server.
//!
//! It is a cache and a bus, never the truth: what a node holds is in its own memory and served from there,
//! and the shared table is built again from the nodes, never the other way. So everything here may fail at
//! any time, within [`link::ANSWER_WITHIN`], and the node goes on.
//!
//! Read [`link`] (is it there?), [`rows`] (who holds which device), [`hearing`] and [`messages`] (what nodes
//! tell each other), [`tickets`], and [`keeping`] (what makes it whole again).

mod address;
mod hearing;
mod keeping;
mod keys;
mod link;
mod messages;
mod receipts;
mod rows;
mod scripts;
mod tickets;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use model::{Event, NodeId};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

pub use address::RedisAddress;
pub use keeping::Keeping;
pub(crate) use link::Away;

use crate::GrantChange;
use messages::{Message, Outbox};

/// This node's end of the shared registry.
#[derive(Debug)]
pub(crate) struct Shared {
    node: NodeId,
    link: link::Link,
    scripts: scripts::Scripts,
    outbox: Outbox,
    departures: rows::Departures,
    departed: Notify,
    receipts: receipts::Receipts,
    /// The nodes that lived at the last heartbeat, with their sessions. This one is among them.
    nodes: Mutex<BTreeMap<NodeId, usize>>,
    /// How often messages of other nodes may have been missed.
    gaps: AtomicU64,
    /// Whether the keeper has looked for the server once.
    looked: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(address: &RedisAddress, node: NodeId) -> Result<Self, String> {
        Ok(Self {
            link: link::Link::new(address)?,
            scripts: scripts::Scripts::default(),
            outbox: Outbox::default(),
            departures: rows::Departures::default(),
            departed: Notify::new(),
            receipts: receipts::Receipts::default(),
            nodes: Mutex::new(BTreeMap::from([(node.clone(), 0)])),
            gaps: AtomicU64::new(0),
            looked: watch::channel(false).0,
            node,
        })
    }

    pub(crate) fn tell_event(&self, event: Event) {
        self.outbox.push(Message::Event { event });
    }

    pub(crate) fn tell_grant(&self, change: &GrantChange) {
        self.outbox.push(Message::Grant { change: change.clone() });
    }

    /// Why it cannot be used just now.
    pub(crate) fn problem(&self) -> Option<String> {
        self.link.problem()
    }

    pub(crate) fn nodes(&self) -> BTreeMap<NodeId, usize> {
        self.nodes_known().clone()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Messages that were never sent, and times when messages may have been missed.
    pub(crate) fn lost(&self) -> u64 {
        self.outbox.dropped() + self.gaps.load(Ordering::Relaxed)
    }

    pub(crate) async fn settle(&self) {
        let mut looked = self.looked.subscribe();
        if timeout(SETTLE_WITHIN, looked.wait_for(|looked| *looked)).await.is_err() {
            tracing::warn!("the shared registry is still being looked for");
        }
    }

    fn nodes_known(&self) -> MutexGuard<'_, BTreeMap<NodeId, usize>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time for the keeper's first look: to connect, and to ask three things.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);
