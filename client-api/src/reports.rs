//! What devices report: telemetry and notifications, each item judged for itself, all good ones durable in the event
//! log before the answer.
//!
//! An item with an id is kept once however often it is sent, so that a device may repeat whatever it got no answer
//! for. The answer tells of each item what became of it, in the order in which they came.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use model::{
    Code, DeviceActor, DeviceRef, LARGEST_ITEM, LARGEST_REPORT, MOST_REPORTED, Moment, Notification, Refusal,
    ReportId, ReportKind, Telemetry, Timestamp,
};
use runtime::http::{Caller, NotAllowed, Refused, Routes, Unproven, ok};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use store::NewEvent;
use utoipa::ToSchema;

use crate::{
    api::Inner,
    call::{Call, handler},
    intake_step::IntakeStep,
    rates::{Rate, Rates},
    report_shapes::{NotificationReport, TelemetryReport},
};

pub(crate) fn device_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().post("/device/v1/telemetry", Caller::Device, handler(api, telemetry)).post(
        "/device/v1/notifications",
        Caller::Device,
        handler(api, notifications),
    )
}

/// How much each device may report.
#[derive(Debug, Clone, Copy)]
pub struct ReportRates {
    /// Items of telemetry in a second.
    pub telemetry_per_second: u32,
    /// Notifications in a minute; people read them.
    pub notifications_per_minute: u32,
}

impl Default for ReportRates {
    fn default() -> Self {
        Self { telemetry_per_second: 2000, notifications_per_minute: 120 }
    }
}

/// The devices' shares.
#[derive(Debug)]
pub(crate) struct Shares {
    telemetry: Rates,
    notifications: Rates,
}

impl Shares {
    pub(crate) fn new(rates: ReportRates) -> Self {
        let telemetry = f64::from(rates.telemetry_per_second.max(1));
        let notifications = f64::from(rates.notifications_per_minute.max(1)) / 60.0;
        Self {
            telemetry: Rates::new(Rate { per_second: telemetry, burst: telemetry * BURST_SECONDS }),
            notifications: Rates::new(Rate {
                per_second: notifications,
                burst: notifications * BURST_SECONDS,
            }),
        }
    }

    fn of(&self, kind: ReportKind) -> &Rates {
        match kind {
            ReportKind::Telemetry => &self.telemetry,
            ReportKind::Notification => &self.notifications,
        }
    }
}

/// What became of the items, in their order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"results": [
    {"status": "accepted", "id": "r1", "seq": 1041},
    {"status": "duplicate", "id": "r0"},
    {"status": "rejected", "code": "malformed", "detail": "missing field `data`"},
]}))]
struct Results {
    results: Vec<ItemResult>,
}

/// What became of one item.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ItemResult {
    /// `accepted`: it is kept. `duplicate`: one of this id is kept already. `rejected`: it will never be kept.
    #[schema(pattern = "^(accepted|duplicate|rejected)$")]
    status: &'static str,
    /// The item's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    id: Option<ReportId>,
    /// Its number in the event log.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// The time that it is kept with, where that is not the item's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ts: Option<Moment>,
    /// Why it was rejected: `malformed`, `too_large`, `too_deep`, `released` (of an earlier owner's time). Or, of one that is kept: `clock`, its time could not
    /// be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Report measured values
///
/// One item or an array of up to 500, at most 256 KiB. Items that are good are kept even if others are not.
#[utoipa::path(
    post,
    path = "/device/v1/telemetry",
    tag = "device gateway",
    operation_id = "reportTelemetry",
    request_body = TelemetryReport,
    responses(
        (status = 200, description = "What became of each item.", body = Results),
        Unproven, NotAllowed, Refused,
    ),
    security(("device" = [])),
)]
pub(crate) async fn telemetry(api: Arc<Inner>, call: Call<DeviceActor>) -> Result<Response, Refusal> {
    take_in(&api, call, ReportKind::Telemetry).await
}

/// Report something that people should hear of
///
/// One item or an array of up to 500, at most 256 KiB. Those are told who have a grant on the device.
#[utoipa::path(
    post,
    path = "/device/v1/notifications",
    tag = "device gateway",
    operation_id = "reportNotifications",
    request_body = NotificationReport,
    responses(
        (status = 200, description = "What became of each item.", body = Results),
        Unproven, NotAllowed, Refused,
    ),
    security(("device" = [])),
)]
pub(crate) async fn notifications(api: Arc<Inner>, call: Call<DeviceActor>) -> Result<Response, Refusal> {
    take_in(&api, call, ReportKind::Notification).await
}

async fn take_in(api: &Inner, call: Call<DeviceActor>, kind: ReportKind) -> Result<Response, Refusal> {
    let device = call.actor.device().clone();
    let body = call.body(LARGEST_REPORT).await?;
    let items = items(&body)?;
    let now = api.clock.now();
    api.shares.of(kind).take(&device, items.len(), now).map_err(too_many)?;
    let (mut results, mut events, mut kept) = (Vec::with_capacity(items.len()), vec![], vec![]);
    for item in items {
        let judged = match kind {
            ReportKind::Telemetry => judge_telemetry(item.get(), &device, now),
            ReportKind::Notification => judge_notification(item.get(), &device, now),
        };
        let result = judged.map(|(result, event)| {
            kept.push((results.len(), event.at));
            events.push(event);
            result
        });
        results.push(result.unwrap_or_else(|rejected| rejected));
    }
    api.fault_points.reached(IntakeStep::Arrived);
    if !events.is_empty() {
        let numbers = api.store.append_events(events, now).await;
        let numbers = numbers.map_err(|error| error.refusal("keeping what a device reported"))?;
        let passed_on = if numbers.contains(&None) { passed_on(api, &device).await? } else { None };
        for ((index, at), seq) in kept.into_iter().zip(numbers) {
            let result = &mut results[index];
            result.seq = seq;
            if seq.is_some() {
                continue;
            }
            let id = result.id.take();
            *result = if passed_on.is_some_and(|since| at < since) {
                ItemResult { id, ..rejected("released", OF_AN_EARLIER_OWNER.into()) }
            } else {
                ItemResult { status: "duplicate", id, ..ItemResult::default() }
            };
        }
    }
    api.fault_points.reached(IntakeStep::Kept);
    Ok(ok(&Results { results }))
}

