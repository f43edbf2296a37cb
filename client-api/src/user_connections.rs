//! When a device was connected and why it no longer was, for those who may reach it.

use std::sync::Arc;

use axum::response::Response;
use model::{Generation, Refusal, Timestamp, UserActor};
use runtime::http::{Absent, Caller, Page, Paging, Refused, Routes, Unproven, ok};
use serde::Serialize;
use store::ConnectionRow;
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
    reach,
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/v1/devices/{id}/connections", Caller::User, handler(api, list))
}

/// A connection of a device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection, example = json!({
    "began_at": "2026-11-21T21:31:00Z", "ended_at": "2026-11-21T22:31:00Z", "seconds": 3600, "cause": "silent",
}))]
struct Shown {
    /// Since when.
    #[schema(format = DateTime)]
    began_at: String,
    /// Until when; `null` while it stands. Where nobody saw the end: when that was found out.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// How long, up to now while it stands.
    #[schema(minimum = 0)]
    seconds: u64,
    /// Why it ended: `closed` by the device, `lost`, `silent`, `replaced` by a newer one, `revoked`, `expired`,
    /// `draining` of a server, `protocol`.
    cause: Option<String>,
}

/// The last connections of a device, the latest first
///
/// At most 500 are kept; none from before the device came to its present owner.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/connections",
    tag = "devices",
    operation_id = "listConnections",
    params(("id" = String, Path, description = "The device."), Paging),
    responses((status = 200, description = "A page of them.", body = Page<Shown>), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, before) = (paging.limit()?, paging.after::<u64>()?.map(Generation));
    let device = reach::device(&api, &call).await?.device.device;
    let rows = api.store.connections(&device, before, limit + 1).await;
    let rows = rows.map_err(|error| error.refusal("reading the connections of a device"))?;
    let now = api.clock.now();
    Ok(ok(&Page::cut(rows, limit, |row| row.generation.to_string()).map(|row| shown(&row, now))))
}

fn shown(row: &ConnectionRow, now: Timestamp) -> Shown {
    Shown {
        began_at: row.began_at.rfc3339(),
        ended_at: row.ended_at.map(Timestamp::rfc3339),
        seconds: row.ended_at.unwrap_or(now).since(row.began_at).as_secs(),
        cause: row.cause.clone(),
    }
}

#[cfg(test)]
#[path = "user_connections_tests.rs"]
mod tests;
