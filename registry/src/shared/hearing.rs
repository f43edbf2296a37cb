//! What the other nodes tell, in the order in which it was told.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use model::{CertificateStatus, Event, NodeId};
use redis::{
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply, StreamReadReply},
};
use tokio::task::JoinSet;

use super::{
    Away, Shared,
    keys::BUS,
    link::{ANSWER_WITHIN, reason},
    messages::Message,
    receipts::Answer,
};
use crate::{Inner, RevocationNotice};

/// Where this node is in the stream of messages.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// The last message that was read; `None` before the first look.
    cursor: Option<String>,
    /// The last number heard of each node.
    heard: HashMap<NodeId, u64>,
    /// Orders that are being carried out.
    orders: JoinSet<()>,
}

impl Ear {
    /// Whether it does not know yet where to begin.
    pub(super) fn is_new(&self) -> bool {
        self.cursor.is_none()
    }

    /// Finds the place from which to read on. Before the first time that is the end: what was told before
    /// this node lived is not for it.
    pub(super) async fn settle(
        &mut self,
        shared: &Shared,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Away> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREVRANGE").arg(BUS).arg("+").arg("-").arg("COUNT").arg(1);
        pipeline.cmd("XRANGE").arg(BUS).arg("-").arg("+").arg("COUNT").arg(1);
        let looking = pipeline.query_async::<(StreamRangeReply, StreamRangeReply)>(connection);
        let (last, first) = match tokio::time::timeout(ANSWER_WITHIN, looking).await {
            Ok(Ok(ends)) => ends,
            Ok(Err(error)) => return Err(Away(reason(&error))),
            Err(_) => return Err(Away("it does not answer".into())),
        };
        let id = |reply: &StreamRangeReply| {
            reply.ids.first().map_or_else(|| "0-0".into(), |entry| entry.id.clone())
        };
        let (last, first) = (id(&last), id(&first));
        match &self.cursor {
            None => self.cursor = Some(last),
            Some(cursor) if order(&last) < order(cursor) => {
                missed(shared, "the shared registry was emptied, or another server answers");
                self.cursor = Some("0-0".into());
            }
            Some(cursor) if order(&first) > order(cursor) && order(cursor) > (0, 0) => {
                missed(shared, "this node was away for longer than messages are kept");
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Reads until the connection fails.
    pub(super) async fn listen(&mut self, inner: &std::sync::Arc<Inner>, shared: &Shared) -> Away {
        let mut connection = match shared.link.dial(READ_FOR + ANSWER_WITHIN).await {
            Ok(connection) => connection,
            Err(away) => return away,
        };
        if let Err(away) = self.settle(shared, &mut connection).await {
            return away;
        }
        loop {
            while self.orders.try_join_next().is_some() {}
            if self.orders.len() >= ORDERS_AT_ONCE {
                self.orders.join_next().await;
            }
            let cursor = self.cursor.clone().unwrap_or_else(|| "0-0".into());
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK").arg(super::rows::millis(READ_FOR)).arg("COUNT").arg(READ_AT_ONCE);
            read.arg("STREAMS").arg(BUS).arg(cursor);
            let answer = read.query_async::<Option<StreamReadReply>>(&mut connection);
            let entries = match tokio::time::timeout(READ_FOR + ANSWER_WITHIN, answer).await {
                Ok(Ok(reply)) => reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids),
                Ok(Err(error)) => return Away(reason(&error)),
                Err(_) => return Away("it does not answer".into()),
            };
            for entry in entries {
                self.hear(inner, shared, &entry);
                self.cursor = Some(entry.id);
            }
        }
    }

    fn hear(&mut self, inner: &std::sync::Arc<Inner>, shared: &Shared, entry: &StreamId) {
        let Some((from, number)) = sender(entry).filter(|(from, _)| *from != shared.node) else { return };
        if self.heard.len() >= NODES_REMEMBERED && !self.heard.contains_key(&from) {
            let alive = shared.nodes();
            self.heard.retain(|node, _| alive.contains_key(node));
        }
        let last = self.heard.entry(from.clone()).or_default();
        if number <= *last {
            return;
        }
        *last = number;
        let body = entry.get::<String>("body").filter(|body| body.len() <= LONGEST_BODY);
        match body.as_deref().map(serde_json::from_str::<Message>) {
            Some(Ok(message)) => self.heed(inner, shared, from, message),
            // A newer node may tell what this one does not know.
            _ => tracing::debug!(%from, number, "a message of another node was not understood"),
        }
    }

    fn heed(&mut self, inner: &std::sync::Arc<Inner>, shared: &Shared, from: NodeId, message: Message) {
        match message {
            Message::Event { event } => {
                if let Event::DeviceConnected { device, generation, .. } = &event {
                    inner.sessions.raise(*generation);
                    inner.give_way(device, *generation);
                }
                inner.bus.publish(event);
            }
            Message::Grant { change } => inner.grants.load(change),
            Message::Revoke { order, notice } => {
                let inner = std::sync::Arc::clone(inner);
                self.orders.spawn(async move { carry_out(&inner, from, order, notice).await });
            }
            Message::Revoked { to, order, closed, complete } if to == shared.node => {
                shared.receipts.answered(order, Answer { node: from, closed, complete });
            }
            Message::Revoked { .. } => {}
        }
    }
}

async fn carry_out(inner: &Inner, to: NodeId, order: u64, notice: RevocationNotice) {
    for fingerprint in &notice.certificates {
        inner.certificates.set_status(*fingerprint, CertificateStatus::Revoked);
    }
    let receipt = inner.revocations.announce(notice, CARRY_OUT_WITHIN).await;
    let complete = receipt.nodes_acked == receipt.nodes;
    if let Some(shared) = &inner.shared {
        shared.outbox.push(Message::Revoked { to, order, closed: receipt.tunnels_closed, complete });
    }
}

fn sender(entry: &StreamId) -> Option<(NodeId, u64)> {
    let from = entry.get::<String>("from")?.parse().ok()?;
    Some((from, entry.get::<u64>("number")?))
}

fn missed(shared: &Shared, why: &str) {
    shared.gaps.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(why, "messages of other nodes may have been missed");
}

/// An id of a stream as it is ordered; what is no id is before all.
fn order(id: &str) -> (u64, u64) {
    let (millis, number) = id.split_once('-').unwrap_or((id, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// How long one question for news stays open.
const READ_FOR: Duration = Duration::from_secs(2);
const READ_AT_ONCE: usize = 256;
const ORDERS_AT_ONCE: usize = 256;
const CARRY_OUT_WITHIN: Duration = Duration::from_secs(3);
const NODES_REMEMBERED: usize = 1024;
const LONGEST_BODY: usize = 64 * 1024;
