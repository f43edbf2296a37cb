//! Going away politely: no new sessions and streams, live streams finish, devices go elsewhere one by
//! one and not all at once.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::TunnelServer;

/// How the server goes away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// When what is left is cut.
    pub(crate) deadline: Instant,
    /// Over how long the devices are spread.
    spread: Duration,
}

impl Plan {
    fn new(sessions: usize, grace: Duration, now: Instant) -> Self {
        let spread = EACH.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX)).min(grace / 2);
        Self { deadline: now + grace, spread }
    }

    /// How long live streams may still go on.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// When one device is to go: uniform over the spread.
    pub(crate) fn delay(&self) -> Duration {
        self.spread.mul_f64(fastrand::f64())
    }
}

impl TunnelServer {
    /// Goes away: takes no new sessions and streams, asks every device to connect elsewhere, waits for
    /// the streams, at most `grace`, and ends each session with a goodbye. Resolves when none is left.
    pub async fn drain(self: &Arc<Self>, grace: Duration) {
        let plan = Plan::new(self.sessions.len(), grace, Instant::now());
        self.draining.send_if_modified(|draining| {
            let first = draining.is_none();
            draining.get_or_insert(plan);
            first
        });
        // Every session holds a seat, also those that were about to begin.
        let all_seats = self.seats.acquire_many(self.config.max_sessions);
        let gone = tokio::time::timeout_at(plan.deadline + LAST_WORDS, all_seats).await;
        if gone.is_err() {
            tracing::warn!(sessions = self.sessions.len(), "sessions did not end in time");
        }
    }
}

/// The pace at which devices leave.
const EACH: Duration = Duration::from_millis(1);
/// For goodbyes said at the deadline itself to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_devices_leave_at_once_and_many_within_half_of_the_grace() {
        let grace = Duration::from_secs(30);
        let now = Instant::now();
        assert_eq!(Plan::new(3, grace, now).spread, Duration::from_millis(3));
        assert_eq!(Plan::new(10_000, grace, now).spread, Duration::from_secs(10));
        assert_eq!(Plan::new(1_000_000, grace, now).spread, grace / 2);
        let plan = Plan::new(10_000, grace, now);
        let mut delays: Vec<_> = (0..500).map(|_| plan.delay()).collect();
        delays.sort();
        assert!(delays[499] <= plan.spread);
        assert!(delays[499] - delays[0] > plan.spread / 2, "not spread: {delays:?}");
    }
}
