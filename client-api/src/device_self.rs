//! What a device may know of itself.

use std::sync::Arc;

use axum::response::Response;
use model::{Code, DeviceActor, DeviceId, Fingerprint, Generation, Moment, Refusal, SessionId, TenantName};
use runtime::http::{Caller, NotAllowed, Refused, Routes, Unproven, ok};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
};

pub(crate) fn device_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/device/v1/self", Caller::Device, handler(api, show))
}

/// A device as it sees itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeviceSelf)]
struct Own {
    #[schema(value_type = String)]
    id: DeviceId,
    #[schema(value_type = String)]
    tenant: TenantName,
    /// What its people call it.
    name: Option<String>,
    /// SHA-256 of the certificate that it showed, or that its token stands on.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    certificate: Fingerprint,
    /// Its tunnel, while one stands.
    session: Option<OwnSession>,
    /// The cloud's clock.
    #[schema(value_type = String, format = DateTime)]
    time: Moment,
}

/// The tunnel of a device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeviceSession)]
struct OwnSession {
    #[schema(value_type = String)]
    id: SessionId,
    /// Grows with every session.
    #[schema(value_type = u64)]
    generation: Generation,
    /// Since when it stands.
    #[schema(value_type = String, format = DateTime)]
    since: Moment,
}

/// Who the calling device is
#[utoipa::path(
    get,
    path = "/device/v1/self",
    tag = "device gateway",
    operation_id = "showDeviceSelf",
    responses((status = 200, description = "The device.", body = Own), Unproven, NotAllowed, Refused),
    security(("device" = [])),
)]
pub(crate) async fn show(api: Arc<Inner>, call: Call<DeviceActor>) -> Result<Response, Refusal> {
    let device = call.actor.device();
    let row = api.store.device(&device.tenant, &device.device).await;
    let row = row.map_err(|error| error.refusal("reading a device"))?;
    let row = row.ok_or(Refusal::new(Code::NotGranted, "this device was removed"))?;
    let session = api.registry.lookup(device).await;
    Ok(ok(&Own {
        id: device.device.clone(),
        tenant: device.tenant.clone(),
        name: row.name,
        certificate: call.actor.certificate(),
        session: session.map(|session| OwnSession {
            id: session.session,
            generation: session.generation,
            since: Moment(session.since),
        }),
        time: Moment(api.clock.now()),
    }))
}
