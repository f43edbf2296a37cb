//! Devices, for operators.

use std::sync::Arc;

use axum::response::Response;
use model::{Actor, AdminActor, Code, DeviceId, DeviceRef, Refusal, Timestamp};
use runtime::http::{Caller, Page, Paging, Routes, done, ok};
use serde_json::{Value, json};
use store::{DeviceRow, StoreError};

use crate::{
    api::Inner,
    call::{Call, handler},
    device::Device,
    telling,
};

pub(crate) fn admin_routes(api: &Arc<Inner>) -> Routes {
    const DEVICE: &str = "/admin/api/devices/{id}";
    Routes::new()
        .get("/admin/api/devices", Caller::Admin, handler(api, list))
        .get(DEVICE, Caller::Admin, handler(api, show))
        .delete(DEVICE, Caller::Admin, handler(api, remove))
}

/// `GET /admin/api/devices`, by id.
pub(crate) async fn list(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, after) = (paging.limit()?, paging.after::<DeviceId>()?);
    let tenant = call.tenant(&api).await?;
    let rows = api.store.devices(&tenant, after.as_ref(), limit + 1).await;
    let rows = rows.map_err(|error| error.refusal("listing devices"))?;
    let page = Page::cut(rows, limit, |row| row.device.device.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        items.push(shown(&api, row).await?);
    }
    Ok(ok(&Page { items, next_cursor: page.next_cursor }))
}

/// `GET /admin/api/devices/{id}`.
pub(crate) async fn show(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let device = named(&api, &call).await?;
    let row = api.store.device(&device.tenant, &device.device).await;
    let row = row.map_err(|error| error.refusal("reading a device"))?.ok_or_else(absent)?;
    Ok(ok(&shown(&api, row).await?))
}

/// `DELETE /admin/api/devices/{id}`: its certificates, its tunnels, its grants, then the device.
pub(crate) async fn remove(api: Arc<Inner>, call: Call<AdminActor>) -> Result<Response, Refusal> {
    let device = named(&api, &call).await?;
    let by = call.by();
    let removing = Arc::clone(&api);
    api.to_its_end(async move { end(&removing, &device, &by).await }).await?;
    Ok(done())
}

/// Ends a device with everything that stands on it. Can be repeated after a failure.
pub(crate) async fn end(api: &Inner, device: &DeviceRef, by: &Actor) -> Result<(), Refusal> {
    let known = api.store.device(&device.tenant, &device.device).await;
    known.map_err(|error| error.refusal("reading a device"))?.ok_or_else(absent)?;
    let grants = api.store.grants_on_device(&device.tenant, &device.device).await;
    let grants = grants.map_err(|error| error.refusal("reading the grants of a device"))?;
    let mut attempts = 0;
    let at = api.clock.now();
    let removed = loop {
        api.removal.revoke_all(device, by).await?;
        match api.store.remove_device(&device.tenant, &device.device, by, at).await {
            // It enrolled again between the two steps.
            Err(StoreError::Conflict { .. }) if attempts < ATTEMPTS => attempts += 1,
            outcome => break outcome.map_err(|error| error.refusal("removing a device"))?,
        }
    };
    let users = grants.into_iter().map(|(user, _)| user);
    telling::of_everybody(api, device, users, removed.grant_sequence, at);
    tracing::info!(%device, "device removed");
    Ok(())
}

/// The device that path and query name.
pub(crate) fn named<'a>(
    api: &'a Inner,
    call: &Call<AdminActor>,
) -> impl Future<Output = Result<DeviceRef, Refusal>> + Send + use<'a> {
    let (tenant, device) = (call.tenant(api), call.name("id"));
    async move { Ok(DeviceRef::new(tenant.await?, device.ok_or_else(absent)?)) }
}

async fn shown(api: &Inner, row: DeviceRow) -> Result<Value, Refusal> {
    let certificate = api.store.certificate_of_device(&row.device).await;
    let certificate = certificate.map_err(|error| error.refusal("reading a certificate"))?;
    let created_at = row.created_at;
    let device = Device::of(api, row).await?;
    let session = device.session.as_ref();
    let mut value = json!({
        "id": device.row.device.device,
        "tenant": device.row.device.tenant,
        "name": device.row.name,
        "created_at": created_at.rfc3339(),
        "online": session.is_some(),
        "verified_at": device.verified_at().map(Timestamp::rfc3339),
        "node": session.map(|session| &session.node),
        "generation": session.map(|session| session.generation),
        "owner": device.owner(),
        "services": device.services(),
    });
    value["certificate"] = certificate.map_or(Value::Null, |certificate| {
        json!({
            "fingerprint": certificate.fingerprint,
            "serial": certificate.serial.to_string(),
            "not_after": certificate.not_after.rfc3339(),
            "status": certificate.status,
        })
    });
    let grants = device.grants.iter().map(|(user, grant)| {
        json!({
            "user": user,
            "level": grant.level,
            "services": grant.services,
            "until": grant.until.map(Timestamp::rfc3339),
        })
    });
    value["grants"] = grants.collect();
    Ok(value)
}

fn absent() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such device in this tenant")
}

const ATTEMPTS: u32 = 3;
