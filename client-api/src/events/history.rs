//! `GET /v1/devices/{id}/history`: what the log says of a device, by time; JSON or CSV.

use std::{str::FromStr, sync::Arc};

use axum::{body::Body, response::Response};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use model::{Code, DeviceId, DeviceRef, Refusal, Timestamp, UserActor};
use runtime::http::{Absent, Caller, Page, Paging, Refused, Routes, Unproven, ok};
use serde::Deserialize;
use serde_json::Value;
use store::{EventRow, HistoryQuery};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    cloud_event::{self, CloudEvent},
    conditions::Conditions,
    feed::Interest,
    fields::Fields,
    history_csv::line,
    sight::Sight,
    topic::Pattern,
};
use crate::{
    api::Inner,
    call::{Call, handler},
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/v1/devices/{id}/history", Caller::User, handler(api, show))
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Asc,
    Desc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Csv,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// From this moment on.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Before this moment.
    #[param(format = DateTime)]
    to: Option<String>,
    /// Only this type, as in `telemetry`, or all beneath it, as in `device.*`.
    #[serde(rename = "type")]
    #[param(rename = "type", example = "telemetry")]
    kind: Option<String>,
    /// Only events whose data has this member, and only this of them: as in `temperature` or `gps/lat`.
    attr: Option<String>,
    /// `asc`, the oldest first, or `desc`.
    #[param(value_type = Option<String>, pattern = "^(asc|desc)$")]
    order: Option<Order>,
    /// `json` or `csv`, whatever `Accept` says.
    #[param(value_type = Option<String>, pattern = "^(json|csv)$")]
    format: Option<Format>,
}

/// Where a page ended: the moment and the number of its last event.
pub(crate) struct Cursor(Timestamp, u64);

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, seq) = text.split_once('_').ok_or(())?;
        Ok(Self(Timestamp(at.parse().map_err(|_| ())?), seq.parse().map_err(|_| ())?))
    }
}

/// What happened to a device
///
/// By time, since the caller's people have it. With `format=csv` or `Accept: text/csv` a table; its next page is in
/// the `Link` header.
#[utoipa::path(
    get,
    path = "/v1/devices/{id}/history",
    tag = "events",
    operation_id = "showHistory",
    params(("id" = String, Path, description = "The device."), Asked, Paging),
    responses(
        (status = 200, description = "A page of events.", content(
            (Page<CloudEvent<'static>> = "application/json"),
            (String = "text/csv"),
        )),
        Unproven, Absent, Refused,
    ),
    security(("user" = [])),
)]
pub(crate) async fn show(api: Arc<Inner>, call: Call<UserActor>) -> Result<Response, Refusal> {
    let absent = || {
        Refusal::new(Code::NotGranted, "there is no such device, or it was not granted to you")
            .with_status(404)
    };
    let device: DeviceId = call.name("id").ok_or_else(absent)?;
    let (asked, paging): (Asked, Paging) = (call.query()?, call.query()?);
    let (limit, after) = (paging.limit()?, paging.after::<Cursor>()?);
    let attribute = asked.attr.as_deref().map(Attribute::parse).transpose()?;
    let is_csv = asked.is_csv(&call)?;

    let (tenant, user) = (call.actor.tenant(), call.actor.user());
    let interest = Interest { pattern: Pattern::all(), conditions: Conditions::default(), devices: None };
    let sight = Sight::load(&api.store, tenant, user, &interest, api.clock.now()).await;
    let sight = sight.map_err(|error| error.refusal("reading what a user may see"))?;
    let (floor, is_owner) = sight.of_device(&device).ok_or_else(absent)?;

    let (subject, subject_prefix) = kind(asked.kind.as_deref())?;
    let query = HistoryQuery {
        device: DeviceRef::new(tenant.clone(), device.clone()),
        floor,
        only_changes_of: (!is_owner).then(|| user.clone()),
        from: moment("from", asked.from.as_deref())?,
        to: moment("to", asked.to.as_deref())?,
        subject,
        subject_prefix,
        member: attribute.as_ref().map(|attribute| attribute.path.clone()),
        newest_first: asked.order.unwrap_or_default() == Order::Desc,
        after: after.map(|Cursor(at, seq)| (at, seq)),
        limit: limit + 1,
    };
    let rows = api.store.history(query).await.map_err(|error| error.refusal("reading history"))?;
    let page = Page::cut(rows, limit, |row| format!("{}_{}", row.event.at.0, row.seq));
    Ok(if is_csv {
        table(&page, attribute.as_ref(), &device, &call)
    } else {
        json(&page, attribute.as_ref())
    })
}

