//! Everything that somebody may hold on a device at one moment: streams of each kind, subscriptions, a ticket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tests::{Answer, Cloud, Device, WebSocket, pieces};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::Message;

/// Streams through a device: a plain HTTP exchange, a WebSocket, and TCP over WebSocket.
pub(super) struct Streams {
    feed: mpsc::Sender<Bytes>,
    exchange: Answer,
    websocket: WebSocket,
    tcp: WebSocket,
}

/// The streams, what its holder hears of the device, and a ticket that was not used.
pub(super) struct Held {
    streams: Streams,
    person: String,
    token: String,
    device: String,
    events: Events,
    topic: WebSocket,
    ticket: String,
}

/// A stream of server-sent events, and what was read of it and not looked at.
struct Events {
    answer: Answer,
    text: String,
}

impl Streams {
    pub(super) async fn open(cloud: &Cloud, token: &str, device: &str) -> Self {
        let (feed, body) = pieces();
        let call = cloud.user().call(Method::POST, &format!("/d/{device}/web/echo")).bearer(token);
        feed.send(Bytes::from("first")).await.unwrap();
        let exchange = call.stream(body).send().await.expect(200).await;
        let user = cloud.user();
        let bearer = format!("Bearer {token}");
        let path = format!("/d/{device}/web/ws");
        let websocket = user.websocket(&path, &[("authorization", &bearer)]).await.unwrap();
        let tcp = user.raw_stream(device, "shell", token).await.unwrap();
        let mut streams = Self { feed, exchange, websocket, tcp };
        assert_eq!(heard(&mut streams.exchange, 5).await, "first");
        streams.are_alive().await;
        streams
    }

    pub(super) async fn are_alive(&mut self) {
        self.feed.send(Bytes::from("still")).await.expect("the exchange is open");
        assert_eq!(heard(&mut self.exchange, 5).await, "still");
        for socket in [&mut self.websocket, &mut self.tcp] {
            let said = Message::binary("still");
            socket.send(said.clone()).await.unwrap();
            assert_eq!(timeout(SOON, socket.next()).await.expect("an echo").unwrap().unwrap(), said);
        }
    }

    /// Each has ended, and none as if it were complete.
    pub(super) async fn have_ended(&mut self, why: &str) {
        let cut = timeout(SOON, async {
            loop {
                match self.exchange.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return true,
                    None => return false,
                }
            }
        });
        assert!(cut.await.expect("the exchange ends"), "{why}: the answer looked complete");
        assert_eq!(closed(&mut self.websocket).await, None, "{why}: the WebSocket is the device's to close");
        assert_eq!(closed(&mut self.tcp).await, Some(1008), "{why}: TCP over WebSocket");
    }
}

impl Held {
    pub(super) async fn open(cloud: &Cloud, person: &str, device: &str) -> Self {
        let token = cloud.user_token(person).await;
        let streams = Streams::open(cloud, &token, device).await;
        let answer = cloud.user().get("/v1/events").bearer(person).send().await.expect(200).await;
        let ticket = new_ticket(cloud, person, json!({})).await;
        let path = format!("/v1/topics/default.telemetry?ticket={ticket}");
        let topic = cloud.user().websocket(&path, &[]).await.unwrap();
        let ticket = new_ticket(cloud, person, json!({"device": device, "service": "web"})).await;
        let events = Events { answer, text: String::new() };
        let (person, device) = (person.to_owned(), device.to_owned());
        let mut held = Self { streams, person, token, device, events, topic, ticket };
        held.events.until(|text| text.contains(": listening")).await;
        held
    }

    /// What becomes of a request with the token that was good until now.
    pub(super) async fn next_request(&self, cloud: &Cloud) -> String {
        let path = format!("/d/{}/web/method", self.device);
        cloud.user().get(&path).bearer(&self.token).send().await.problem().await
    }

    /// All of it works; `device` is the one that it is held on.
    pub(super) async fn is_alive(&mut self, cloud: &Cloud, device: &Device) {
        self.streams.are_alive().await;
        let mark = report(cloud, device).await;
        self.events.until(|text| text.contains(&mark)).await;
        loop {
            let message =
                timeout(SOON, self.topic.next()).await.expect("the topic tells it").unwrap().unwrap();
            if message.to_text().is_ok_and(|text| text.contains(&mark)) {
                break;
            }
        }
        let ticket = new_ticket(cloud, &self.person, json!({"device": self.device, "service": "web"})).await;
        let path = format!("/d/{}/web/ws?ticket={ticket}", self.device);
        assert!(cloud.user().websocket(&path, &[]).await.is_ok(), "control: a ticket opens it");
    }

    /// None of it works. The holder still hears of `beside`, and of `device` no more.
    pub(super) async fn has_ended(&mut self, cloud: &Cloud, [device, beside]: [&Device; 2], why: &str) {
        let path = format!("/d/{}/web/ws?ticket={}", self.device, self.ticket);
        let refused = cloud.user().websocket(&path, &[]).await.err();
        assert!(matches!(refused, Some(401 | 403)), "{why}: the ticket that was not used: {refused:?}");
        self.streams.have_ended(why).await;
        assert_eq!(closed(&mut self.topic).await, Some(4403), "{why}: the topic");
        let (unheard, mark) = (report(cloud, device).await, report(cloud, beside).await);
        let text = self.events.until(|text| text.contains(&mark)).await;
        assert!(!text.contains(&unheard), "{why}: an event of the device was told: {text}");
    }
}

impl Events {
    /// Reads on until what was read says this; all of it.
    async fn until(&mut self, says: impl Fn(&str) -> bool) -> String {
        let read = timeout(SOON, async {
            while !says(&self.text) {
                let piece = self.answer.next().await.expect("events without end").unwrap();
                self.text += &String::from_utf8_lossy(&piece);
            }
        });
        let is_said = read.await.is_ok();
        assert!(is_said, "never said; heard: {}", self.text);
        std::mem::take(&mut self.text)
    }
}

/// A device reports something that is told apart from everything else; its mark.
async fn report(cloud: &Cloud, device: &Device) -> String {
    let mark = model::hex(&runtime::random::bytes::<8>());
    let call = cloud.device().showing(&device.identity()).post("/device/v1/telemetry");
    call.json(&json!({"data": {"mark": mark}})).send().await.expect(200).await;
    mark
}

async fn new_ticket(cloud: &Cloud, person: &str, asked: Value) -> String {
    let answer = cloud.user().post("/v1/tickets").bearer(person).json(&asked).send().await;
    answer.expect(201).await.json().await["ticket"].as_str().unwrap().to_owned()
}

/// Waits for the end; the code of a close, if there was one.
async fn closed(socket: &mut WebSocket) -> Option<u16> {
    let ended = timeout(SOON, async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => {
                    return Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    });
    ended.await.expect("the WebSocket ends")
}

/// So many bytes of an answer, as text.
async fn heard(answer: &mut Answer, count: usize) -> String {
    let mut all = vec![];
    while all.len() < count {
        let piece = timeout(SOON, answer.next()).await.expect("bytes in time");
        all.extend_from_slice(&piece.expect("it goes on").unwrap());
    }
    String::from_utf8(all).unwrap()
}

/// More than anything here may take; the promise itself is looked at by who waits.
const SOON: Duration = Duration::from_secs(20);
