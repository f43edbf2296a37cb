//! The devices that a person may reach. Foreign and absent ones have one answer.

use std::sync::Arc;

use axum::response::Response;
use model::{Code, DeviceId, Grant, Level, Refusal, ServiceName, Timestamp, UserActor, UserId};
use runtime::http::{Absent, Caller, Page, Paging, Refused, Routes, Unproven, ok};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
    device::Device,
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/v1/devices", Caller::User, handler(api, list)).get(
        "/v1/devices/{id}",
        Caller::User,
        handler(api, show),
    )
}

/// A device as those see it who may reach it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Device, example = json!({
    "id": "cam-01", "name": "Front door", "online": true, "verified_at": "2026-11-21T21:31:00Z",
    "owner": "usr_0123456789abcdef0123456789abcdef", "level": "owner", "services": ["web"],
}))]
struct Shown {
    #[schema(value_type = String)]
    id: DeviceId,
    /// What its people call it.
    name: Option<String>,
    /// Whether it is connected now.
    online: bool,
    /// When an answer last came through its tunnel.
    #[schema(format = DateTime)]
    verified_at: Option<String>,
    /// Who owns it.
    #[schema(value_type = Option<String>)]
    owner: Option<UserId>,
    /// How much you may do there.
    #[schema(value_type = String, pattern = "^(viewer|operator|owner)$")]
    level: Level,
    /// Those of its services that you may reach.
    #[schema(value_type = Vec<String>)]
    services: Vec<ServiceName>,
}

/// The devices that the caller may reach, by id
#[utoipa::path(
    get,
    path = "/v1/devices",
    tag = "devices",
    operation_id = "listDevices",
    params(Paging),
    responses((status = 200, description = "A page of them.", body = Page<Shown>), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, after) = (paging.limit()?, paging.after::<DeviceId>()?);
    let user = &call.actor;
    let grants = api.store.grants_of_user(user.tenant(), user.user()).await;
    let grants = grants.map_err(|error| error.refusal("reading the grants of a user"))?;
    let now = api.clock.now();
    let granted = grants
        .into_iter()
        .filter(|(device, grant)| grant.is_live(now) && after.as_ref().is_none_or(|after| device > after));
    let page = Page::cut(granted.collect(), limit, |(device, _)| device.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for (device, grant) in page.items {
        items.extend(shown(&api, user, &device, &grant).await?);
    }
    Ok(ok(&Page { items, next_cursor: page.next_cursor }))
}

/// One device
#[utoipa::path(
    get,
    path = "/v1/devices/{id}",
    tag = "devices",
    operation_id = "showDevice",
    params(("id" = String, Path, description = "The device.")),
    responses((status = 200, description = "The device.", body = Shown), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn show(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let absent = || {
        Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you")
            .with_status(404)
    };
    let device: DeviceId = call.name("id").ok_or_else(absent)?;
    let user = &call.actor;
    let grant = api.store.grant_of(user.tenant(), user.user(), &device).await;
    let grant = grant.map_err(|error| error.refusal("reading a grant"))?;
    let grant = grant.filter(|grant| grant.is_live(api.clock.now())).ok_or_else(absent)?;
    shown(&api, user, &device, &grant).await?.map(|device| ok(&device)).ok_or_else(absent)
}

/// None if the device went away in between.
async fn shown(
    api: &Inner,
    user: &UserActor,
    device: &DeviceId,
    grant: &Grant,
) -> Result<Option<Shown>, Refusal> {
    let row = api.store.device(user.tenant(), device).await;
    let Some(row) = row.map_err(|error| error.refusal("reading a device"))? else { return Ok(None) };
    let device = Device::of(api, row).await?;
    let services = device.services().iter().filter(|service| grant.services.contains(service));
    Ok(Some(Shown {
        name: device.row.name.clone(),
        online: device.session.is_some(),
        verified_at: device.verified_at().map(Timestamp::rfc3339),
        owner: device.owner().cloned(),
        level: grant.level,
        services: services.cloned().collect(),
        id: device.row.device.device,
    }))
}
