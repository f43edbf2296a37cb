//! A person's inbox.

use std::{str::FromStr, sync::Arc};

use axum::response::Response;
use model::{Code, DeviceId, Refusal, Severity, Timestamp, UserActor};
use runtime::http::{Absent, Page, Paging, Refused, Unproven, done, ok};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{InboxQuery, InboxRow};
use utoipa::ToSchema;

use super::notice::Notice;
use crate::{api::Inner, call::Call};

/// A notification in the caller's inbox.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notification, example = json!({
    "id": "ev_17", "device": "cam-01", "time": "2026-11-21T21:31:00Z", "type": "door.open",
    "severity": "warning", "title": "The door is open", "body": "For five minutes.", "data": {"door": 2},
    "read_at": null,
}))]
struct Shown {
    /// The event's name.
    #[schema(pattern = "^ev_[0-9]+$")]
    id: String,
    /// Where it comes from; `null` for a notice of the cloud itself.
    #[schema(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// When it happened.
    #[schema(format = DateTime)]
    time: String,
    /// What kind, as programs compare it.
    #[serde(rename = "type")]
    kind: String,
    /// How bad.
    #[schema(value_type = String, pattern = "^(info|warning|error|critical)$")]
    severity: Severity,
    /// One line for people.
    title: String,
    /// More for people.
    body: Option<String>,
    /// More for programs.
    data: Option<Map<String, Value>>,
    /// When you have read it.
    #[schema(format = DateTime)]
    read_at: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only what came after this one, the oldest first; otherwise the newest come first.
    #[param(value_type = Option<String>, pattern = "^ev_[0-9]+$")]
    since: Option<EventName>,
    /// Only what you have not read.
    #[serde(default)]
    unread: bool,
}

/// The name of an event, `ev_` and its number.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct EventName(u64);

impl FromStr for EventName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix("ev_").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let number = number.and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or("an event is named as in ev_17")
    }
}

impl TryFrom<String> for EventName {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Your notifications
///
/// Of devices that you may reach now. What is older than 90 days, or than your newest thousand, is forgotten.
#[utoipa::path(
    get,
    path = "/v1/notifications",
    tag = "notifications",
    operation_id = "listNotifications",
    params(Paging, Wanted),
    responses((status = 200, description = "A page of them.", body = Page<Shown>), Unproven, Refused),
    security(("user" = [])),
)]
pub(crate) async fn list(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let (paging, wanted): (Paging, Wanted) = (call.query()?, call.query()?);
    let (limit, cursor) = (paging.limit()?, paging.after::<EventName>()?.map(|name| name.0));
    let mut query = InboxQuery { unread: wanted.unread, limit: limit + 1, ..InboxQuery::default() };
    if let Some(since) = wanted.since {
        (query.after, query.oldest_first) = (cursor.unwrap_or(since.0), true);
    } else {
        query.before = cursor;
    }
    let user = &call.actor;
    let rows = api.store.inbox(user.tenant(), user.user(), query, api.clock.now()).await;
    let rows = rows.map_err(|error| error.refusal("reading an inbox"))?;
    Ok(ok(&Page::cut(rows, limit, |row| format!("ev_{}", row.sequence)).map(shown)))
}

/// Note that you have read one
#[utoipa::path(
    post,
    path = "/v1/notifications/{id}/read",
    tag = "notifications",
    operation_id = "readNotification",
    params(("id" = String, Path, description = "The notification.")),
    responses((status = 204, description = "It is noted."), Unproven, Absent, Refused),
    security(("user" = [])),
)]
pub(crate) async fn read(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let absent = || Refusal::new(Code::NotFound, "there is no such notification in your inbox");
    let EventName(sequence) = call.name("id").ok_or_else(absent)?;
    let user = &call.actor;
    let noted = api.store.note_read(user.tenant(), user.user(), sequence, api.clock.now()).await;
    if noted.map_err(|error| error.refusal("noting what was read"))? { Ok(done()) } else { Err(absent()) }
}

fn shown(row: InboxRow) -> Shown {
    let data: Value = serde_json::from_str(&row.data).unwrap_or_default();
    let notice = Notice::read(&data);
    Shown {
        id: format!("ev_{}", row.sequence),
        device: row.device,
        time: row.at.rfc3339(),
        kind: notice.kind,
        severity: notice.severity,
        title: notice.title,
        body: notice.body,
        data: notice.data,
        read_at: row.read_at.map(Timestamp::rfc3339),
    }
}
