//! `GET /v1/events`: server-sent events, resumed by `Last-Event-ID`.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures_util::stream::unfold;
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use model::{Code, DeviceId, Refusal, SubscriberActor, Timestamp};
use runtime::http::{Caller, Refused, Routes, Unproven};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    cloud_event,
    conditions::Conditions,
    feed::{Ending, Interest},
    subscription::{Subscription, end_of, gone, is_kept},
    topic::Pattern,
};
use crate::{
    api::Inner,
    call::{Call, handler},
};

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    Routes::new().get("/v1/events", Caller::Subscriber, handler(api, listen))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Only this type, as in `device.connected`, or all beneath it, as in `device.*`.
    #[serde(rename = "type")]
    #[param(rename = "type", example = "device.*")]
    kind: Option<String>,
    /// Only events of this device.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
}

/// What happens, as it happens
///
/// Server-sent events, each with a CloudEvents 1.0 document as its data. Every event has an id; with that of the last
/// one in `Last-Event-ID` you miss none and get none twice. A connection lasts two hours at most, and as long as its
/// token; a comment says why it ends.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    operation_id = "listen",
    params(
        Asked,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that you have."),
    ),
    responses(
        (status = 200, description = "Events without end.", body = String, content_type = "text/event-stream"),
        (status = 410, description = "The log does not reach back to that event.",
            body = runtime::http::Problem, content_type = "application/problem+json"),
        Unproven, Refused,
    ),
    security(("user" = []), ("proxytoken" = [])),
)]
pub(crate) async fn listen(api: Arc<Inner>, call: Call<SubscriberActor>) -> Result<Response, Refusal> {
    let Asked { kind, device } = call.query()?;
    let after = call.header("last-event-id").map(|id| {
        let number = std::str::from_utf8(id.as_bytes()).ok().and_then(cloud_event::number);
        number.ok_or_else(|| Refusal::new(Code::BadRequest, "Last-Event-ID: give the id of an event back"))
    });
    let after = after.transpose()?;
    if let Some(after) = after
        && !is_kept(&api.store, after).await?
    {
        return Err(gone());
    }
    let pattern = match kind.as_deref().map(Pattern::parse) {
        None => Pattern::all(),
        Some(Some(pattern)) => pattern,
        Some(None) => {
            return Err(Refusal::new(
                Code::BadRequest,
                "type: as in device.connected, device.* or telemetry",
            ));
        }
    };
    let actor = &call.actor;
    let interest =
        Interest { pattern, conditions: Conditions::default(), devices: devices(actor, device.as_ref()) };
    let (store, clock, feed) = (api.store.clone(), api.clock.clone(), Arc::clone(&api.feed));
    let subscription = Subscription::open(store, clock, feed, actor, interest, false, after).await?;
    let end = end_of(actor, api.clock.now());
    let speaker = Speaker { api, subscription, end, said: 0 };
    Ok(answer(speaker))
}

/// The devices that a subscriber listens to: those of the proof, and of them the one that was asked for.
pub(crate) fn devices(actor: &SubscriberActor, asked: Option<&DeviceId>) -> Option<BTreeSet<DeviceId>> {
    let proven = actor.devices().map(|devices| devices.keys());
    match (proven, asked) {
        (None, None) => None,
        (None, Some(asked)) => Some(BTreeSet::from([asked.clone()])),
        (Some(proven), None) => Some(proven.cloned().collect()),
        (Some(mut proven), Some(asked)) => {
            Some(proven.find(|device| *device == asked).cloned().into_iter().collect())
        }
    }
}

struct Speaker {
    api: Arc<Inner>,
    subscription: Subscription,
    end: Timestamp,
    said: u64,
}

fn answer(speaker: Speaker) -> Response {
    let stream = unfold(Some(speaker), |speaker| async move {
        let mut speaker = speaker?;
        let (text, goes_on) = speaker.next().await;
        Some((Ok::<_, Infallible>(Bytes::from(text)), goes_on.then_some(speaker)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy in front that buffers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Speaker {
    /// The next piece of the body, and whether there will be another.
    async fn next(&mut self) -> (String, bool) {
        self.said += 1;
        if self.said == 1 {
            // At once, so that the client knows that it listens.
            return (format!("retry: {RETRY_MILLIS}\n: listening\n\n"), true);
        }
        let left = self.end.since(self.api.clock.now());
        let draining: CancellationToken = self.api.tasks.draining();
        tokio::select! {
            biased;
            () = draining.cancelled() => (": this server is stopping; come back\n\n".into(), false),
            event = self.subscription.next() => match event {
                Ok(event) => {
                    let (id, text) = (cloud_event::id(event.row.seq), event.text());
                    (format!("id: {id}\ndata: {text}\n\n"), true)
                }
                Err(ending) => (format!(": {}\n\n", reason(ending)), false),
            },
            () = tokio::time::sleep(left) => (": the time of this connection is over; come back\n\n".into(), false),
            () = tokio::time::sleep(HEARTBEAT) => (": heartbeat\n\n".into(), true),
        }
    }
}

fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::Slow => "too slow: events came faster than they were read; come back with Last-Event-ID",
        Ending::RightsLost => "your rights changed; come back",
        Ending::Unavailable => "the log cannot be read just now; come back with Last-Event-ID",
        Ending::Forgotten => {
            "the log does not reach back to your next event any more; read GET /v1/devices/{id}/history, then come \
             back without Last-Event-ID"
        }
    }
}

const HEARTBEAT: Duration = Duration::from_secs(15);
const RETRY_MILLIS: u32 = 2000;
