//! The devices that a person may reach. Foreign and absent ones have one answer.

use std::sync::Arc;

use axum::response::Response;
use model::{Code, DeviceId, Level, Refusal, ServiceName, Tag, Timestamp, UserActor, UserId};
use runtime::http::{Absent, Caller, Page, Paging, Refused, Routes, Unproven, ok};
use serde::{Deserialize, Serialize};
use store::{Reachable, Sought};
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
    device_edit, reach,
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    const DEVICE: &str = "/v1/devices/{id}";
    Routes::new()
        .get("/v1/devices", Caller::User, handler(api, list))
        .get(DEVICE, Caller::User, handler(api, show))
        .patch(DEVICE, Caller::User, handler(api, device_edit::edit))
}

/// A device as those see it who may reach it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Device, example = json!({
    "id": "cam-01", "name": "Front door", "tags": ["home"], "online": true, "verified_at": "2026-11-21T21:31:00Z",
    "owner": "usr_0123456789abcdef0123456789abcdef", "level": "owner", "services": ["web"],
}))]
pub(crate) struct Shown {
    #[schema(value_type = String)]
    id: DeviceId,
    /// What its people call it.
    name: Option<String>,
    /// The words by which its people group it.
    #[schema(value_type = Vec<String>)]
    tags: Vec<Tag>,
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

/// Which devices are wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Those with this in their id, name or tags, in capitals or not.
    #[param(min_length = 1, max_length = 64)]
    q: Option<String>,
    /// Those with this tag.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    tag: Option<Tag>,
    /// Those that are connected now, or those that are not. A page may then be short, even empty, and yet have a
    /// next one.
    online: Option<bool>,
}

/// The devices that the caller may reach, by id
#[utoipa::path(
    get,
    path = "/v1/devices",
    tag = "devices",
    operation_id = "listDevices",
    params(Wanted, Paging),
    responses((status = 200, description = "A page of them.", body = Page<Shown>), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let paging: Paging = call.query()?;
    let (limit, mut after) = (paging.limit()?, paging.after::<DeviceId>()?);
    let Wanted { q, tag, online } = call.query()?;
    if q.as_ref().is_some_and(|text| text.is_empty() || text.chars().count() > LONGEST_TEXT) {
        return Err(Refusal::new(Code::BadRequest, "q: from 1 to 64 characters"));
    }
    let text = q.map(|text| text.to_lowercase());
    let (user, now) = (&call.actor, api.clock.now());
    let mut items = vec![];
    let mut looked_at = 0;
    let next_cursor = 'page: loop {
        let sought = Sought { device: None, after: after.clone(), text: text.clone(), tag: tag.clone() };
        let rows = api.store.devices_of_user(user.tenant(), user.user(), sought, now, limit + 1).await;
        let rows = rows.map_err(|error| error.refusal("listing the devices of a user"))?;
        let was_full = u32::try_from(rows.len()).is_ok_and(|count| count > limit);
        for row in rows {
            if items.len() == limit as usize || looked_at == MOST_LOOKED_AT {
                break 'page after.map(|id| id.to_string());
            }
            looked_at += 1;
            after = Some(row.device.device.device.clone());
            let shown = Shown::of(&api, row).await;
            if online.is_none_or(|wanted| wanted == shown.online) {
                items.push(shown);
            }
        }
        if !was_full {
            break None;
        }
    };
    Ok(ok(&Page { items, next_cursor }))
}

/// One device
///
/// `ETag` names the state of what can be changed, for `If-Match` of `PATCH`.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}",
    tag = "devices",
    operation_id = "showDevice",
    params(("id" = String, Path, description = "The device.")),
    responses(
        (status = 200, description = "The device.", body = Shown,
            headers(("ETag" = String, description = "Names this state of name and tags."))),
        Unproven, Absent, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn show(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let reached = reach::device(&api, &call).await?;
    device_edit::answer(&api, reached).await
}

impl Shown {
    /// The row joined with the live session.
    pub(crate) async fn of(api: &Inner, reached: Reachable) -> Self {
        let Reachable { device: row, grant, owner } = reached;
        let session = api.registry.lookup(&row.device).await;
        let (online, verified_at) = (session.is_some(), session.as_ref().map(|session| session.verified_at));
        // As it says now, else as it said last.
        let mut services = session.map_or(row.services, |session| session.services);
        services.retain(|service| grant.services.contains(service));
        Self {
            id: row.device.device,
            name: row.name,
            tags: row.tags,
            online,
            verified_at: verified_at.max(row.verified_at).map(Timestamp::rfc3339),
            owner,
            level: grant.level,
            services,
        }
    }
}

const LONGEST_TEXT: usize = 64;
/// Rows of one call, however few of them are wanted.
const MOST_LOOKED_AT: usize = 2000;

#[cfg(test)]
#[path = "user_devices_tests.rs"]
mod tests;
