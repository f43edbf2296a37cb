//! Pushes device tokens: one after a device has connected, the next at two thirds of its life, while the session
//! stands.
//!
//! A device that gets none, because it is older than this or too busy, is not lost: it shows its certificate.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use model::{DeviceRef, Event};
use registry::Registry;
use runtime::Tasks;
use tokio::{
    sync::{
        Semaphore,
        broadcast::{Receiver, error::RecvError},
        mpsc,
    },
    time::{Instant, sleep_until},
};

use crate::{
    device_tokens::{DeviceToken, DeviceTokens},
    schedule::{Due, Schedule},
};

/// Brings a token to the daemon of a device.
pub trait TokenDelivery: Send + Sync + 'static {
    /// Returns when the daemon has taken it; the error is for the log.
    fn deliver<'a>(
        &'a self,
        device: &'a DeviceRef,
        token: DeviceToken,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

/// What the pushing needs.
pub(crate) struct Pusher {
    pub(crate) tokens: Arc<DeviceTokens>,
    pub(crate) delivery: Arc<dyn TokenDelivery>,
    pub(crate) registry: Registry,
    pub(crate) tasks: Tasks,
}

impl Pusher {
    /// Pushes until the process drains. `events` were subscribed to before the device door opened.
    pub(crate) async fn run(self: Arc<Self>, mut events: Receiver<Event>) {
        let mut schedule = Schedule::default();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let (finished, mut outcomes) = mpsc::channel(AT_ONCE);
        let draining = self.tasks.draining();
        loop {
            let next = schedule.next_at();
            tokio::select! {
                () = draining.cancelled() => return,
                event = events.recv() => match event {
                    Ok(event) => self.heed(event, &mut schedule),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "some devices show their certificates until they connect again");
                    }
                    Err(RecvError::Closed) => return,
                },
                Some((at, due)) = outcomes.recv() => schedule.put(at, due),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && places.available_permits() > 0 => {
                    while let Ok(place) = Arc::clone(&places).try_acquire_owned()
                        && let Some(due) = schedule.pop(Instant::now())
                    {
                        let (pusher, finished) = (Arc::clone(&self), finished.clone());
                        self.tasks.spawn(async move {
                            let next = pusher.push(due).await;
                            drop(place);
                            if let Some(next) = next {
                                // Nobody listens any more at the end of the process.
                                let _ = finished.send(next).await;
                            }
                        });
                    }
                }
            }
        }
    }

    fn heed(&self, event: Event, schedule: &mut Schedule) {
        match event {
            // The node that holds the session reaches the device.
            Event::DeviceConnected { device, generation, node, .. } if node == *self.registry.node() => {
                let at = Instant::now() + FIRST.mul_f64(fraction());
                schedule.put(at, Due { device, generation, failures: 0 });
            }
            Event::DeviceDisconnected { device, generation, .. } => schedule.remove(&device, generation),
            _ => {}
        }
    }

    /// Pushes once; tells when to push again. None when the session is over.
    async fn push(&self, due: Due) -> Option<(Instant, Due)> {
        let session = self.registry.lookup(&due.device).await;
        let session = session.filter(|session| session.generation == due.generation)?;
        let delivered = match self.tokens.mint(&session) {
            Ok(token) => self.delivery.deliver(&due.device, token).await,
            Err(error) => Err(error.to_string()),
        };
        let life = self.tokens.life();
        let (delay, failures) = match delivered {
            Ok(()) => {
                tracing::debug!(device = %due.device, "a device token was pushed");
                // Two thirds, spread, so that devices that came together do not come together again.
                (life.mul_f64(RENEWED_AT - SPREAD * fraction()), 0)
            }
            Err(error) => {
                tracing::info!(device = %due.device, error, "a device token was not taken");
                let delay = RETRY.saturating_mul(1 << due.failures.min(10)).min(life);
                (delay.mul_f64(0.5 + fraction() / 2.0), due.failures.saturating_add(1))
            }
        };
        Some((Instant::now() + delay, Due { failures, ..due }))
    }
}

/// From 0 to 1, by chance.
fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(runtime::random::bytes())) / f64::from(u32::MAX)
}

const AT_ONCE: usize = 32;
/// Within this time after a device has connected.
const FIRST: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(5);
const RENEWED_AT: f64 = 2.0 / 3.0;
const SPREAD: f64 = 0.1;

#[cfg(test)]
#[path = "pushing_tests.rs"]
mod tests;
