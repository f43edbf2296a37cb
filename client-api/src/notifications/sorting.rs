//! Reads the event log and works out who is told what, through which channels.
//!
//! The store looks at the rights, here it is decided what becomes of them. [`plan`] is the whole decision.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use model::DeliveryId;
use runtime::{Clock, Tasks};
use store::{EventRow, NewDelivery, Recipient, Sorted, Store, StoreError, WebhookRow};

use super::{courier::Courier, fcm_message, notice::Told, settings::Settings};
use crate::events::cloud_event::CloudEvent;

/// Reads the log until the process drains. `done` hears up to where nothing of it is needed here any more.
pub(crate) async fn run(
    store: Store,
    clock: Clock,
    tasks: Tasks,
    courier: Arc<Courier>,
    done: Arc<AtomicU64>,
) {
    let draining = tasks.draining();
    let has_push = courier.push.is_some();
    let mut newest = store.newest_event();
    let mut marks: Option<Marks> = None;
    loop {
        newest.mark_unchanged();
        let outcome = step(&store, &clock, &mut marks, has_push).await;
        if let (Ok(_), Some(marks)) = (&outcome, marks) {
            done.store(marks.read, Ordering::Relaxed);
        }
        let pause = match outcome {
            Ok(Step::Filed { sends }) => {
                if sends {
                    courier.wake.notify_one();
                }
                continue;
            }
            // A moment's patience: what arrives close together is read together.
            Ok(Step::Read) => PATIENCE,
            Ok(Step::AtTheEnd) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, "notifications wait: the store does not answer");
                marks = None;
                AFTER_A_FAULT
            }
        };
        if pause.is_zero() {
            tokio::select! {
                () = draining.cancelled() => return,
                changed = newest.changed() => if changed.is_err() { return },
            }
        } else {
            tokio::select! {
                () = draining.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// How far the log was read, and up to where that is noted.
#[derive(Debug, Clone, Copy)]
struct Marks {
    read: u64,
    noted: u64,
}

enum Step {
    /// Something was filed or noted; there may be more.
    Filed {
        sends: bool,
    },
    /// Some was read that concerns nobody.
    Read,
    AtTheEnd,
}

async fn step(
    store: &Store,
    clock: &Clock,
    marks: &mut Option<Marks>,
    has_push: bool,
) -> Result<Step, StoreError> {
    let at = match marks {
        Some(marks) => *marks,
        None => {
            let noted = store.sorted_upto().await?;
            Marks { read: noted, noted }
        }
    };
    let stretch = store.stretch_of_events(at.read, STRETCH).await?;
    *marks = Some(Marks { read: stretch.upto, ..at });
    if stretch.upto == at.read {
        return Ok(Step::AtTheEnd);
    }
    let now = clock.now();
    let mut sorted = Vec::with_capacity(stretch.events.len());
    for event in stretch.events {
        let recipients = store.audience(&event, now).await?;
        sorted.push(plan(event, recipients, has_push, || DeliveryId::from_random(runtime::random::bytes())));
    }
    // Read again after a crash, it would concern nobody again; so it need not be noted each time.
    if sorted.is_empty() && stretch.upto - at.noted < MOST_UNNOTED {
        return Ok(Step::Read);
    }
    let sends = sorted.iter().any(|one| !one.deliveries.is_empty());
    if store.file_sorted(at.noted, stretch.upto, sorted, now).await? {
        *marks = Some(Marks { read: stretch.upto, noted: stretch.upto });
    } else {
        // Another process of this cloud was faster.
        *marks = None;
    }
    Ok(Step::Filed { sends })
}

/// What an event leads to.
fn plan(
    event: EventRow,
    recipients: Vec<Recipient>,
    has_push: bool,
    mut fresh: impl FnMut() -> DeliveryId,
) -> Sorted {
    let (mut inboxes, mut deliveries) = (vec![], vec![]);
    let told = Told::of(&event);
    let mut envelope = None;
    for recipient in recipients {
        let settings = Settings::read(recipient.settings.as_deref());
        let passes = |channel: bool| match &told {
            Some(told) => channel && settings.lets_through(told),
            None => true,
        };
        if told.is_some() {
            inboxes.push(recipient.user.clone());
        }
        for webhook in &recipient.webhooks {
            if passes(settings.channels.webhook) && wants(webhook, &event) {
                let body = envelope.get_or_insert_with(|| CloudEvent::of(&event).text());
                deliveries.push(NewDelivery {
                    id: fresh(),
                    user: recipient.user.clone(),
                    channel: "webhook",
                    target: webhook.id.as_str().to_owned(),
                    body: body.clone(),
                });
            }
        }
        let Some(told) = told.as_ref().filter(|_| has_push && passes(settings.channels.fcm)) else {
            continue;
        };
        for app in &recipient.apps {
            deliveries.push(NewDelivery {
                id: fresh(),
                user: recipient.user.clone(),
                channel: "fcm",
                target: app.id.as_str().to_owned(),
                body: fcm_message::message(app.platform, told).to_string(),
            });
        }
    }
    Sorted { event, inboxes, deliveries }
}

/// A webhook gets what came after it was made, of the types and devices that it asks for; telemetry by name alone.
fn wants(webhook: &WebhookRow, event: &EventRow) -> bool {
    let (wanted, what) = (&webhook.wanted, &event.event);
    let is_type = match &wanted.types {
        None => what.subject != TELEMETRY,
        Some(types) => types.contains(&what.subject),
    };
    let is_device = wanted
        .devices
        .as_ref()
        .is_none_or(|devices| what.device.as_ref().is_some_and(|device| devices.contains(device)));
    wanted.enabled && is_type && is_device && webhook.created_at <= event.received_at
}

pub(crate) const TELEMETRY: &str = "telemetry";
const STRETCH: u32 = 500;
const MOST_UNNOTED: u64 = 5000;
const PATIENCE: Duration = Duration::from_millis(20);
const AFTER_A_FAULT: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "sorting_tests.rs"]
mod tests;
