//! When devices were connected, since when, until when and why no longer: connection facts of the bus become rows
//! and events of the log.
//!
//! The bus may lose what it was told, and a process may die before it tells. So every sweep compares what has no
//! end in the rows with what stands in the registry: whatever does not stand there any more was lost.

use std::time::Duration;

use model::Event;
use registry::Registry;
use runtime::Clock;
use store::{ConnectionFact, Store};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, MissedTickBehavior},
};

/// What the writing of facts needs.
pub(crate) struct Sightings {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
}

impl Sightings {
    /// Writes rows until the process ends. When many devices come or go at once, many share a transaction.
    pub(crate) async fn note(self, mut events: Receiver<Event>) {
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                // The first sweep is before the first event: nobody is falsely online after a start.
                biased;
                _ = sweeps.tick() => {
                    self.sweep().await;
                    continue;
                }
                event = events.recv() => event,
            };
            let mut facts = match event {
                Ok(event) => Vec::from_iter(self.fact(event).await),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "some devices' connections may be missing in their history");
                    sweeps.reset_at(Instant::now());
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            while facts.len() < MOST_AT_ONCE
                && let Ok(event) = events.try_recv()
            {
                facts.extend(self.fact(event).await);
            }
            if !facts.is_empty() {
                self.write(facts).await;
            }
        }
    }

    async fn fact(&self, event: Event) -> Option<ConnectionFact> {
        Some(match event {
            Event::DeviceConnected { device, session, generation, at, .. } => {
                let services = self.registry.lookup(&device).await.map(|session| session.services);
                ConnectionFact::Began { device, session, generation, services, at }
            }
            Event::DeviceDisconnected { device, session, generation, cause, at } => {
                ConnectionFact::Ended { device, session, generation, cause: Some(cause), at }
            }
            Event::CloneSuspected { device, at } => ConnectionFact::CloneSuspected { device, at },
            _ => return None,
        })
    }

    /// A database that is busy or full is waited for; what comes meanwhile waits on the bus.
    async fn write(&self, facts: Vec<ConnectionFact>) {
        for attempt in 0..ATTEMPTS {
            match self.store.note_connections(facts.clone()).await {
                Ok(()) => return,
                Err(error) if error.is_passing() && attempt + 1 < ATTEMPTS => {
                    tracing::debug!(%error, "connections wait to be noted");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, facts = facts.len(), "it was not noted when devices were connected");
                    return;
                }
            }
        }
    }

    async fn sweep(&self) {
        let mut after = None;
        loop {
            let rows = match self.store.open_connections(after.take(), SWEPT_AT_ONCE).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(%error, "open connections were not compared; the next sweep tries again");
                    return;
                }
            };
            let Some(last) = rows.last() else { return };
            after = Some((last.device.clone(), last.generation));
            let mut lost = vec![];
            for row in rows {
                let stands = self.registry.lookup(&row.device).await;
                if stands.is_none_or(|session| session.generation != row.generation) {
                    let (device, session, generation) = (row.device, row.session, row.generation);
                    let at = self.clock.now();
                    lost.push(ConnectionFact::Ended { device, session, generation, cause: None, at });
                }
            }
            if !lost.is_empty() {
                tracing::info!(connections = lost.len(), "connections ended without anybody's saying so");
                self.write(lost).await;
            }
        }
    }
}

const MOST_AT_ONCE: usize = 256;
const SWEPT_AT_ONCE: u32 = 500;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