async fn passed_on(api: &Inner, device: &DeviceRef) -> Result<Option<Timestamp>, Refusal> {
    let passed_on = api.store.passed_on(device).await;
    passed_on.map_err(|error| error.refusal("looking whose time a report is of"))
}

/// One item or an array of them, as they stand in the body.
fn items(body: &[u8]) -> Result<Vec<&RawValue>, Refusal> {
    let bad = |error: serde_json::Error| {
        Refusal::new(
            Code::BadRequest,
            format!("the body is not an item in JSON or an array of them: {error}"),
        )
    };
    let items = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(body).map_err(bad)?,
        _ => vec![serde_json::from_slice(body).map_err(bad)?],
    };
    if items.is_empty() || items.len() > MOST_REPORTED {
        return Err(Refusal::new(Code::BadRequest, format!("a report has 1 to {MOST_REPORTED} items")));
    }
    Ok(items)
}

/// What will be answered and what is to be kept; or what is answered because nothing is.
type Judged = Result<(ItemResult, NewEvent), ItemResult>;

fn judge_telemetry(text: &str, device: &DeviceRef, now: Timestamp) -> Judged {
    let Telemetry { id, ts, data } = parse::<Telemetry<Map<String, Value>>>(text)?;
    Ok(judged(device, "telemetry", id, ts, Value::Object(data), now))
}

fn judge_notification(text: &str, device: &DeviceRef, now: Timestamp) -> Judged {
    let mut item = parse::<Notification<Map<String, Value>>>(text)?;
    let (id, ts) = (item.id.take(), item.ts.take());
    Ok(judged(device, "notification", id, ts, json!(item), now))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ItemResult> {
    if text.len() > LARGEST_ITEM {
        return Err(rejected("too_large", format!("an item has at most {} KiB", LARGEST_ITEM / 1024)));
    }
    if depth(text) > DEEPEST {
        return Err(rejected(
            "too_deep",
            format!("objects and arrays lie at most {DEEPEST} deep in each other"),
        ));
    }
    serde_json::from_str(text).map_err(|error| rejected("malformed", error.to_string()))
}

fn judged(
    device: &DeviceRef,
    subject: &str,
    id: Option<ReportId>,
    ts: Option<Moment>,
    data: Value,
    now: Timestamp,
) -> (ItemResult, NewEvent) {
    let mut result = ItemResult { status: "accepted", id: id.clone(), ..ItemResult::default() };
    let at = match ts {
        Some(Moment(at)) if at < EARLIEST || at > now.plus(AHEAD) => {
            // The values are no worse for a clock that stands wrong.
            result.ts = Some(Moment(now));
            result.code = Some("clock");
            let detail =
                "its time is before 2020 or ahead of the cloud's; it is kept with the time of its arrival";
            result.detail = Some(detail.into());
            now
        }
        Some(Moment(at)) => at,
        None => {
            result.ts = Some(Moment(now));
            now
        }
    };
    let source_id = id.map(String::from);
    let event = NewEvent { at, source_id, ..NewEvent::of_device(device, subject, at).with(data) };
    (result, event)
}

fn rejected(code: &'static str, detail: String) -> ItemResult {
    ItemResult { status: "rejected", code: Some(code), detail: Some(detail), ..ItemResult::default() }
}

/// What of a body would be kept, with its time and its own id; `None` for what is no report at all.
#[cfg(feature = "fuzzing")]
pub(crate) fn judged_for_fuzzing(
    body: &[u8],
    kind: ReportKind,
    device: &DeviceRef,
    now: Timestamp,
) -> Option<Vec<(Timestamp, Option<String>, Value)>> {
    let judge = match kind {
        ReportKind::Telemetry => judge_telemetry,
        ReportKind::Notification => judge_notification,
    };
    let kept = items(body).ok()?.into_iter().filter_map(|item| judge(item.get(), device, now).ok());
    Some(kept.map(|(_, event)| (event.at, event.source_id, event.data)).collect())
}

/// How deep objects and arrays lie in each other. The text is JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn too_many(wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Refusal::new(Code::TooMany, "this device reports more than its share; nothing of this report was kept")
        .retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
}

const OF_AN_EARLIER_OWNER: &str =
    "it is of a time before the device was released, and is nothing to those who came after";
/// What programs of people can read without running out of stack, twice over.
const DEEPEST: usize = 32;
/// A device's clock may be this far ahead.
const AHEAD: Duration = Duration::from_secs(300);
/// 2020-01-01: a clock before that was never set.
const EARLIEST: Timestamp = Timestamp::from_secs(1_577_836_800);
/// A device that was offline for a while brings what it has kept.
const BURST_SECONDS: f64 = 10.0;

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
