//! Telling people what happened: inboxes, webhooks, push messages.
//!
//! [`sorting`] reads the event log and files what each event leads to; [`courier`] carries what was filed through
//! the [`channel`]s. Between the two there are rows and nothing else, so neither waits for the other and both go on
//! after a restart where they were. The rest are people's calls.

pub(crate) mod apps;
mod channel;
mod courier;
pub(crate) mod deliveries;
mod fcm_channel;
mod fcm_message;
pub(crate) mod inbox;
mod notice;
mod schedule;
mod seams;
pub(crate) mod settings;
mod sorting;
mod webhook_channel;
pub(crate) mod webhooks;

use std::sync::{Arc, atomic::AtomicU64};

use runtime::{
    Clock, Tasks,
    http::{Caller, Routes},
};
use store::Store;
use tokio::sync::Notify;

pub(crate) use courier::Courier;
pub use seams::{Outlets, Push, PushSender, WebhookSigner};

use crate::{api::Inner, call::handler};
use channel::Channel;
use fcm_channel::FcmChannel;
use webhook_channel::WebhookChannel;

/// Begins to sort and to carry. The number tells up to where the log was sorted.
pub(crate) fn start(
    store: &Store,
    clock: &Clock,
    tasks: &Tasks,
    outlets: &Outlets,
) -> (Arc<Courier>, Arc<AtomicU64>) {
    let webhooks = WebhookChannel { signer: outlets.signer.clone(), outbound: outlets.outbound.clone() };
    let push = outlets.push.clone().map(|push| Box::new(FcmChannel(push)) as Box<dyn Channel>);
    let courier = Arc::new(Courier {
        store: store.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        webhooks: Box::new(webhooks),
        push,
        wake: Notify::new(),
    });
    tasks.spawn(Arc::clone(&courier).run());
    let sorted = Arc::default();
    let sorting =
        sorting::run(store.clone(), clock.clone(), tasks.clone(), Arc::clone(&courier), Arc::clone(&sorted));
    tasks.spawn(sorting);
    (courier, sorted)
}

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    const SETTINGS: &str = "/v1/notifications/settings";
    const WEBHOOK: &str = "/v1/webhooks/{id}";
    const APPS: &str = "/v1/push/fcm";
    Routes::new()
        .get("/v1/notifications", Caller::User, handler(api, inbox::list))
        .post("/v1/notifications/{id}/read", Caller::User, handler(api, inbox::read))
        .get(SETTINGS, Caller::User, handler(api, settings::show))
        .put(SETTINGS, Caller::User, handler(api, settings::put))
        .get("/v1/webhooks", Caller::User, handler(api, webhooks::list))
        .post("/v1/webhooks", Caller::User, handler(api, webhooks::create))
        .get(WEBHOOK, Caller::User, handler(api, webhooks::show))
        .patch(WEBHOOK, Caller::User, handler(api, webhooks::change))
        .delete(WEBHOOK, Caller::User, handler(api, webhooks::remove))
        .post("/v1/webhooks/{id}/rotate", Caller::User, handler(api, webhooks::rotate))
        .post("/v1/webhooks/{id}/test", Caller::User, handler(api, deliveries::test))
        .get("/v1/webhooks/{id}/deliveries", Caller::User, handler(api, deliveries::list))
        .post(
            "/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
            Caller::User,
            handler(api, deliveries::redeliver),
        )
        .get(APPS, Caller::User, handler(api, apps::list))
        .post(APPS, Caller::User, handler(api, apps::register))
        .delete(APPS, Caller::User, handler(api, apps::forget))
}

/// The type of an event that is sent on request, once.
const TRIAL: &str = "webhook.test";

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
