//! What passing time does to sessions: certificates end, and signs of life are told to the registry.
//!
//! One task for all sessions, so that an idle session needs no timer of its own here.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use model::DisconnectCause;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    TunnelServer, counts,
    sessions::{Live, Order, SHARDS},
};

impl TunnelServer {
    pub(crate) async fn keep_sessions(self: Arc<Self>) {
        // Each session's sign of life is told once a heartbeat, a part of the sessions each time.
        let parts = usize::try_from(self.config.heartbeat.as_secs()).unwrap_or(SHARDS).clamp(1, SHARDS);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for part in (0..parts).cycle() {
            ticks.tick().await;
            self.end_expired();
            self.sessions.visit_part(part, parts, |live| self.tell_life(live));
            counts::sessions(self.sessions.len());
            counts::streams(self.sessions.stream_count());
            self.weigh();
            if part == 0 {
                self.end_used_up();
            }
        }
    }

    /// Looks how much is held for those who do not read, by which [`Dialer::open`](tcpmux_proto::Dialer) decides.
    fn weigh(&self) {
        let held = self.sessions.held_bytes();
        counts::held_bytes(held);
        let before = self.held.swap(held, Ordering::Relaxed);
        if held > self.config.held_bytes && before <= self.config.held_bytes {
            tracing::warn!(
                held,
                limit = self.config.held_bytes,
                "no streams are opened: too much is not read"
            );
        }
    }

    fn end_expired(&self) {
        let now = self.clock.now();
        for live in self.sessions.take_all_if(|live| live.presented.not_after <= now) {
            tracing::info!(device = %live.presented.device, "certificate has expired");
            let _ = live.order.send(Order::End(DisconnectCause::Expired));
        }
    }

    /// A session can open about a thousand million streams; the device has to begin another before that.
    fn end_used_up(&self) {
        for live in self.sessions.take_all_if(|live| live.handle.opens_left() < OPENS_KEPT) {
            tracing::info!(device = %live.presented.device, "session has used up its streams");
            let _ = live.order.send(Order::End(DisconnectCause::Draining));
        }
    }

    fn tell_life(&self, live: &mut Live) {
        let heard = live.handle.last_heard();
        if heard > live.told {
            live.told = heard;
            let at = self.clock.now().minus(Instant::now().saturating_duration_since(heard));
            self.registry.verified(&live.presented.device, live.generation, at);
        }
    }
}

/// How late an expired certificate's session may end.
const TICK: Duration = Duration::from_secs(1);
/// Streams that a session can still open when it ends; more than it opens in a heartbeat.
const OPENS_KEPT: u32 = 1 << 22;
