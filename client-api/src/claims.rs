//! Claiming: a person who can read the code off a device becomes its owner.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::StatusCode;
use model::{
    Actor, ClaimCode, ClaimDigest, Code, DeviceId, DeviceRef, Event, Level, Refusal, Secret, UserActor,
};
use runtime::http::{Caller, Conflicting, Refused, Routes, Unproven, answer};
use serde::{Deserialize, Serialize};
use store::Claim;
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
    claiming::digest_of,
    telling,
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().post("/v1/claims", Caller::User, handler(api, claim))
}

/// What a person read off a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewClaim, example = json!({"code": "WDJB-MJHT-KQXN-VZCP-LRFS"}))]
struct Asked {
    /// 20 letters; lower case, blanks and hyphens do not matter.
    code: String,
}

/// The device that is the caller's now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Claim, example = json!({"device": "cam-01", "level": "owner"}))]
struct Claimed {
    #[schema(value_type = String)]
    device: DeviceId,
    #[schema(value_type = String, pattern = "^owner$")]
    level: Level,
}

/// Become the owner of a device by the code that it shows
///
/// The device has to be connected: it is asked in this moment whether it shows the code. A wrong code, one that was
/// replaced and one that was used have the same answer.
#[utoipa::path(
    post,
    path = "/v1/claims",
    tag = "ownership",
    operation_id = "claimDevice",
    request_body = inline(Asked),
    responses(
        (status = 201, description = "You own it.", body = inline(Claimed)),
        (status = 404, description = "No device of yours to claim shows this code.", body = runtime::http::Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong codes.", body = runtime::http::Problem,
            content_type = "application/problem+json"),
        Conflicting, Unproven, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn claim(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let (user, source) = (call.actor.clone(), call.source());
    let text = Secret::new(call.json::<Asked>().await?.code);
    let code: ClaimCode = text.expose().parse().map_err(|error| {
        Refusal::new(Code::BadRequest, format!("code: {error}")).because("malformed_code")
    })?;
    let digest = digest_of(&code);
    let Some(device) = open_to_claim(&api, &user, digest).await? else {
        return Err(api.wrong_codes.refuse(&user, source));
    };
    if !shows(&api, &device, digest).await {
        // It may have been claimed while it was asked.
        return Err(match open_to_claim(&api, &user, digest).await? {
            None => api.wrong_codes.refuse(&user, source),
            Some(_) => Refusal::new(
                Code::DeviceOffline,
                "the device is not connected, or shows another code by now; it has to be connected to be claimed",
            )
            .with_status(409)
            .because("device_offline")
            .retry_after(5),
        });
    }
    let claiming = Arc::clone(&api);
    let by = user.clone();
    let outcome = api.to_its_end(async move { become_owner(&claiming, &by, digest).await }).await?;
    match outcome {
        Claim::Done { device, .. } => {
            Ok(answer(StatusCode::CREATED, &Claimed { device: device.device, level: Level::Owner }))
        }
        Claim::NoSuchCode => Err(api.wrong_codes.refuse(&user, source)),
        Claim::AlreadyOwned => Err(already_owned()),
    }
}

/// The device of the user's tenant whose code this is.
async fn open_to_claim(
    api: &Inner,
    user: &UserActor,
    digest: ClaimDigest,
) -> Result<Option<DeviceRef>, Refusal> {
    let found = api.store.claimable(user.tenant(), digest, api.clock.now()).await;
    let found = found.map_err(|error| error.refusal("looking up a claim code"))?;
    match found {
        Some(found) if found.owned => Err(already_owned()),
        found => Ok(found.map(|found| DeviceRef::new(user.tenant().clone(), found.device))),
    }
}

/// Whether the device is there in this moment and shows this very code: a row would only say that it was.
async fn shows(api: &Inner, device: &DeviceRef, digest: ClaimDigest) -> bool {
    let Some(calls) = &api.calls else { return false };
    let session = api.registry.lookup(device).await;
    let shown = match calls.shown_code(device, VERIFIED_WITHIN).await {
        Ok(shown) => shown,
        Err(error) => {
            tracing::debug!(%device, %error, "the device did not prove that it is there");
            return false;
        }
    };
    if let Some(session) = session {
        api.registry.verified(device, session.generation, api.clock.now());
    }
    shown == Some(digest)
}

/// The row first, then those are told who decide by it, then the device.
async fn become_owner(api: &Inner, user: &UserActor, digest: ClaimDigest) -> Result<Claim, Refusal> {
    let (by, at) = (Actor::User(user.clone()), api.clock.now());
    let claimed = api.store.claim(user.tenant(), digest, user.user(), &by, at).await;
    let claimed = claimed.map_err(|error| error.refusal("claiming a device"))?;
    if let Claim::Done { device, grant_sequence } = &claimed {
        let owner = user.user().clone();
        telling::of_user(api, device.clone(), owner.clone(), *grant_sequence, at);
        api.registry.publish(Event::DeviceClaimed { device: device.clone(), user: owner, at });
        if let Some(claiming) = &api.claiming {
            claiming.was_claimed(device);
        }
        tracing::info!(%device, user = %user.user(), "device claimed");
    }
    Ok(claimed)
}

fn already_owned() -> Refusal {
    Refusal::new(Code::Conflict, "the device has an owner, who can release it or hand it on")
        .because("already_owned")
}

const VERIFIED_WITHIN: Duration = Duration::from_secs(5);
