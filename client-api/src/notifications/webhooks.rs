//! A person's webhooks.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use axum::response::Response;
use http::{StatusCode, header::IF_MATCH};
use model::{Code, DeviceId, EVENT_TYPES, Refusal, Secret, Timestamp, UserActor, WebhookId};
use runtime::{
    http::{Absent, Conflicting, Page, Precondition, Refused, Unproven, answer, done, ok},
    random,
};
use serde::{Deserialize, Deserializer, Serialize};
use store::{WebhookRow, WebhookWish};
use utoipa::ToSchema;

use crate::{api::Inner, call::Call, conditions};

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook, example = json!({
    "id": "wh_0123456789abcdef0123456789abcdef", "url": "https://example.com/hook", "types": ["notification"],
    "devices": null, "enabled": true, "disabled_for": null, "created_at": "2026-11-21T21:31:00Z",
    "earlier_secret_until": null, "failing_since": null, "overflowed": 0,
}))]
struct Shown {
    #[schema(value_type = String, pattern = "^wh_[0-9a-f]{32}$")]
    id: WebhookId,
    /// Where events are sent.
    url: String,
    /// Of which types; `null` for all but telemetry.
    types: Option<Vec<String>>,
    /// Of which devices; `null` for all that you may reach.
    #[schema(value_type = Option<Vec<String>>)]
    devices: Option<Vec<DeviceId>>,
    /// Whether events are sent.
    enabled: bool,
    /// Why the cloud has switched it off.
    disabled_for: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Until then the secret before signs too.
    #[schema(format = DateTime)]
    earlier_secret_until: Option<String>,
    /// Since then every attempt has failed. After five days it is switched off.
    #[schema(format = DateTime)]
    failing_since: Option<String>,
    /// How many events were left out because a thousand waited already.
    overflowed: u64,
    /// What signatures are made with: shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A new secret of a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookSecret)]
struct NewSecret {
    /// Shown this once.
    secret: String,
    /// Until then the secret before signs too.
    #[schema(format = DateTime)]
    earlier_secret_until: String,
}

/// A webhook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhook)]
pub(crate) struct Asked {
    /// An `https://` address at a public address, port 443 or above 1023.
    url: String,
    /// Of which types; all but telemetry where absent.
    #[serde(default)]
    types: Option<Vec<String>>,
    /// Of which devices; all that you may reach where absent.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    devices: Option<Vec<DeviceId>>,
    /// Whether events are sent at all.
    #[serde(default = "yes")]
    enabled: bool,
}

/// What is to change of a webhook; what is absent stays, `null` is the usual.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookChange)]
pub(crate) struct Change {
    #[serde(default)]
    #[schema(nullable = false)]
    url: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    types: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    devices: Option<Option<Vec<DeviceId>>>,
    #[serde(default)]
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

/// Your webhooks
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    tag = "notifications",
    operation_id = "listWebhooks",
    responses((status = 200, description = "All of them: ten at most.", body = Page<Shown>), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let rows = api.store.webhooks_of(call.actor.tenant(), call.actor.user()).await;
    let rows = rows.map_err(|error| error.refusal("listing webhooks"))?;
    Ok(ok(&Page::whole(rows).map(shown)))
}

/// Make a webhook
///
/// Events are sent as CloudEvents in JSON, signed by Standard Webhooks. The secret is in the answer, this once.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    tag = "notifications",
    operation_id = "makeWebhook",
    request_body = Asked,
    responses(
        (status = 201, description = "It is made.", body = Shown,
            headers(("ETag" = String, description = "Names this state of what can be changed."))),
        Unproven, Conflicting, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn create(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let owner = call.actor.clone();
    let Asked { url, types, devices, enabled } = call.json().await?;
    let wish = checked(&api, WebhookWish { url, types, devices, enabled })?;
    let id = WebhookId::from_random(random::bytes());
    let (secret, sealed) = api.outlets.signer.make(&id);
    let made = api.store.add_webhook(&owner, &id, wish, sealed, MOST_WEBHOOKS, api.clock.now()).await;
    let row = made.map_err(|error| error.refusal("making a webhook"))?;
    let state = tag_of(&row);
    let made = Shown { secret: Some(once(&secret)), ..shown(row) };
    Ok(conditions::tagged(answer(StatusCode::CREATED, &made), &state))
}

/// One webhook
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}",
    tag = "notifications",
    operation_id = "showWebhook",
    params(("id" = String, Path, description = "The webhook.")),
    responses(
        (status = 200, description = "The webhook.", body = Shown,
            headers(("ETag" = String, description = "Names this state of what can be changed."))),
        Unproven, Absent, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn show(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    Ok(with_state(named(&api, &call).await?))
}

/// Change a webhook
///
/// `If-Match` has to name the `ETag` that `GET` gave, or be `*`. One that the cloud has switched off begins anew when
/// it is switched on.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{id}",
    tag = "notifications",
    operation_id = "changeWebhook",
    params(
        ("id" = String, Path, description = "The webhook."),
        ("If-Match" = String, Header, description = "The `ETag` of what you have read, or `*`."),
    ),
    request_body = Change,
    responses(
        (status = 200, description = "As it is now.", body = Shown,
            headers(("ETag" = String, description = "Names this state of what can be changed."))),
        Unproven, Absent, Precondition, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn change(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let (owner, row) = (call.actor.clone(), named(&api, &call).await?);
    let condition = call.headers().get(IF_MATCH).cloned();
    let change: Change = call.json().await?;
    let (read, state) = (row.wanted.clone(), tag_of(&row));
    let wish = checked(
        &api,
        WebhookWish {
            url: change.url.unwrap_or(row.wanted.url),
            types: change.types.unwrap_or(row.wanted.types),
            devices: change.devices.unwrap_or(row.wanted.devices),
            enabled: change.enabled.unwrap_or(row.wanted.enabled),
        },
    )?;
    if !conditions::holds(condition.as_ref(), &state)? {
        return Err(changed());
    }
    let written = api.store.change_webhook(&owner, &row.id, read, wish, api.clock.now()).await;
    let row = written.map_err(|error| error.refusal("changing a webhook"))?.ok_or_else(changed)?;
    api.wake_courier();
    Ok(with_state(row))
}

/// Remove a webhook
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{id}",
    tag = "notifications",
    operation_id = "removeWebhook",
    params(("id" = String, Path, description = "The webhook.")),
    responses((status = 204, description = "It is gone."), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn remove(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let id: WebhookId = call.name("id").ok_or_else(absent)?;
    let removed = api.store.remove_webhook(&call.actor, &id, api.clock.now()).await;
    removed.map_err(|error| error.refusal("removing a webhook"))?;
    Ok(done())
}

/// Give a webhook a new secret
///
/// For a day the secret before signs too, so that receivers can change without losing anything.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/rotate",
    tag = "notifications",
    operation_id = "rotateWebhookSecret",
    params(("id" = String, Path, description = "The webhook.")),
    responses((status = 200, description = "The new secret.", body = NewSecret), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn rotate(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let id: WebhookId = call.name("id").ok_or_else(absent)?;
    let (secret, sealed) = api.outlets.signer.make(&id);
    let now = api.clock.now();
    let until = now.plus(EARLIER_SECRET_LIFE);
    let rotated = api.store.rotate_webhook_secret(&call.actor, &id, sealed, until, now).await;
    rotated.map_err(|error| error.refusal("rotating a webhook's secret"))?;
    Ok(ok(&NewSecret { secret: once(&secret), earlier_secret_until: until.rfc3339() }))
}

/// The webhook that the path names, if it is the caller's.
pub(super) fn named<'a>(
    api: &'a Inner,
    call: &Call<UserActor>,
) -> impl Future<Output = Result<WebhookRow, Refusal>> + Send + use<'a> {
    let (owner, id) = (call.actor.clone(), call.name::<WebhookId>("id"));
    async move {
        let row = api.store.webhook(owner.tenant(), owner.user(), &id.ok_or_else(absent)?).await;
        row.map_err(|error| error.refusal("reading a webhook"))?.ok_or_else(absent)
    }
}

fn checked(api: &Inner, mut wish: WebhookWish) -> Result<WebhookWish, Refusal> {
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    let url = api.outlets.outbound.destinations().read(&wish.url);
    wish.url = url.map_err(|error| bad(format!("url: {error}")))?.into();
    if let Some(types) = &mut wish.types {
        types.sort();
        types.dedup();
        if let Some(unknown) = types.iter().find(|kind| !EVENT_TYPES.contains(&kind.as_str())) {
            let unknown: String = unknown.chars().take(64).collect();
            return Err(bad(format!("types: there is no `{unknown}`; there are {}", EVENT_TYPES.join(", "))));
        }
    }
    if let Some(devices) = &mut wish.devices {
        devices.sort();
        devices.dedup();
        if devices.len() > MOST_DEVICES {
            return Err(bad(format!("devices: at most {MOST_DEVICES}; leave it out for all")));
        }
    }
    Ok(wish)
}

fn shown(row: WebhookRow) -> Shown {
    Shown {
        id: row.id,
        url: row.wanted.url,
        types: row.wanted.types,
        devices: row.wanted.devices,
        enabled: row.wanted.enabled,
        disabled_for: row.disabled_for,
        created_at: row.created_at.rfc3339(),
        earlier_secret_until: row.earlier_secret_until.map(Timestamp::rfc3339),
        failing_since: row.failing_since.map(Timestamp::rfc3339),
        overflowed: row.overflowed,
        secret: None,
    }
}

/// A webhook with the name of its state.
fn with_state(row: WebhookRow) -> Response {
    let state = tag_of(&row);
    conditions::tagged(answer(StatusCode::OK, &shown(row)), &state)
}

/// Of what its owner may change, and of its making: attempts and failures are no change.
fn tag_of(row: &WebhookRow) -> String {
    let WebhookWish { url, types, devices, enabled } = &row.wanted;
    let state = serde_json::json!([row.created_at.millis(), url, types, devices, enabled, row.disabled_for]);
    format!("\"{}\"", model::hex(&digest(&SHA256, state.to_string().as_bytes()).as_ref()[..16]))
}

fn changed() -> Refusal {
    Refusal::new(Code::PreconditionFailed, "the webhook was changed since you read it; read it again")
}

/// Into the one answer that shows it.
fn once(secret: &Secret<String>) -> String {
    secret.expose().clone()
}

pub(super) fn absent() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such webhook")
}

const fn yes() -> bool {
    true
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

const MOST_WEBHOOKS: u32 = 10;
const MOST_DEVICES: usize = 100;
const EARLIER_SECRET_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
