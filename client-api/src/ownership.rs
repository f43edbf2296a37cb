//! Giving a device up, and handing it on.
//!
//! Each ends every other right on the device: grants, and with them tickets, streams and subscriptions, which all look
//! at the change that is told here. What the people of before called the device goes too.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::StatusCode;
use model::{
    Actor, AdminActor, Code, DeviceActor, DeviceId, DeviceRef, Event, Level, Refusal, Timestamp, UserActor,
    UserId,
};
use runtime::{
    http::{Absent, Caller, NotAllowed, Page, Refused, Routes, Unproven, answer, done, ok},
    random,
};
use serde::{Deserialize, Serialize};
use store::{Offer, Released, TransferRow};
use utoipa::ToSchema;

use crate::{
    FactoryReset,
    admin_devices::named,
    api::Inner,
    call::{Call, handler},
    telling,
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new()
        .delete("/v1/devices/{id}/owner", Caller::User, handler(api, release))
        .post("/v1/devices/{id}/transfers", Caller::User, handler(api, offer))
        .get("/v1/transfers", Caller::User, handler(api, list))
        .post("/v1/transfers/{id}/accept", Caller::User, handler(api, accept))
        .delete("/v1/transfers/{id}", Caller::User, handler(api, end))
}

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().delete("/admin/api/devices/{id}/owner", Caller::Admin, handler(api, release_by_operator))
}

pub(crate) fn device_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().post("/device/v1/reset", Caller::DeviceCertificate, handler(api, reset))
}

/// To whom a device is offered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTransfer, example = json!({"to": "usr_0123456789abcdef0123456789abcdef"}))]
struct Asked {
    /// The `id` that `GET /v1/me` shows to the other person.
    #[schema(value_type = String, pattern = "^usr_[0-9a-f]{32}$")]
    to: UserId,
}

/// An offer to hand a device on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfer)]
struct Transfer {
    /// Its name.
    #[schema(pattern = "^tr_[0-9a-f]{32}$")]
    id: String,
    #[schema(value_type = String)]
    device: DeviceId,
    /// Who owns the device.
    #[schema(value_type = String)]
    from: UserId,
    /// Who may accept.
    #[schema(value_type = String)]
    to: UserId,
    #[schema(format = DateTime)]
    offered_at: String,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    expires_at: String,
}

impl From<TransferRow> for Transfer {
    fn from(row: TransferRow) -> Self {
        Self {
            id: row.id,
            device: row.device.device,
            from: row.from,
            to: row.to,
            offered_at: row.offered_at.rfc3339(),
            expires_at: row.expires_at.rfc3339(),
        }
    }
}

/// The device that is the caller's now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Accepted)]
struct Accepted {
    #[schema(value_type = String)]
    device: DeviceId,
    #[schema(value_type = String, pattern = "^owner$")]
    level: Level,
}

