//! `GET /v1/topics/{topic}`: a topic over a WebSocket, opened with a ticket, narrowed by `fields` and `where`.
//!
//! Every message from us is one event in JSON; what the client says is read and ignored. Close codes:
//! 4000 a filter breaks its grammar, 4001 an unknown operator, 4002 a bad escape, 4003 too many or too few values,
//! 4004 a value that cannot be compared, 4400 no topic, 4401 the ticket's time was over, 4403 another tenant's topic
//! or a right that was lost, 4408 the time of the connection is over, 4429 too slow, 4503 the log cannot be read,
//! 4999 a fault here, 1001 this server is stopping.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{
        Path, RawQuery, WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket},
    },
    response::Response,
};
use futures_util::StreamExt;
use model::{Code, Refusal, SubscriberActor, Timestamp};
use runtime::http::{Caller, Refused, Routes, Unproven, problem, query};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    conditions::Conditions,
    event_stream::devices,
    feed::{Ending, Interest, Logged, part_of},
    fields::Fields,
    paths::FilterError,
    subscription::{Subscription, end_of},
    topic::{Pattern, TopicError},
};
use crate::api::Inner;

pub(crate) fn user_routes(api: &Arc<Inner>) -> Routes {
    let api = Arc::clone(api);
    let open = move |Extension(actor): Extension<SubscriberActor>,
                     Path(topic): Path<String>,
                     RawQuery(asked): RawQuery,
                     upgrade: Result<WebSocketUpgrade, _>| {
        let api = Arc::clone(&api);
        async move { open(api, actor, &topic, asked.as_deref(), upgrade.ok()) }
    };
    Routes::new().get("/v1/topics/{topic}", Caller::Ticket, open)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Which members of an event's data are sent, as in `temperature,gps(lat,lon)`.
    fields: Option<String>,
    /// Which events are sent, by their data, as in `temperature=gte:20;status=in:failed,stopped`.
    #[serde(rename = "where")]
    #[param(rename = "where")]
    conditions: Option<String>,
}

/// A topic, as a WebSocket
///
/// The topic is `<tenant>.<type>`, as in `default.telemetry` or `default.device.*`. Open it with `?ticket=` of
/// `POST /v1/tickets`. Every message is a CloudEvents 1.0 document.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}",
    tag = "events",
    operation_id = "openTopic",
    params(
        ("topic" = String, Path, description = "As in `default.telemetry`."),
        Asked,
    ),
    responses(
        (status = 101, description = "A WebSocket."),
        (status = 426, description = "This is no WebSocket.",
            body = runtime::http::Problem, content_type = "application/problem+json"),
        Unproven, Refused,
    ),
    security(("ticket" = [])),
)]
pub(crate) fn open(
    api: Arc<Inner>,
    actor: SubscriberActor,
    topic: &str,
    asked: Option<&str>,
    upgrade: Option<WebSocketUpgrade>,
) -> Response {
    let Some(upgrade) = upgrade else {
        let said = "this is no WebSocket handshake (RFC 6455 §4.2.1)";
        return problem(&Refusal::new(Code::BadRequest, said).with_status(426));
    };
    let wanted = Wanted::read(&actor, topic, asked);
    let tasks = api.tasks.clone();
    upgrade
        .max_message_size(LARGEST_MESSAGE)
        .max_frame_size(LARGEST_MESSAGE)
        .max_write_buffer_size(WRITE_BUFFER)
        .on_upgrade(move |socket| async move {
            // Under the house's tasks, so that its end is waited for.
            let _ = tasks.spawn(serve(api, actor, wanted, socket)).await;
        })
}

/// What is sent on a topic.
struct Wanted {
    interest: Interest,
    fields: Option<Fields>,
}

/// The end of a WebSocket, in code and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close(u16, &'static str);

impl Wanted {
    fn read(actor: &SubscriberActor, topic: &str, asked: Option<&str>) -> Result<Self, Close> {
        let pattern = Pattern::of_topic(topic, actor.tenant())?;
        let uri = format!("/?{}", asked.unwrap_or_default()).parse();
        let uri = uri.map_err(|_| Close(4000, "the query is no query"))?;
        let Asked { fields, conditions } =
            query(&uri).map_err(|_| Close(4000, "fields and where: each once"))?;
        let conditions = conditions.as_deref().map(Conditions::parse).transpose()?.unwrap_or_default();
        let fields = fields.as_deref().map(Fields::parse).transpose()?;
        Ok(Self { interest: Interest { pattern, conditions, devices: devices(actor, None) }, fields })
    }
}

