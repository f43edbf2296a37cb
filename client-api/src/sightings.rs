//! When devices were last connected, and what they served then: connection facts of the bus become rows.

use model::Event;
use registry::Registry;
use store::{Sighting, Store};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Writes rows until the process ends. When many devices come or go at once, many share a transaction.
pub(crate) async fn note(store: Store, registry: Registry, mut events: Receiver<Event>) {
    loop {
        let mut seen = match events.recv().await {
            Ok(event) => Vec::from_iter(sighting(&registry, event).await),
            Err(RecvError::Lagged(missed)) => {
                // A device's next coming or going says it again.
                tracing::warn!(missed, "some devices' last connection may be shown too early");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        while seen.len() < MOST_AT_ONCE
            && let Ok(event) = events.try_recv()
        {
            seen.extend(sighting(&registry, event).await);
        }
        if !seen.is_empty()
            && let Err(error) = store.note_devices_seen(seen).await
        {
            tracing::warn!(%error, "it was not noted when devices were connected");
        }
    }
}

async fn sighting(registry: &Registry, event: Event) -> Option<Sighting> {
    let (device, services, at) = match event {
        Event::DeviceConnected { device, at, .. } => {
            let services = registry.lookup(&device).await.map(|session| session.services);
            (device, services, at)
        }
        Event::DeviceDisconnected { device, at, .. } => (device, None, at),
        _ => return None,
    };
    Some(Sighting { device, services, at })
}

const MOST_AT_ONCE: usize = 256;
