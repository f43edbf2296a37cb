//! The event bus of this process: bounded, never waits for a listener.

use model::Event;
use tokio::sync::broadcast;

#[derive(Debug)]
pub(crate) struct Bus(broadcast::Sender<Event>);

impl Default for Bus {
    fn default() -> Self {
        Self(broadcast::channel(EVENTS_KEPT).0)
    }
}

impl Bus {
    pub(crate) fn publish(&self, event: Event) {
        tracing::debug!(subject = event.subject(), tenant = %event.tenant(), device = event.device().map(|device| device.device.as_str()), "event");
        // Without a listener there is nobody to tell.
        let _ = self.0.send(event);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

/// Events that a slow listener may be behind before it is told that it lagged.
const EVENTS_KEPT: usize = 4096;
