//! What makes the shared registry whole and keeps it so: one lease for this node, its sessions said again
//! every few seconds whatever happened in between, its messages sent, those of others heard.

use std::{sync::Arc, time::Duration};

use model::{Generation, NodeId};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::{Away, Shared, hearing::Ear, keys, link::ANSWER_WITHIN, rows::millis};
use crate::{Inner, sessions::SHARDS};

/// The work behind a shared registry; nothing is shared unless it runs.
#[derive(Debug)]
pub struct Keeping(pub(crate) Arc<Inner>);

impl Keeping {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let inner = self.0;
        let Some(shared) = &inner.shared else { return };
        let ear = Mutex::new(Ear::default());
        tokio::join!(keep_up(&inner, shared, &ear), keep_telling(shared), keep_hearing(&inner, shared, &ear));
    }
}

/// Brings the link up, and down when a heartbeat fails.
async fn keep_up(inner: &Inner, shared: &Shared, ear: &Mutex<Ear>) {
    let mut pause = SHORTEST_PAUSE;
    let mut told = None;
    loop {
        let joined = join(inner, shared, ear).await;
        if let Err(away) = &joined {
            shared.link.down(away.clone());
        }
        shared.looked.send_replace(true);
        let away = match joined {
            Ok(()) => {
                tracing::info!("the shared registry is used");
                (pause, told) = (SHORTEST_PAUSE, None);
                let away = stay(inner, shared).await;
                shared.link.down(away.clone());
                away
            }
            Err(away) => away,
        };
        if told.as_ref() != Some(&away) {
            tracing::warn!(
                reason = away.0,
                "the shared registry cannot be used; this node goes on by itself"
            );
            told = Some(away);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn join(inner: &Inner, shared: &Shared, ear: &Mutex<Ear>) -> Result<(), Away> {
    let mut connection = shared.link.dial(ANSWER_WITHIN).await?;
    // Before the others count on this node to hear them.
    if let Ok(mut ear) = ear.try_lock()
        && ear.is_new()
    {
        ear.settle(shared, &mut connection).await?;
    }
    beat(inner, shared, &mut connection).await?;
    shared.link.up(connection);
    say_all(inner, shared).await
}

/// Heartbeats, and every session said again, until one fails.
async fn stay(inner: &Inner, shared: &Shared) -> Away {
    let mut said = Instant::now();
    loop {
        tokio::select! {
            () = sleep(HEARTBEAT) => {}
            // Somebody was refused, or waited in vain: look now, but not in a hot loop.
            () = shared.link.doubted() => sleep(SHORTEST_PAUSE).await,
        }
        if let Some(problem) = shared.link.problem() {
            return Away(problem);
        }
        let mut connection = match shared.link.connection() {
            Ok(connection) => connection,
            Err(away) => return away,
        };
        if let Err(away) = beat(inner, shared, &mut connection).await {
            return away;
        }
        if said.elapsed() >= SAY_AGAIN {
            said = Instant::now();
            if let Err(away) = say_all(inner, shared).await {
                return away;
            }
        }
    }
}

async fn beat(
    inner: &Inner,
    shared: &Shared,
    connection: &mut redis::aio::MultiplexedConnection,
) -> Result<(), Away> {
    let mut call = shared.scripts.heartbeat.prepare_invoke();
    call.key(keys::NODES).key(keys::COUNTS).key(keys::COUNTER);
    call.arg(shared.node.as_str()).arg(millis(NODE_LEASE)).arg(inner.sessions.highest().0);
    call.arg(inner.sessions.len());
    let answer: Vec<String> = match timeout(ANSWER_WITHIN, call.invoke_async(connection)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Away(super::link::reason(&error))),
        Err(_) => return Err(Away("it does not answer".into())),
    };
    if let Some(highest) = answer.first().and_then(|text| text.parse().ok()) {
        inner.sessions.raise(Generation(highest));
    }
    let pairs = answer.get(1..).unwrap_or_default().chunks_exact(2);
    let nodes = pairs.filter_map(|pair| Some((pair[0].parse::<NodeId>().ok()?, pair[1].parse().ok()?)));
    *shared.nodes_known() = nodes.collect();
    Ok(())
}

async fn say_all(inner: &Inner, shared: &Shared) -> Result<(), Away> {
    for part in 0..SHARDS {
        for (device, newer) in shared.stand(&inner.sessions.part(part)).await? {
            inner.give_way(&device, newer);
        }
    }
    Ok(())
}

async fn keep_telling(shared: &Shared) {
    loop {
        shared.link.wait_up().await;
        if shared.flush().await.is_err() {
            // The keeper was told; until it has looked, nothing can be sent.
            sleep(SHORTEST_PAUSE).await;
            continue;
        }
        tokio::select! {
            () = shared.outbox.news() => {}
            () = shared.departed.notified() => {}
        }
    }
}

async fn keep_hearing(inner: &Arc<Inner>, shared: &Shared, ear: &Mutex<Ear>) {
    loop {
        shared.link.wait_up().await;
        let away = ear.lock().await.listen(inner, shared).await;
        tracing::debug!(reason = away.0, "other nodes are not heard");
        sleep(SHORTEST_PAUSE).await;
    }
}

impl Shared {
    /// Sends everything that waits.
    async fn flush(&self) -> Result<(), Away> {
        loop {
            self.flush_departures().await?;
            let messages = self.outbox.take(MESSAGES_AT_ONCE);
            if messages.is_empty() {
                return Ok(());
            }
            let mut pipeline = redis::pipe();
            for (number, message) in &messages {
                let body =
                    serde_json::to_string(message).expect("a message of names and numbers has a JSON form");
                pipeline.cmd("XADD").arg(keys::BUS).arg("MAXLEN").arg("~").arg(MESSAGES_KEPT).arg("*");
                pipeline
                    .arg("from")
                    .arg(self.node.as_str())
                    .arg("number")
                    .arg(*number)
                    .arg("body")
                    .arg(body)
                    .ignore();
            }
            if let Err(away) = self.link.send::<()>(&pipeline).await {
                self.outbox.put_back(messages);
                return Err(away);
            }
        }
    }

    /// Sends what waits and takes this node off the list, if the link is up.
    pub(crate) async fn close(&self) {
        let leaving = async {
            self.flush().await?;
            let mut call = self.scripts.goodbye.prepare_invoke();
            call.key(keys::NODES).key(keys::COUNTS).arg(self.node.as_str());
            self.link.run::<usize>(&call).await
        };
        if !matches!(timeout(LEAVE_WITHIN, leaving).await, Ok(Ok(_))) {
            tracing::debug!("the other nodes will see by its lease that this one is gone");
        }
    }
}

const HEARTBEAT: Duration = Duration::from_secs(3);
/// After this a node that is not heard of is not counted, and no row of its is.
const NODE_LEASE: Duration = Duration::from_secs(10);
/// A third of what a row lives without it.
const SAY_AGAIN: Duration = Duration::from_secs(8);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
const MESSAGES_AT_ONCE: usize = 128;
/// Messages that a node which was away can still read.
const MESSAGES_KEPT: usize = 16_384;
