//! The devices that a person may reach. Foreign and absent ones have one answer.

use std::sync::Arc;

use axum::response::Response;
use model::{Code, DeviceId, Grant, Refusal, UserActor};
use runtime::http::{Page, Paging, ok};
use serde_json::{Value, json};

use crate::{api::Inner, call::Call, device::Device};

/// `GET /v1/devices`, by id.
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

/// `GET /v1/devices/{id}`.
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
) -> Result<Option<Value>, Refusal> {
    let row = api.store.device(user.tenant(), device).await;
    let Some(row) = row.map_err(|error| error.refusal("reading a device"))? else { return Ok(None) };
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