impl From<FilterError> for Close {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::Syntax(said) => Self(4000, said),
            FilterError::Operator => Self(4001, "operators: eq neq gt gte lt lte in nin bool"),
            FilterError::Escape => Self(4002, "`\\` stands before one of \\ / , ( ) = : ; *"),
            FilterError::Arity => Self(4003, "in and nin take 1 to 32 values, other operators one"),
            FilterError::Value => Self(4004, "bool takes true or false, comparisons a number"),
        }
    }
}

impl From<TopicError> for Close {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Malformed => Self(4400, "a topic is <tenant>.<type>"),
            TopicError::Forbidden => Self(4403, "this topic is not yours"),
        }
    }
}

impl From<Ending> for Close {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Slow => Self(4429, "events came faster than they were read"),
            Ending::RightsLost => Self(4403, "a right that this topic stood on was lost"),
            Ending::Unavailable => Self(4503, "the log cannot be read just now"),
            Ending::Forgotten => Self(4429, "events were deleted before they were read"),
        }
    }
}

async fn serve(
    api: Arc<Inner>,
    actor: SubscriberActor,
    wanted: Result<Wanted, Close>,
    mut socket: WebSocket,
) {
    let Close(code, reason) = match wanted {
        Ok(wanted) => tell(&api, &actor, wanted, &mut socket).await,
        Err(close) => close,
    };
    tracing::debug!(tenant = %actor.tenant(), user = %actor.user(), code, "a topic ended");
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    let closing = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            // The other end answers with a close of its own.
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout(CLOSING, closing).await;
}

async fn tell(api: &Arc<Inner>, actor: &SubscriberActor, wanted: Wanted, socket: &mut WebSocket) -> Close {
    let Wanted { interest, fields } = wanted;
    let end = end_of(actor, api.clock.now());
    if end <= api.clock.now() {
        return Close(4401, "the time of this ticket's token is over");
    }
    let (store, clock, feed) = (api.store.clone(), api.clock.clone(), Arc::clone(&api.feed));
    let opened = Subscription::open(store, clock, feed, actor, interest, true, None).await;
    let mut subscription = match opened {
        Ok(subscription) => subscription,
        Err(refusal) if refusal.code == Code::TooMany => return Close(4429, "you listen in too many places"),
        Err(refusal) if refusal.code == Code::Internal => return Close(4999, "something here is broken"),
        Err(_) => return Ending::Unavailable.into(),
    };
    let mut ended = subscription.ended();
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            () = api.tasks.draining().cancelled_owned() => return Close(1001, "this server is stopping"),
            () = over(api, end) => return Close(4408, "the time of this connection is over"),
            said = socket.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Close(1000, ""),
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            event = subscription.next() => match event {
                Ok(event) => match text(&event, fields.as_ref()) {
                    Some(text) => Message::Text(text.into()),
                    None => continue,
                },
                Err(ending) => return ending.into(),
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE {
                    return Close(1001, "nothing was heard for too long");
                }
                Message::Ping(Default::default())
            }
        };
        // A client that does not read holds this up; its queue then fills, which ends it.
        tokio::select! {
            sent = socket.send(message) => if sent.is_err() { return Close(1000, "") },
            ending = ending_of(&mut ended) => return ending.into(),
            () = over(api, end) => return Close(4408, "the time of this connection is over"),
        }
    }
}

/// Why a subscription ended, once it has.
async fn ending_of(ended: &mut watch::Receiver<Option<Ending>>) -> Ending {
    let ending = ended.wait_for(Option::is_some).await.ok().and_then(|ending| *ending);
    ending.unwrap_or(Ending::Unavailable)
}

async fn over(api: &Inner, end: Timestamp) {
    tokio::time::sleep(end.since(api.clock.now())).await;
}

/// What of an event is sent; `None` where nothing of it was asked for.
fn text(event: &Logged, fields: Option<&Fields>) -> Option<String> {
    match fields {
        None => Some(event.text().to_owned()),
        Some(fields) => fields.select(&event.row.event.data).map(|data| part_of(&event.row, &data)),
    }
}

const LARGEST_MESSAGE: usize = 64 * 1024;
const WRITE_BUFFER: usize = 512 * 1024;
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(65);
const CLOSING: Duration = Duration::from_secs(10);
