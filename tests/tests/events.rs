//! What happens reaches those who may know: server-sent events, topics with tickets, history.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Device, Provider, Service, WebSocket, next_event};
use tokio::time::timeout;

/// A cloud with one running device and two people.
struct Stage {
    cloud: Cloud,
    device: Device,
    provider: Provider,
    _service: Service,
}

impl Stage {
    async fn set() -> Self {
        let provider = Provider::start().await;
        let cloud = Cloud::with_provider(&provider).await;
        let service = tests::web().await;
        let device = Device::enrol_and_run(&cloud, "cam-01", &[("web", service.url("http"))]).await;
        Self { cloud, device, provider, _service: service }
    }

    /// A person with this right on the device; their provider's token.
    async fn person(&self, name: &str, level: &str) -> String {
        let token = self.provider.token(name);
        let user = self.cloud.user_id(&token).await;
        self.cloud.grant("cam-01", &user, json!({ "level": level })).await;
        token
    }

    async fn take_away(&self, token: &str) {
        let user = self.cloud.user_id(token).await;
        let path = format!("/admin/api/devices/cam-01/grants/{user}");
        let call = self.cloud.admin().call(Method::DELETE, &path).admin(self.cloud.key());
        call.send().await.expect(204).await;
    }

    async fn ticket(&self, token: &str, asked: Value) -> String {
        let answer = self.cloud.user().post("/v1/tickets").bearer(token).json(&asked).send().await;
        let ticket = answer.expect(201).await.json().await["ticket"].as_str().unwrap().to_owned();
        assert_eq!(ticket.len(), 64);
        ticket
    }

    /// Opens a WebSocket, or the status that refused it.
    async fn open(&self, path: &str) -> Result<WebSocket, u16> {
        self.cloud.user().websocket(path, &[]).await
    }
}

#[tokio::test]
async fn a_topic_tells_its_people_what_happens_and_ends_with_their_right() {
    let mut stage = Stage::set().await;
    let alice = stage.person("alice", "viewer").await;
    let ticket = stage.ticket(&alice, json!({})).await;
    let path = format!("/v1/topics/default.device.*?ticket={ticket}");
    let mut topic = stage.open(&path).await.unwrap();
    assert_eq!(stage.open(&path).await.err(), Some(401), "a ticket is good once");

    stage.device.kill();
    let event = next_event(&mut topic).await.unwrap();
    assert_eq!(
        (event["type"].as_str(), event["subject"].as_str()),
        (Some("device.disconnected"), Some("cam-01"))
    );
    assert_eq!((event["specversion"].as_str(), event["tenant"].as_str()), (Some("1.0"), Some("default")));
    assert!(event["data"]["cause"].is_string(), "{event}");
    stage.device.start_again();
    assert_eq!(next_event(&mut topic).await.unwrap()["type"], "device.connected");
    stage.take_away(&alice).await;
    assert_eq!(next_event(&mut topic).await, Err(4403));
}

#[tokio::test]
async fn topics_are_refused_with_the_status_or_code_of_what_is_wrong() {
    let stage = Stage::set().await;
    let alice = stage.person("alice", "viewer").await;
    assert_eq!(stage.open("/v1/topics/default.telemetry").await.err(), Some(401));
    let unknown = format!("/v1/topics/default.telemetry?ticket={}", "0".repeat(64));
    assert_eq!(stage.open(&unknown).await.err(), Some(401));
    let plain = stage.cloud.user().get(&unknown).send().await;
    assert_eq!(plain.status.as_u16(), 426);
    for (topic, query, code) in [
        ("acme.telemetry", "", 4403),
        ("defaultx.telemetry", "", 4403),
        ("telemetry", "", 4400),
        ("default.telemetry", "&fields=a(", 4000),
        ("default.telemetry", "&where=a=near:1", 4001),
        ("default.telemetry", "&where=a%5Cx=1", 4002),
        ("default.telemetry", "&where=a=gt:1,2", 4003),
        ("default.telemetry", "&where=a=gt:warm", 4004),
    ] {
        let ticket = stage.ticket(&alice, json!({})).await;
        let mut socket = stage.open(&format!("/v1/topics/{topic}?ticket={ticket}{query}")).await.unwrap();
        assert_eq!(next_event(&mut socket).await, Err(code), "{topic} {query}");
    }
}

