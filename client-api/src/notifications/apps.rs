//! A person's apps that take push messages.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use model::{Code, PushRegistrationId, Refusal, UserActor};
use runtime::{
    http::{Absent, Page, Refused, Unproven, answer, done, ok},
    random,
};
use serde::{Deserialize, Serialize};
use store::{Platform, PushRegistrationRow};
use utoipa::ToSchema;

use crate::{api::Inner, call::Call};

/// An app that takes push messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PushRegistration)]
struct Shown {
    #[schema(value_type = String, pattern = "^push_[0-9a-f]{32}$")]
    id: PushRegistrationId,
    /// What it runs on.
    #[schema(pattern = "^(android|ios|web)$")]
    platform: String,
    #[schema(format = DateTime)]
    created_at: String,
}

/// An app to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPushRegistration)]
pub(crate) struct Asked {
    /// The registration token that Firebase gave the app.
    token: String,
    /// What it runs on.
    #[schema(pattern = "^(android|ios|web)$")]
    platform: String,
}

/// An app to be forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OldPushRegistration)]
pub(crate) struct Forgotten {
    /// Its registration token.
    token: String,
}

/// Your apps
#[utoipa::path(
    get,
    path = "/v1/push/fcm",
    tag = "notifications",
    operation_id = "listPushRegistrations",
    responses((status = 200, description = "All of them: twenty at most.", body = Page<Shown>), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let rows = api.store.push_registrations_of(call.actor.tenant(), call.actor.user()).await;
    let rows = rows.map_err(|error| error.refusal("listing apps"))?;
    let shown = |row: PushRegistrationRow| Shown {
        id: row.id,
        platform: row.platform.as_str().into(),
        created_at: row.created_at.rfc3339(),
    };
    Ok(ok(&Page::whole(rows).map(shown)))
}

/// Register an app
///
/// A token belongs to one person: whoever registers it last. The twenty newest of yours are kept.
#[utoipa::path(
    post,
    path = "/v1/push/fcm",
    tag = "notifications",
    operation_id = "registerApp",
    request_body = Asked,
    responses((status = 201, description = "It gets notifications from now on.", body = Shown), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn register(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let owner = call.actor.clone();
    let Asked { token, platform } = call.json().await?;
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    let platform: Platform = platform.parse().map_err(|error| bad(format!("platform: {error}")))?;
    let is_token = (1..=MOST_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if !is_token {
        return Err(bad(format!("token: 1 to {MOST_TOKEN} characters without spaces")));
    }
    if api.outlets.push.is_none() {
        let detail = "this cloud sends no push messages: its operator has not set [fcm] credentials_file";
        return Err(Refusal::new(Code::Conflict, detail));
    }
    let now = api.clock.now();
    let row = PushRegistrationRow {
        id: PushRegistrationId::from_random(random::bytes()),
        tenant: owner.tenant().clone(),
        user: owner.user().clone(),
        platform,
        token,
        created_at: now,
    };
    let id = api.store.put_push_registration(row, MOST_APPS).await;
    let id = id.map_err(|error| error.refusal("registering an app"))?;
    let shown = Shown { id, platform: platform.as_str().into(), created_at: now.rfc3339() };
    Ok(answer(StatusCode::CREATED, &shown))
}

/// Forget an app
#[utoipa::path(
    delete,
    path = "/v1/push/fcm",
    tag = "notifications",
    operation_id = "forgetApp",
    request_body = Forgotten,
    responses((status = 204, description = "It gets nothing any more."), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn forget(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let owner = call.actor.clone();
    let Forgotten { token } = call.json().await?;
    let forgotten = api.store.remove_push_token(owner.tenant(), owner.user(), &token).await;
    if forgotten.map_err(|error| error.refusal("forgetting an app"))? {
        Ok(done())
    } else {
        Err(Refusal::new(Code::NotFound, "no app of yours has this token"))
    }
}

const MOST_TOKEN: usize = 1024;
const MOST_APPS: u32 = 20;