/// One member of an event's data, as it is looked for in the log and taken out of what is found.
struct Attribute {
    /// In the notation of SQLite's JSON functions.
    path: String,
    names: Vec<String>,
    fields: Fields,
}

impl Attribute {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::new(Code::BadRequest, "attr: a name, or names with `/` between, as in gps/lat");
        let names: Vec<String> = text.split('/').map(str::to_owned).collect();
        // What would mean something in the notation of the log's paths is no attribute here.
        let is_plain = |name: &String| {
            !name.is_empty()
                && !name.contains(['"', '\\', '*', ',', '(', ')'])
                && !name.chars().any(char::is_control)
        };
        if names.len() > 8 || text.len() > 256 || !names.iter().all(is_plain) {
            return Err(bad());
        }
        let path = names.iter().fold(String::from("$"), |path, name| format!("{path}.\"{name}\""));
        Ok(Self { path, fields: Fields::parse(text).map_err(|_| bad())?, names })
    }

    /// The value itself.
    fn value<'a>(&self, data: &'a Value) -> Option<&'a Value> {
        self.names.iter().try_fold(data, |value, name| value.get(name))
    }
}

impl Asked {
    fn is_csv(&self, call: &Call<UserActor>) -> Result<bool, Refusal> {
        let accepted =
            call.header("accept").map(|accept| accept.to_str().unwrap_or_default().to_ascii_lowercase());
        Ok(match (self.format, accepted) {
            (Some(format), _) => format == Format::Csv,
            (None, Some(accepted)) => {
                let kinds: Vec<&str> =
                    accepted.split(',').filter_map(|kind| kind.split(';').next()).map(str::trim).collect();
                let json = kinds.iter().position(|kind| *kind == "application/json");
                let csv = kinds.iter().position(|kind| *kind == "text/csv");
                csv.is_some_and(|csv| json.is_none_or(|json| csv < json))
            }
            (None, None) => false,
        })
    }
}

/// A type to be compared whole, or the beginning of many.
fn kind(kind: Option<&str>) -> Result<(Option<String>, Option<String>), Refusal> {
    let Some(kind) = kind else { return Ok((None, None)) };
    if Pattern::parse(kind).is_none() {
        return Err(Refusal::new(Code::BadRequest, "type: as in telemetry, device.connected or device.*"));
    }
    Ok(match kind.strip_suffix('*') {
        None => (Some(kind.to_owned()), None),
        Some("") => (None, None),
        Some(prefix) => (None, Some(prefix.to_owned())),
    })
}

fn moment(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let bad = |_| Refusal::new(Code::BadRequest, format!("{name}: write a time as in 2027-01-31T12:00:00Z"));
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(bad)?;
    let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
    Ok(Some(Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))))
}

fn json(page: &Page<EventRow>, attribute: Option<&Attribute>) -> Response {
    let parts: Vec<Option<Value>> =
        page.items.iter().map(|row| attribute.and_then(|one| one.fields.select(&row.event.data))).collect();
    let items = page.items.iter().zip(&parts).map(|(row, part)| match part {
        Some(data) => CloudEvent::with_data(row, data),
        None => CloudEvent::of(row),
    });
    ok(&Page { items: items.collect(), next_cursor: page.next_cursor.clone() })
}

fn table(
    page: &Page<EventRow>,
    attribute: Option<&Attribute>,
    device: &DeviceId,
    call: &Call<UserActor>,
) -> Response {
    let mut text = line(["id", "time", "type", "device", if attribute.is_some() { "value" } else { "data" }]);
    for row in &page.items {
        let value = match attribute {
            Some(attribute) => attribute.value(&row.event.data).unwrap_or(&Value::Null),
            None => &row.event.data,
        };
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (id, time) = (cloud_event::id(row.seq), row.event.at.rfc3339_millis());
        text.push_str(&line([id.as_str(), &time, &row.event.subject, device.as_str(), &value]));
    }
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cursor) = &page.next_cursor {
        let kept =
            call.raw_query().split('&').filter(|piece| !piece.is_empty() && !piece.starts_with("cursor="));
        let query: String = kept.map(|piece| format!("{piece}&")).collect();
        let link = format!("</v1/devices/{device}/history?{query}cursor={cursor}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.insert(http::header::LINK, link);
        }
    }
    response
}