#[tokio::test]
async fn a_stream_of_events_resumes_where_it_broke_off_without_gap_or_double() {
    let mut stage = Stage::set().await;
    let owner = stage.person("alice", "owner").await;
    let listen = async |stage: &Stage, last: &str| {
        let mut call = stage.cloud.user().get("/v1/events?type=grant.changed").bearer(&owner);
        if !last.is_empty() {
            call = call.header("last-event-id", last);
        }
        let answer = call.send().await.expect(200).await;
        assert_eq!(answer.header("content-type"), "text/event-stream");
        answer
    };
    let mut answer = listen(&stage, "").await;
    stage.person("bob", "viewer").await;
    let first = ids(&mut answer, 1).await;
    drop(answer);
    stage.person("carol", "viewer").await;
    stage.cloud.kill();
    stage.cloud.start_again().await;
    let mut answer = listen(&stage, &first[0]).await;
    stage.person("dave", "viewer").await;
    let rest = ids(&mut answer, 2).await;
    let number = |id: &String| id.trim_start_matches("ev_").parse::<u64>().unwrap();
    let numbers: Vec<u64> = first.iter().chain(&rest).map(number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(numbers.len(), 3, "bob, carol while nobody listened, dave after a kill -9");
    let future = stage.cloud.user().get("/v1/events").bearer(&owner).header("last-event-id", "ev_999999");
    future.send().await.expect(410).await;
}

/// The ids of the next events.
async fn ids(answer: &mut tests::Answer, count: usize) -> Vec<String> {
    let mut text = String::new();
    loop {
        let found: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect();
        if found.len() >= count && text.ends_with("\n\n") {
            return found;
        }
        let piece = timeout(Duration::from_secs(20), answer.next()).await;
        let piece = piece.unwrap_or_else(|_| panic!("waiting for {count} events after: {text}"));
        text.push_str(std::str::from_utf8(&piece.expect("the stream goes on").unwrap()).unwrap());
    }
}

#[tokio::test]
async fn history_is_for_those_with_a_grant_in_json_and_csv() {
    let stage = Stage::set().await;
    let alice = stage.person("alice", "viewer").await;
    let stranger = stage.provider.token("mallory");
    let path = "/v1/devices/cam-01/history?type=device.*";
    stage.cloud.user().get(path).bearer(&stranger).send().await.expect(404).await;
    let page = stage.cloud.user().get(path).bearer(&alice).send().await.expect(200).await.json().await;
    assert_eq!(page["items"][0]["type"], "device.connected", "{page}");
    let table = stage.cloud.user().get(&format!("{path}&format=csv")).bearer(&alice).send().await;
    let table = table.expect(200).await;
    assert!(table.header("content-type").starts_with("text/csv"));
    let text = table.text().await;
    assert!(text.starts_with("id,time,type,device,data\r\nev_"), "{text}");
}

#[tokio::test]
async fn a_ticket_opens_a_websocket_at_the_device() {
    let stage = Stage::set().await;
    let alice = stage.person("alice", "operator").await;
    let ticket = stage.ticket(&alice, json!({"device": "cam-01", "service": "web"})).await;
    let path = format!("/d/cam-01/web/ws?ticket={ticket}");
    let socket = stage.open(&path).await;
    assert!(socket.is_ok(), "{:?}", socket.err());
    assert_eq!(stage.open(&path).await.err(), Some(401));
    assert!(!stage.cloud.log().contains(&ticket), "no log has it");
    let foreign = stage.cloud.user().post("/v1/tickets").bearer(&stage.provider.token("mallory"));
    foreign.json(&json!({"device": "cam-01"})).send().await.expect(404).await;
}
