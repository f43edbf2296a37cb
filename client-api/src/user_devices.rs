//! The devices that a person may reach. Foreign and absent ones have one answer.

use std::sync::Arc;

use axum::response::Response;
use model::{Code, DeviceId, Grant, Refusal, UserActor};
use serde_json::{Value, json};

use crate::{
    answer::{Paging, fault, ok, page},
    api::Inner,
    call::Call,
    device::Device,
};

/// `GET /v1/devices`, by id.
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, after) = (paging.limit()?, paging.after::<DeviceId>()?);
    let user = &call.actor;
    let grants = api.store.grants_of_user(user.tenant(), user.user()).await;
    let grants = grants.map_err(|error| fault("reading the grants of a user", error))?;
    let now = api.clock.now();
    let mut granted = grants
        .into_iter()
        .filter(|(device, grant)| grant.is_live(now) && after.as_ref().is_none_or(|after| device > after));
    let mut items = Vec::new();
    let mut last = None;
    for (device, grant) in granted.by_ref().take(limit as usize) {
        items.extend(shown(&api, user, &device, &grant).await?);
        last = Some(device);
    }
    let next = granted.next().and(last).map(|device| device.to_string());
    Ok(page(items, next))
}

/// `GET /v1/devices/{id}`.
pub(crate) async fn show(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let absent = || {
        Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you")
            .with_status(404)
    };
    let device: DeviceId = call.name("id").ok_or_else(absent)?;
    let user = &call.actor;
    let grant = api.store.grant_of(user.tenant(), user.user(), &device).await;
    let grant = grant.map_err(|error| fault("reading a grant", error))?;
    let grant = grant.filter(|grant| grant.is_live(api.clock.now())).ok_or_else(absent)?;
    shown(&api, user, &device, &grant).await?.map(ok).ok_or_else(absent)
}

/// None if the device went away in between.
async fn shown(
    api: &Inner,
    user: &UserActor,
    device: &DeviceId,
    grant: &Grant,
) -> Result<Option<Value>, Refusal> {
    let row = api.store.device(user.tenant(), device).await;
    let Some(row) = row.map_err(|error| fault("reading a device", error))? else { return Ok(None) };
    let device = Device::of(api, row).await?;
    let mut value = device.common();
    value["level"] = json!(grant.level);
    value["services"] = device
        .services()
        .iter()
        .filter(|service| grant.services.contains(service))
        .map(|service| json!(service))
        .collect();
    Ok(Some(value))
}
