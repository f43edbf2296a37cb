//! Sharing a device: its owner gives rights to other users of the tenant and takes them back. Effective on the
//! next request, and on live streams at once. Ownership is neither given nor ended here.

use std::sync::Arc;

use axum::response::Response;
use model::{Actor, Code, Level, Refusal, UserActor, UserId};
use runtime::http::{Absent, Caller, Conflicting, NotAllowed, Page, Refused, Routes, Unproven, done, ok};
use store::StoreError;

use crate::{
    api::Inner,
    call::{Call, handler},
    granting::{Asked, Granted, no_grant, no_user},
    reach, telling,
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    const GRANT: &str = "/v1/devices/{id}/grants/{user}";
    Routes::new()
        .get("/v1/devices/{id}/grants", Caller::User, handler(api, list))
        .put(GRANT, Caller::User, handler(api, put))
        .delete(GRANT, Caller::User, handler(api, remove))
}

/// Who may reach a device
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/grants",
    tag = "sharing",
    operation_id = "listGrants",
    params(("id" = String, Path, description = "The device; you own it.")),
    responses(
        (status = 200, description = "Everybody's rights, your own among them, on one page.", body = Page<Granted>),
        Unproven, NotAllowed, Absent, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let device = reach::owned(reach::device(&api, &call).await?)?.device.device;
    let grants = api.store.grants_on_device(&device.tenant, &device.device).await;
    let mut grants = grants.map_err(|error| error.refusal("reading the grants of a device"))?;
    let now = api.clock.now();
    grants.retain(|(_, grant)| grant.is_live(now));
    Ok(ok(&Page::whole(grants).map(|(user, grant)| Granted::of(&device.device, &user, &grant))))
}

/// Share a device with a user
///
/// In place of any right that the user has there. The user tells you the `id` that `GET /v1/me` shows. The level
/// `owner` is not given here: a device has one owner, and is transferred.
#[utoipa::path(
    put,
    path = "/v1/devices/{id}/grants/{user}",
    tag = "sharing",
    operation_id = "putGrant",
    params(
        ("id" = String, Path, description = "The device; you own it."),
        ("user" = String, Path, description = "Who is to reach it."),
    ),
    request_body = Asked,
    responses(
        (status = 200, description = "The right as it is now.", body = Granted),
        Unproven, NotAllowed, Absent, Conflicting, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn put(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let device = reach::owned(reach::device(&api, &call).await?)?.device.device;
    let owner = call.actor.clone();
    let user: UserId = call.name("user").ok_or_else(no_user)?;
    let at = api.clock.now();
    let grant = call.json::<Asked>().await?.grant(at)?;
    if grant.level == Level::Owner {
        let said = "a device has one owner: to give it away, offer a transfer";
        return Err(Refusal::new(Code::Conflict, said));
    }
    let answer = Granted::of(&device.device, &user, &grant);
    let sharing = Arc::clone(&api);
    api.to_its_end(async move {
        let (store, by) = (&sharing.store, Actor::User(owner.clone()));
        let sequence = store.share_device(&device, owner.user(), &user, grant, &by, at).await;
        let sequence = sequence.map_err(|error| match error {
            StoreError::NotFound("user") => no_user(),
            StoreError::NotFound(_) => reach::absent(),
            other => other.refusal("sharing a device"),
        })?;
        telling::of_user(&sharing, device, user, sequence, at);
        Ok(())
    })
    .await?;
    Ok(ok(&answer))
}

/// Take a right back, or give one's own up
///
/// The owner ends anybody's right but the ownership; everybody else ends their own.
#[utoipa::path(
    delete,
    path = "/v1/devices/{id}/grants/{user}",
    tag = "sharing",
    operation_id = "removeGrant",
    params(
        ("id" = String, Path, description = "The device."),
        ("user" = String, Path, description = "Whose right; your own `id` where you do not own the device."),
    ),
    responses(
        (status = 204, description = "There is none any more."),
        Unproven, NotAllowed, Absent, Conflicting, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn remove(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let reached = reach::device(&api, &call).await?;
    let caller = call.actor.clone();
    let user: Option<UserId> = call.name("user");
    let is_own = user.as_ref() == Some(caller.user());
    let reached = if is_own { reached } else { reach::owned(reached)? };
    let (device, user) = (reached.device.device, user.ok_or_else(no_grant)?);
    let at = api.clock.now();
    let removing = Arc::clone(&api);
    api.to_its_end(async move {
        let owner = (!is_own).then(|| caller.user());
        let by = Actor::User(caller.clone());
        let sequence = removing.store.unshare_device(&device, owner, &user, &by, at).await;
        let sequence = sequence.map_err(|error| error.refusal("ending a grant"))?.ok_or_else(no_grant)?;
        telling::of_user(&removing, device, user, sequence, at);
        Ok(())
    })
    .await?;
    Ok(done())
}

#[cfg(test)]
#[path = "user_grants_tests.rs"]
mod tests;