/// Give a device up
///
/// Everybody's rights on it end; a device that is connected shows a new claim code within seconds.
#[utoipa::path(
    delete,
    path = "/v1/devices/{id}/owner",
    tag = "ownership",
    operation_id = "releaseDevice",
    params(("id" = String, Path, description = "The device.")),
    responses((status = 204, description = "Nobody owns it now."), Absent, NotAllowed, Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn release(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let device = owned(&api, &call).await?;
    let (of, by) = (call.actor.user().clone(), Actor::User(call.actor));
    let freed = let_go(api, device, Some(of), "released", by).await?;
    // It changed hands in this moment.
    if freed { Ok(done()) } else { Err(absent()) }
}

/// `DELETE /admin/api/devices/{id}/owner`.
pub(crate) async fn release_by_operator(
    api: Arc<Inner>,
    call: Call<AdminActor>,
) -> Result<Response, Refusal> {
    let device = named(&api, &call).await?;
    let by = call.by();
    if let_go(api, device, None, "released by an operator", by).await? {
        Ok(done())
    } else {
        Err(Refusal::new(Code::NotFound, "there is no such device in this tenant, or nobody owns it"))
    }
}

/// A device that was reset by whoever has it gives itself up
///
/// Only where the operator's policy lets a reset end an ownership (`claims.factory_reset = "device"`); elsewhere a
/// stolen device stays its owner's. A device token does not do: whoever could read one would take the device away.
#[utoipa::path(
    post,
    path = "/device/v1/reset",
    tag = "ownership",
    operation_id = "resetDevice",
    responses((status = 204, description = "Nobody owns it now."), NotAllowed, Unproven, Refused),
    security(("devicecertificate" = [])),
)]
pub(crate) async fn reset(api: Arc<Inner>, call: Call<DeviceActor>) -> Result<Response, Refusal> {
    if api.factory_reset == FactoryReset::Owner {
        return Err(Refusal::new(
            Code::LevelOrService,
            "a reset does not end an ownership here; its owner or an operator can release the device",
        ));
    }
    let device = call.actor.device().clone();
    // One without an owner is as a reset leaves it.
    let_go(api, device, None, "factory reset", Actor::Device(call.actor)).await?;
    Ok(done())
}

