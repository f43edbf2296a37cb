//! Retention: once a minute the oldest events go, a few at a time with pauses between, so that intake never waits.

use std::time::Duration;

use runtime::Clock;
use store::{EventsKept, Store};

/// How much of the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For how long.
    pub age: Duration,
    /// How many events at most.
    pub events: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 86_400), events: 10_000_000 }
    }
}

/// Deletes until the process ends.
pub(crate) async fn forget(store: Store, clock: Clock, retention: Retention) {
    loop {
        let kept = EventsKept { since: clock.now().minus(retention.age), at_most: retention.events };
        let pause = match store.forget_events(kept, BATCH).await {
            Ok(forgotten) if forgotten == u64::from(BATCH) => BETWEEN_BATCHES,
            Ok(_) => BETWEEN_LOOKS,
            Err(error) => {
                tracing::warn!(%error, "old events cannot be deleted");
                BETWEEN_LOOKS
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// So few that the writer is held up for milliseconds, so often that 25,000 a second go.
const BATCH: u32 = 500;
const BETWEEN_BATCHES: Duration = Duration::from_millis(20);
const BETWEEN_LOOKS: Duration = Duration::from_secs(20);
