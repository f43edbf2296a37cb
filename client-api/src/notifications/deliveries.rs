//! What was sent to a webhook, what waits, and what was given up.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use model::{Code, DeliveryId, Refusal, Timestamp, UserActor};
use runtime::{
    http::{Absent, Conflicting, Page, Paging, Refused, Unproven, answer, ok},
    random,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{DeliveryRow, NewDelivery};
use utoipa::ToSchema;

use super::{TRIAL, webhooks::named};
use crate::{api::Inner, call::Call};

/// A message to a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery, example = json!({
    "id": "msg_0123456789abcdef0123456789abcdef", "event": "ev_17", "type": "notification", "state": "delivered",
    "attempts": 1, "next_at": null, "status": 204, "reason": null, "created_at": "2026-11-21T21:31:00Z",
    "ended_at": "2026-11-21T21:31:00Z",
}))]
struct Shown {
    /// `webhook-id`: the same in every repetition.
    #[schema(value_type = String, pattern = "^msg_[0-9a-f]{32}$")]
    id: DeliveryId,
    /// The event that it carries; `null` for a trial.
    event: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    /// `pending`; `delivered`; `dead`: given up; `dropped`: you may not know it any more.
    #[schema(pattern = "^(pending|delivered|dead|dropped)$")]
    state: String,
    /// How often it was tried.
    attempts: u32,
    /// When it is tried next.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    /// The status of the last answer.
    status: Option<u16>,
    /// Why the last attempt failed.
    reason: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// A message on its way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewDelivery)]
struct OnItsWay {
    #[schema(value_type = String, pattern = "^msg_[0-9a-f]{32}$")]
    id: DeliveryId,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only those in this state: `dead` lists what was given up.
    #[param(value_type = Option<String>, pattern = "^(pending|delivered|dead|dropped)$")]
    state: Option<State>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Pending,
    Delivered,
    Dead,
    Dropped,
}

/// What was sent to a webhook
///
/// The newest first. The last 500 that are over are kept, for 14 days.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}/deliveries",
    tag = "notifications",
    operation_id = "listDeliveries",
    params(("id" = String, Path, description = "The webhook."), Paging, Wanted),
    responses((status = 200, description = "A page of them.", body = Page<Shown>), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let (paging, wanted): (Paging, Wanted) = (call.query()?, call.query()?);
    let (limit, before) = (paging.limit()?, paging.after::<u64>()?);
    let hook = named(&api, &call).await?;
    let state = wanted.state.map(|state| match state {
        State::Pending => "pending",
        State::Delivered => "delivered",
        State::Dead => "dead",
        State::Dropped => "dropped",
    });
    let rows =
        api.store.deliveries(&hook.tenant, &hook.user, hook.id.as_str(), state, before, limit + 1).await;
    let rows = rows.map_err(|error| error.refusal("listing deliveries"))?;
    Ok(ok(&Page::cut(rows, limit, |row| row.number.to_string()).map(shown)))
}

/// Send a trial to a webhook
///
/// An event of type `webhook.test`, once: what became of it is among the deliveries.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/test",
    tag = "notifications",
    operation_id = "testWebhook",
    params(("id" = String, Path, description = "The webhook.")),
    responses(
        (status = 202, description = "It is on its way.", body = OnItsWay),
        Unproven, Absent, Conflicting, Refused
    ),
    security(("user" = [])),
)]
pub(crate) async fn test(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let hook = named(&api, &call).await?;
    if !hook.wanted.enabled {
        return Err(Refusal::new(Code::Conflict, "the webhook is switched off; switch it on first"));
    }
    let (id, now) = (DeliveryId::from_random(random::bytes()), api.clock.now());
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/tenants/{}", hook.tenant),
        "type": TRIAL,
        "time": now.rfc3339_millis(),
        "datacontenttype": "application/json",
        "tenant": hook.tenant,
        "data": {"webhook": hook.id},
    });
    let trial = NewDelivery {
        id: id.clone(),
        user: hook.user,
        channel: "webhook",
        target: hook.id.as_str().to_owned(),
        body: body.to_string(),
    };
    let added = api.store.add_trial(&hook.tenant, trial, TRIAL, now).await;
    added.map_err(|error| error.refusal("sending a trial"))?;
    api.wake_courier();
    Ok(answer(StatusCode::ACCEPTED, &OnItsWay { id }))
}

/// Send a delivery again
///
/// Under the same `webhook-id`, whatever became of it; with eight attempts again.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
    tag = "notifications",
    operation_id = "redeliver",
    params(
        ("id" = String, Path, description = "The webhook."),
        ("delivery" = String, Path, description = "The delivery."),
    ),
    responses((status = 202, description = "It is on its way.", body = Shown), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn redeliver(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let absent = || Refusal::new(Code::NotFound, "there is no such delivery");
    let delivery: Option<DeliveryId> = call.name("delivery");
    let hook = named(&api, &call).await?;
    let delivery = delivery.ok_or_else(absent)?;
    let row =
        api.store.redeliver(&hook.tenant, &hook.user, hook.id.as_str(), &delivery, api.clock.now()).await;
    let row = row.map_err(|error| error.refusal("sending a delivery again"))?;
    api.wake_courier();
    Ok(answer(StatusCode::ACCEPTED, &shown(row)))
}

fn shown(row: DeliveryRow) -> Shown {
    let is_pending = row.state == "pending";
    Shown {
        id: row.id,
        event: row.event.map(|event| format!("ev_{event}")),
        kind: row.kind,
        state: row.state,
        attempts: row.attempts,
        next_at: is_pending.then(|| row.next_at.rfc3339()),
        status: row.status,
        reason: row.reason,
        created_at: row.created_at.rfc3339(),
        ended_at: row.ended_at.map(Timestamp::rfc3339),
    }
}
