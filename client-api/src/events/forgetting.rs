//! Retention: the oldest events go, a few at a time with pauses between, so that intake never waits long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::Clock;
use store::{EventsKept, ForgettingStep, Store};

/// How much of the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For how long.
    pub age: Duration,
    /// How many events at most.
    pub events: u64,
    /// How much room they take at most.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 86_400), events: 10_000_000, bytes: 4096 << 20 }
    }
}

impl Retention {
    fn kept(self, store: &Store, clock: &Clock, read: u64) -> EventsKept {
        let newest = *store.newest_event().borrow();
        // Notifications come first. But a log that they cannot be read from must not grow for ever.
        let looked_at = if newest.saturating_sub(read) > MOST_UNREAD { u64::MAX } else { read };
        let since = clock.now().minus(self.age);
        EventsKept { since, at_most: self.events, bytes: self.bytes, looked_at }
    }
}

/// Deletes until the process ends. `read` is how far notifications have read the log.
pub(crate) async fn forget(store: Store, clock: Clock, retention: Retention, read: Arc<AtomicU64>) {
    loop {
        let kept = retention.kept(&store, &clock, read.load(Ordering::Relaxed));
        let pause = match store.forget_events(kept, STEP).await {
            Ok(forgotten) if forgotten.more => BETWEEN_STEPS,
            Ok(_) => BETWEEN_LOOKS,
            Err(error) => {
                tracing::warn!(%error, "old events cannot be deleted");
                AFTER_A_FAULT
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// So little that the writer is held up for some milliseconds, so often that more goes than can come.
const STEP: ForgettingStep = ForgettingStep { events: 500, bytes: 2 << 20 };
const BETWEEN_STEPS: Duration = Duration::from_millis(20);
/// In this time the log may grow beyond its limits.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
const AFTER_A_FAULT: Duration = Duration::from_secs(20);
const MOST_UNREAD: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use model::{DeviceRef, TenantName, Timestamp};
    use store::NewEvent;

    use super::*;

    #[tokio::test]
    async fn what_notifications_have_not_read_stays_but_not_for_ever() {
        let store = Store::in_memory().await.unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_800_000_000)).0;
        let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
        let event = NewEvent::of_device(&device, "telemetry", clock.now());
        store.append_events(vec![event; 3], clock.now()).await.unwrap();
        let retention = Retention { events: 0, ..Retention::default() };
        let forget = async |read| {
            store.forget_events(retention.kept(&store, &clock, read), STEP).await.unwrap().events
        };
        assert_eq!(forget(0).await, 0);
        assert_eq!(forget(2).await, 2);
        assert_eq!(retention.kept(&store, &clock, 3).looked_at, 3);
        assert_eq!(Retention::default().kept(&store, &clock, 0).since.0, clock.now().0 - 30 * 86_400_000);
    }
}
