//! `PATCH /v1/devices/{id}`: a JSON merge patch (RFC 7396) of what people may change, and of nothing else.
//!
//! Who patches has read what they patch: `If-Match` names the state, another one is 412 and none is 428
//! (RFC 9110 §13, RFC 6585 §3). As RFC 9110 asks, every other refusal goes before these two.

use std::sync::Arc;

use axum::response::Response;
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, IF_MATCH},
};
use model::{Actor, Code, DeviceName, Refusal, Tag, UserActor};
use runtime::http::{Absent, NotAllowed, Precondition, Refused, Unproven, ok};
use serde::{Deserialize, Deserializer};
use store::{DeviceEdit, DeviceRow, Reachable};
use utoipa::ToSchema;

use crate::{api::Inner, call::Call, conditions, reach, user_devices::Shown};

/// What is to be changed; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DevicePatch, example = json!({"name": "Front door", "tags": ["home", "garden"]}))]
pub(crate) struct Patch {
    /// 1 to 64 characters; `null` takes the name away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    name: Option<Option<DeviceName>>,
    /// At most 16 words, in place of all that are there; `null` takes all away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>, max_items = 16)]
    tags: Option<Option<Vec<Tag>>>,
}

/// Name and tags of a device
///
/// A JSON merge patch of `name` and `tags`; nothing else can be changed. `If-Match` has to name the `ETag` that
/// `GET` gave, or be `*`. Only the owner may.
#[utoipa::path(
    patch,
    path = "/v1/devices/{id}",
    tag = "devices",
    operation_id = "editDevice",
    params(
        ("id" = String, Path, description = "The device; you own it."),
        ("If-Match" = String, Header, description = "The `ETag` of what you have read, or `*`."),
    ),
    request_body(
        content(
            (Patch = "application/merge-patch+json"),
            (Patch = "application/json"),
        ),
    ),
    responses(
        (status = 200, description = "The device as it is now.", body = Shown,
            headers(("ETag" = String, description = "Names this state of name and tags."))),
        Unproven, NotAllowed, Absent, Precondition, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn edit(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let reached = reach::owned(reach::device(&api, &call).await?)?;
    is_json(call.headers())?;
    let condition = call.headers().get(IF_MATCH).cloned();
    let owner = call.actor.clone();
    let edit = call.json::<Patch>().await?.edit()?;
    if !conditions::holds(condition.as_ref(), &tag_of(&reached.device))? {
        return Err(changed());
    }
    if edit == DeviceEdit::default() {
        return answer(&api, reached).await;
    }
    let Reachable { device: row, grant, owner: shown_owner } = reached;
    let (by, at) = (Actor::User(owner.clone()), api.clock.now());
    let edited = api.store.edit_device(&row.device, owner.user(), edit, row.revision, &by, at).await;
    let device = edited.map_err(|error| error.refusal("changing a device"))?.ok_or_else(changed)?;
    answer(&api, Reachable { device, grant, owner: shown_owner }).await
}

/// A device with the name of its state.
pub(crate) async fn answer(api: &Inner, reached: Reachable) -> Result<Response, Refusal> {
    let tag = tag_of(&reached.device);
    Ok(conditions::tagged(ok(&Shown::of(api, reached).await), &tag))
}

impl Patch {
    fn edit(self) -> Result<DeviceEdit, Refusal> {
        let mut tags = self.tags.map(Option::unwrap_or_default);
        if let Some(tags) = &mut tags {
            tags.sort_unstable();
            tags.dedup();
            if tags.len() > MOST_TAGS {
                return Err(Refusal::new(Code::BadRequest, "tags: at most 16"));
            }
        }
        Ok(DeviceEdit { name: self.name, tags })
    }
}

/// Of the row's making too: a device that was removed and came again is another.
fn tag_of(row: &DeviceRow) -> String {
    format!("\"{:x}-{}\"", row.created_at.millis(), row.revision)
}

fn is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if ["application/merge-patch+json", "application/json"].iter().any(|one| kind.eq_ignore_ascii_case(one)) {
        return Ok(());
    }
    Err(Refusal::new(Code::MediaType, "send application/merge-patch+json"))
}

/// A member that is there, also as `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn changed() -> Refusal {
    Refusal::new(Code::PreconditionFailed, "the device was changed since you read it; read it again")
}

const MOST_TAGS: usize = 16;
