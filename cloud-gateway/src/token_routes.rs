//! The calls that give proxy tokens.

use std::{sync::Arc, time::Duration};

use axum::{Extension, body::Body, extract::Request, response::Response};
use model::{Actor, AdminActor, Code, DeviceId, DeviceRef, Level, Refusal, UserActor, parse_duration};
use runtime::{
    Clock,
    http::{Caller, OfTenant, Refused, Routes, Unproven, json_body, ok, problem, query},
};
use serde::{Deserialize, Serialize};
use store::{AuditEntry, Store};
use utoipa::ToSchema;

use crate::authorizer::{Authorizer, LONGEST_LIFETIME, MintError, Minted};

/// `POST /v1/token`.
pub(crate) fn user_routes(authorizer: &Arc<Authorizer>) -> Routes {
    let authorizer = Arc::clone(authorizer);
    let handler = move |Extension(user): Extension<UserActor>, request: Request| {
        let authorizer = Arc::clone(&authorizer);
        async move { respond(for_user(&authorizer, &user, request.into_body()).await) }
    };
    Routes::new().post("/v1/token", Caller::User, handler)
}

/// `POST /admin/api/tokens`.
pub(crate) fn admin_routes(authorizer: &Arc<Authorizer>, store: &Store, clock: &Clock) -> Routes {
    let (authorizer, store, clock) = (Arc::clone(authorizer), store.clone(), clock.clone());
    let handler = move |Extension(admin): Extension<AdminActor>, request: Request| {
        let (authorizer, store, clock) = (Arc::clone(&authorizer), store.clone(), clock.clone());
        async move { respond(for_operator(&authorizer, &store, &clock, admin, request).await) }
    };
    Routes::new().post("/admin/api/tokens", Caller::Admin, handler)
}

/// What a token is to be good for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"device": "cam-01"}))]
struct UserAsks {
    /// For this device alone; otherwise for all that you may reach, at most 50.
    #[schema(value_type = Option<String>, max_length = 63)]
    device: Option<DeviceId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorAsks {
    device: DeviceId,
    #[serde(default = "operator")]
    level: Level,
    ttl: Option<String>,
}

/// A token for the proxy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln", "expires_at": "2026-11-21T21:36:00Z"}))]
struct Token {
    /// To be shown as `Authorization: Bearer` under `/d` and to open streams.
    token: String,
    /// No new request is admitted with it from then on.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A token for the proxy
///
/// It names the devices that you may reach now, and none of the others: without any, its list is empty.
#[utoipa::path(
    post,
    path = "/v1/token",
    tag = "tokens",
    operation_id = "mintToken",
    request_body(content = Option<UserAsks>, description = "No body: all devices."),
    responses((status = 200, description = "The token.", body = Token), Unproven, Refused),
    security(("user" = [])),
)]
async fn for_user(authorizer: &Authorizer, user: &UserActor, body: Body) -> Result<Minted, Refusal> {
    let UserAsks { device } = json_body(body).await?;
    authorizer.for_user(user, device).await.map_err(not_minted)
}

async fn for_operator(
    authorizer: &Authorizer,
    store: &Store,
    clock: &Clock,
    admin: AdminActor,
    request: Request,
) -> Result<Minted, Refusal> {
    let OfTenant { tenant } = query(request.uri())?;
    let OperatorAsks { device, level, ttl } = json_body(request.into_body()).await?;
    let lifetime = lifetime(ttl.as_deref())?;
    let device = DeviceRef::new(tenant, device);
    let found = store.device(&device.tenant, &device.device).await;
    if found.map_err(|error| error.refusal("finding a device"))?.is_none() {
        return Err(Refusal::new(Code::NotFound, "there is no such device in this tenant"));
    }
    let minted = authorizer.for_operator(&device, level, lifetime).await.map_err(not_minted)?;
    // Nobody gets a token that is not on record.
    let detail = format!("level={level} ttl={}s jti={}", lifetime.as_secs(), minted.id);
    let entry = AuditEntry::done(&Actor::Admin(admin), "token.mint", format!("device:{device}"), detail);
    store.append_audit(entry, clock.now()).await.map_err(|error| error.refusal("recording a token"))?;
    Ok(minted)
}

fn lifetime(asked: Option<&str>) -> Result<Duration, Refusal> {
    let Some(asked) = asked else { return Ok(DEFAULT_LIFETIME) };
    let bad = |reason: String| Refusal::new(Code::BadRequest, format!("ttl: {reason}"));
    let lifetime = parse_duration(asked).map_err(|error| bad(error.to_string()))?;
    if lifetime < Duration::from_secs(1) || lifetime > LONGEST_LIFETIME {
        return Err(bad("from 1s to 1h".into()));
    }
    Ok(lifetime)
}

fn respond(outcome: Result<Minted, Refusal>) -> Response {
    match outcome {
        Ok(minted) => ok(&Token { token: minted.token, expires_at: minted.expires_at.rfc3339() }),
        Err(refusal) => problem(&refusal),
    }
}

pub(crate) fn not_minted(error: MintError) -> Refusal {
    match error {
        MintError::Store(error) => error.refusal("reading grants for a token"),
        MintError::Signing(error) => {
            tracing::error!(%error, "cannot sign a token");
            Refusal::new(Code::Internal, "something here is broken; the server's log says what")
        }
    }
}

fn operator() -> Level {
    Level::Operator
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