/// Offer a device to somebody
///
/// The other person accepts within a week, or declines. A new offer takes the place of the one before.
#[utoipa::path(
    post,
    path = "/v1/devices/{id}/transfers",
    tag = "ownership",
    operation_id = "offerTransfer",
    params(("id" = String, Path, description = "The device.")),
    request_body = inline(Asked),
    responses((status = 201, description = "The offer.", body = Transfer), Absent, NotAllowed, Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn offer(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let device = owned(&api, &call).await?;
    let (user, at) = (call.actor.clone(), api.clock.now());
    let Asked { to } = call.json().await?;
    if to == *user.user() {
        return Err(Refusal::new(Code::BadRequest, "to: the device is yours already"));
    }
    let row = TransferRow {
        id: format!("tr_{}", model::hex(&random::bytes::<16>())),
        device,
        from: user.user().clone(),
        to,
        offered_at: at,
        expires_at: at.plus(OFFER_STANDS),
    };
    let made = api.store.offer_transfer(row.clone(), &Actor::User(user)).await;
    match made.map_err(|error| error.refusal("offering a device"))? {
        Offer::Made => Ok(answer(StatusCode::CREATED, &Transfer::from(row))),
        Offer::NotOwner => Err(absent()),
        Offer::NoSuchUser => Err(Refusal::new(
            Code::NotFound,
            "there is no such user; the id is the one that GET /v1/me shows",
        )),
    }
}

/// The offers that stand, made by the caller or to the caller
#[utoipa::path(
    get,
    path = "/v1/transfers",
    tag = "ownership",
    operation_id = "listTransfers",
    responses((status = 200, description = "All of them, newest first; at most 500.", body = Page<Transfer>),
        Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let user = &call.actor;
    let rows = api.store.transfers_of_user(user.tenant(), user.user(), api.clock.now(), MOST_SHOWN).await;
    let rows = rows.map_err(|error| error.refusal("listing transfers"))?;
    Ok(ok(&Page::whole(rows).map(Transfer::from)))
}

/// Take a device that was offered
///
/// Every right of before ends; the caller owns it.
#[utoipa::path(
    post,
    path = "/v1/transfers/{id}/accept",
    tag = "ownership",
    operation_id = "acceptTransfer",
    params(("id" = String, Path, description = "The offer.")),
    responses((status = 200, description = "You own it.", body = Accepted), Absent, Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn accept(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let id: String = call.name("id").ok_or_else(no_offer)?;
    let user = call.actor;
    let accepting = Arc::clone(&api);
    let device = api.to_its_end(async move { take_over(&accepting, &id, &user).await }).await?;
    Ok(ok(&Accepted { device: device.device, level: Level::Owner }))
}

/// Withdraw an offer, or decline it
#[utoipa::path(
    delete,
    path = "/v1/transfers/{id}",
    tag = "ownership",
    operation_id = "endTransfer",
    params(("id" = String, Path, description = "The offer.")),
    responses((status = 204, description = "It does not stand any more."), Absent, Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn end(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let id: String = call.name("id").ok_or_else(no_offer)?;
    let user = call.actor;
    let by = Actor::User(user.clone());
    let ended = api.store.end_transfer(user.tenant(), &id, user.user(), &by, api.clock.now()).await;
    if ended.map_err(|error| error.refusal("ending a transfer"))? { Ok(done()) } else { Err(no_offer()) }
}

async fn take_over(api: &Inner, id: &str, user: &UserActor) -> Result<DeviceRef, Refusal> {
    let (by, at) = (Actor::User(user.clone()), api.clock.now());
    let taken = api.store.accept_transfer(user.tenant(), id, user.user(), &by, at).await;
    let taken = taken.map_err(|error| error.refusal("accepting a transfer"))?.ok_or_else(no_offer)?;
    let device = taken.offer.device;
    let ended =
        Released { owner: taken.offer.from, users: taken.users, grant_sequence: taken.ended_sequence };
    tell_release(api, &device, ended, at);
    let owner = user.user().clone();
    telling::of_user(api, device.clone(), owner.clone(), taken.grant_sequence, at);
    api.registry.publish(Event::DeviceClaimed { device: device.clone(), user: owner, at });
    tracing::info!(%device, user = %user.user(), "device handed on");
    Ok(device)
}

/// Ends an ownership; false if there is none of this owner.
async fn let_go(
    api: Arc<Inner>,
    device: DeviceRef,
    of: Option<UserId>,
    why: &'static str,
    by: Actor,
) -> Result<bool, Refusal> {
    let releasing = Arc::clone(&api);
    api.to_its_end(async move {
        let api = releasing;
        let at = api.clock.now();
        let released = api.store.release_device(&device, of.as_ref(), why, &by, at).await;
        let Some(released) = released.map_err(|error| error.refusal("releasing a device"))? else {
            return Ok(false);
        };
        tell_release(&api, &device, released, at);
        may_have_changed(&api, &device);
        tracing::info!(%device, why, by = by.audit_name(), "device released");
        Ok(true)
    })
    .await
}

/// The device is asked what it shows: a code comes or goes with its owner.
pub(crate) fn may_have_changed(api: &Inner, device: &DeviceRef) {
    if let Some(claiming) = &api.claiming {
        claiming.look_anew(device);
    }
}

fn tell_release(api: &Inner, device: &DeviceRef, released: Released, at: Timestamp) {
    let Released { owner, users, grant_sequence } = released;
    telling::of_everybody(api, device, users, grant_sequence, at);
    api.registry.publish(Event::DeviceReleased { device: device.clone(), user: owner, at });
}

/// The device in the path, which the caller must own.
fn owned<'a>(
    api: &'a Inner,
    call: &Call<UserActor>,
) -> impl Future<Output = Result<DeviceRef, Refusal>> + Send + use<'a> {
    let (user, device) = (call.actor.clone(), call.name::<DeviceId>("id"));
    async move {
        let device = device.ok_or_else(absent)?;
        let grant = api.store.grant_of(user.tenant(), user.user(), &device).await;
        let grant = grant.map_err(|error| error.refusal("reading a grant"))?;
        let grant = grant.filter(|grant| grant.is_live(api.clock.now())).ok_or_else(absent)?;
        if grant.level < Level::Owner {
            return Err(Refusal::new(Code::LevelOrService, "only the owner of a device can give it up"));
        }
        Ok(DeviceRef::new(user.tenant().clone(), device))
    }
}

fn absent() -> Refusal {
    Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you").with_status(404)
}

fn no_offer() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "there is no such offer to you or of yours; it may have been withdrawn or ended",
    )
}

const OFFER_STANDS: Duration = Duration::from_secs(7 * 86_400);
const MOST_SHOWN: u32 = 500;
