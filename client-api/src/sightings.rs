//! When devices were connected, since when, until when and why no longer: connection facts of the bus become rows
//! and events of the log.
//!
//! The bus may lose what it was told, and a process may die before it tells. So every sweep compares what has no
//! end in the rows with what stands in the registry: whatever does not stand there any more was lost. When beginnings may
//! have been missed, the sweep goes through every device, too, and notes what stands.

use std::time::Duration;

use model::Event;
use registry::{Registry, SessionRecord};
use runtime::Clock;
use store::{ConnectionFact, Store, StoreError};
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
        let mut missed = false;
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                // The first sweep is before the first event: nobody is falsely online after a start.
                biased;
                _ = sweeps.tick() => {
                    self.sweep().await;
                    missed = missed && !self.note_what_stands().await;
                    continue;
                }
                event = events.recv() => event,
            };
            let mut facts = match event {
                Ok(event) => Vec::from_iter(self.fact(event).await),
                Err(RecvError::Lagged(events)) => {
                    tracing::info!(events, "more devices came than were noted: looking at all of them");
                    missed = true;
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
                missed |= !self.write(facts).await;
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

    /// A database that is busy or full is waited for; what comes meanwhile waits on the bus. False if that took too long.
    async fn write(&self, facts: Vec<ConnectionFact>) -> bool {
        for attempt in 0..ATTEMPTS {
            match self.store.note_connections(facts.clone()).await {
                Ok(()) => return true,
                Err(error) if error.is_passing() && attempt + 1 < ATTEMPTS => {
                    tracing::debug!(%error, "connections wait to be noted");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, facts = facts.len(), "it was not noted when devices were connected");
                    return false;
                }
            }
        }
        false
    }

    /// Notes the sessions that stand, which is nothing new for those that were noted. A connection that came and went
    /// unheard is in no history. False if the next sweep has to try again.
    async fn note_what_stands(&self) -> bool {
        match self.try_note_what_stands().await {
            Ok(noted) => noted,
            Err(error) => {
                tracing::warn!(%error, "devices were not gone through; the next sweep tries again");
                false
            }
        }
    }

    async fn try_note_what_stands(&self) -> Result<bool, StoreError> {
        for tenant in self.store.tenants().await? {
            let mut after = None;
            loop {
                let rows = self.store.devices(&tenant.name, after.as_ref(), NOTED_AT_ONCE).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.device.device.clone());
                let mut facts = vec![];
                for row in rows {
                    if let Some(session) = self.registry.lookup(&row.device).await {
                        let SessionRecord { device, session, generation, services, since: at, .. } = session;
                        let services = Some(services);
                        facts.push(ConnectionFact::Began { device, session, generation, services, at });
                    }
                }
                if !facts.is_empty() && !self.write(facts).await {
                    return Ok(false);
                }
            }
        }
        Ok(true)
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
const NOTED_AT_ONCE: u32 = 256;
const SWEPT_AT_ONCE: u32 = 500;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use model::{DeviceRef, Fingerprint};

    use super::*;
    use crate::testing::{NOW, Room};

    async fn until_noted(room: &Room, device: &DeviceRef) {
        let noted = async {
            while room.store.connections(device, None, 10).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), noted).await.expect("a row within 20 s");
    }

    #[tokio::test]
    async fn a_connection_that_the_bus_lost_is_noted_all_the_same() {
        let room = Room::new().await;
        let (camera, lamp) = (room.device("default", "cam-01").await, room.device("default", "lamp").await);
        // The first sweep is over, so that it cannot be the one that finds the camera.
        room.connect(&lamp, &[]).await;
        let session = room.registry.lookup(&lamp).await.unwrap();
        let SessionRecord { device, session, generation, node, since: at, .. } = session;
        room.registry.publish(Event::DeviceConnected { device, session, generation, node, at });
        until_noted(&room, &lamp).await;

        room.connect(&camera, &["web"]).await;
        // Nobody else runs while the bus is flooded.
        for _ in 0..10_000 {
            let (device, certificate) = (lamp.clone(), Fingerprint([9; 32]));
            room.registry.publish(Event::CertificateIssued { device, certificate, renewal: true, at: NOW });
        }
        until_noted(&room, &camera).await;
        let rows = room.store.connections(&camera, None, 10).await.unwrap();
        let stands = room.registry.lookup(&camera).await.unwrap();
        assert_eq!((rows.len(), rows[0].generation, rows[0].began_at), (1, stands.generation, NOW));
        let row = room.store.device(&camera.tenant, &camera.device).await.unwrap().unwrap();
        assert_eq!((row.verified_at, row.services), (Some(NOW), stands.services));
        let told = |subject: &str, events: &[store::EventRow]| {
            events.iter().filter(|row| row.event.subject == subject).count()
        };
        let events = room.store.events_after(0, 100).await.unwrap();
        assert_eq!(told("device.connected", &events), 2, "each once: {events:?}");
    }
}
