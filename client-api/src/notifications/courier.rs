//! Carries what is owed: one message at a time to each receiver, so many at a time in all. Who is slow or dead
//! delays nobody else.
//!
//! What is owed are rows. A process that dies in the middle of a call makes it again, under the same name.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use model::{TenantName, Timestamp, UserId};
use runtime::{Clock, Tasks};
use store::{Attempt, Attempted, DueDelivery, Endpoint, Store, StoreError};
use tokio::sync::Notify;

use super::{
    TRIAL,
    channel::{Channel, Outcome},
    schedule,
};

/// Carries deliveries through the channels.
pub(crate) struct Courier {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) webhooks: Box<dyn Channel>,
    pub(crate) push: Option<Box<dyn Channel>>,
    /// Something was filed.
    pub(crate) wake: Notify,
}

/// A receiver.
type Target = (TenantName, String);

impl Courier {
    /// Works until the process drains.
    pub(crate) async fn run(self: Arc<Self>) {
        let draining = self.tasks.draining();
        let mut busy: HashMap<Target, UserId> = HashMap::new();
        let mut running = FuturesUnordered::new();
        let mut forgotten_at = Timestamp(0);
        while !draining.is_cancelled() {
            let now = self.clock.now();
            if now.since(forgotten_at) >= BETWEEN_CLEANINGS {
                forgotten_at = now;
                self.forget(now).await;
            }
            let next = match self.start(&mut busy, now).await {
                Ok((started, next)) => {
                    for (target, delivery) in started {
                        let courier = Arc::clone(&self);
                        // A task of its own: its panic is not the courier's.
                        let attempt = self.tasks.spawn(async move { courier.attempt(delivery).await });
                        running.push(async move {
                            if let Err(error) = attempt.await {
                                tracing::error!(%error, "a delivery ended badly");
                            }
                            target
                        });
                    }
                    next
                }
                Err(error) => {
                    tracing::warn!(%error, "deliveries wait: the store does not answer");
                    AFTER_A_FAULT
                }
            };
            tokio::select! {
                () = draining.cancelled() => {}
                Some(target) = running.next(), if !running.is_empty() => { busy.remove(&target); }
                () = self.wake.notified() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// What may begin now, noted as busy, and how long to wait for more.
    async fn start(
        &self,
        busy: &mut HashMap<Target, UserId>,
        now: Timestamp,
    ) -> Result<(Vec<(Target, DueDelivery)>, Duration), StoreError> {
        let mut started = vec![];
        if busy.len() < MOST_AT_ONCE {
            for delivery in self.store.due_deliveries(now, CANDIDATES).await? {
                let target = (delivery.tenant.clone(), delivery.target.clone());
                let of_user = busy.values().filter(|user| **user == delivery.user).count();
                if busy.len() >= MOST_AT_ONCE || of_user >= MOST_OF_A_USER || busy.contains_key(&target) {
                    continue;
                }
                busy.insert(target.clone(), delivery.user.clone());
                started.push((target, delivery));
            }
        }
        let next = self.store.next_delivery_at().await?;
        let wait = next.map_or(LONGEST_WAIT, |next| next.since(now).min(LONGEST_WAIT));
        // What is due and cannot begin waits for one that ends, which wakes this up; or for the clock.
        Ok((started, wait.max(SHORTEST_WAIT)))
    }

    /// One attempt, noted.
    async fn attempt(&self, delivery: DueDelivery) {
        let now = self.clock.now();
        let outcome = match &delivery.endpoint {
            _ if !delivery.is_granted => None,
            None => None,
            Some(endpoint @ Endpoint::Webhook { .. }) => {
                Some(self.webhooks.deliver(&delivery, endpoint, now).await)
            }
            Some(endpoint @ Endpoint::Fcm { .. }) => match &self.push {
                Some(push) => Some(push.deliver(&delivery, endpoint, now).await),
                None => {
                    Some(Outcome::Refused { status: None, reason: "no push account is configured".into() })
                }
            },
        };
        let now = self.clock.now();
        let noted = match outcome {
            Some(outcome) => self.note(&delivery, outcome, now).await,
            None => {
                let reason = Some("it is no longer to be told".into());
                let dropped = Attempt { outcome: Attempted::Dropped, status: None, reason };
                self.store.note_attempt(&delivery, dropped, now).await
            }
        };
        if let Err(error) = noted {
            // The row is as it was: it goes out again.
            tracing::warn!(delivery = %delivery.id, %error, "an attempt was not noted and will be repeated");
        }
    }

    async fn note(&self, delivery: &DueDelivery, outcome: Outcome, now: Timestamp) -> Result<(), StoreError> {
        tracing::debug!(delivery = %delivery.id, target = delivery.target, ?outcome, "a delivery was tried");
        let attempt = match outcome {
            Outcome::Delivered(status) => {
                Attempt { outcome: Attempted::Delivered, status: Some(status), reason: None }
            }
            Outcome::Refused { status, reason } => {
                Attempt { outcome: Attempted::Dead, status, reason: Some(reason) }
            }
            Outcome::Gone { status, reason } => {
                let dead =
                    Attempt { outcome: Attempted::Dead, status: Some(status), reason: Some(reason.clone()) };
                self.store.note_attempt(delivery, dead, now).await?;
                return match &delivery.endpoint {
                    Some(Endpoint::Fcm { .. }) => {
                        self.store.forget_push_registration(&delivery.tenant, &delivery.target).await
                    }
                    _ => self.disable(delivery, &reason, now).await,
                };
            }
            Outcome::Failed { status, reason, asked } => {
                let (failures, since) = match &delivery.endpoint {
                    Some(Endpoint::Webhook { failures, failing_since, .. }) => (*failures, *failing_since),
                    _ => (0, None),
                };
                let delay = schedule::delay(delivery.attempts + 1, jitter(), asked);
                let delay = delay.filter(|_| delivery.kind != TRIAL);
                let attempt = Attempt {
                    outcome: delay.map_or(Attempted::Dead, |delay| Attempted::Again {
                        next_at: now.plus(delay),
                        resume_at: now.plus(schedule::breather(failures + 1, asked)),
                    }),
                    status,
                    reason: Some(reason),
                };
                self.store.note_attempt(delivery, attempt, now).await?;
                if since.is_some_and(|since| now.since(since) >= DEAD_AFTER) {
                    self.disable(delivery, "it has failed for five days", now).await?;
                }
                return Ok(());
            }
        };
        self.store.note_attempt(delivery, attempt, now).await
    }

    async fn disable(&self, delivery: &DueDelivery, why: &str, now: Timestamp) -> Result<(), StoreError> {
        tracing::info!(webhook = delivery.target, why, "a webhook was switched off");
        self.store.disable_webhook(&delivery.tenant, &delivery.user, &delivery.target, why, now).await
    }

    async fn forget(&self, now: Timestamp) {
        loop {
            let outcome = async {
                let deliveries =
                    self.store.forget_old_deliveries(now.minus(PENDING_LIFE), now.minus(ENDED_LIFE), now);
                Ok::<_, StoreError>(
                    deliveries.await? + self.store.forget_old_notifications(now.minus(INBOX_LIFE)).await?,
                )
            };
            match outcome.await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return tracing::warn!(%error, "old notifications are not forgotten"),
            }
        }
    }
}

/// From 0 to 1.
fn jitter() -> f64 {
    f64::from(u16::from_be_bytes(runtime::random::bytes())) / f64::from(u16::MAX)
}

const MOST_AT_ONCE: usize = 64;
const MOST_OF_A_USER: usize = 2;
const CANDIDATES: u32 = 512;
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const AFTER_A_FAULT: Duration = Duration::from_secs(1);
const BETWEEN_CLEANINGS: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);
const DEAD_AFTER: Duration = DAY.saturating_mul(5);
const PENDING_LIFE: Duration = DAY.saturating_mul(7);
const ENDED_LIFE: Duration = DAY.saturating_mul(14);
const INBOX_LIFE: Duration = DAY.saturating_mul(90);
