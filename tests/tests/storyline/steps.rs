//! The steps of devices that have owners.

use std::{convert::Infallible, os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tests::{Answer, Call, Device, EnrolledDevice, eventually, next_event, run_ok};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{Story, code_on, people::Person};

impl Story {
    /// Step 4: who may see it is told of the connection, once; the code is in its file, for nobody else to read.
    pub(super) async fn the_daemon_connects_and_shows_a_code(&self) -> Device {
        let enrolled = EnrolledDevice::enrol(&self.cloud, "cam-01").await;
        let mut fitter = self.sign_in("ida").await;
        self.cloud.grant("cam-01", &fitter.id, json!({"level": "viewer"})).await;
        let token = fitter.token().await;
        let listen = self.cloud.user().get("/v1/events?type=device.*").bearer(&token);
        let mut events = listen.send().await.expect(200).await;

        let services = [("web", self.site.url("http"))];
        let device = enrolled.run_reporting(&services).await;
        let event = event_of(&mut events).await;
        assert_eq!((&event["type"], &event["subject"]), (&json!("device.connected"), &json!("cam-01")));
        self.cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
        assert_eq!(self.cloud.device_record("cam-01").await["services"], json!(["web"]));
        code_on(&device).await;
        let file = std::fs::metadata(device.state().join("claim_code")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let known = fitter.read("/v1/devices/cam-01/history?type=device.connected").await;
        assert_eq!(known["items"].as_array().map(Vec::len), Some(1), "once: {known}");
        // Her work is done.
        let path = format!("/admin/api/devices/cam-01/grants/{}", fitter.id);
        self.cloud.administer(Method::DELETE, &path, Value::Null).await;
        device
    }

    /// Step 5: the code makes an owner, who reads a page, uploads, and opens a WebSocket.
    pub(super) async fn a_person_claims_and_uses_the_device(&self, alice: &mut Person, device: &Device) {
        let code = code_on(device).await;
        let (status, claimed) = alice.call(Method::POST, "/v1/claims", json!({ "code": code })).await;
        assert_eq!((status, claimed), (201, json!({"device": "cam-01", "level": "owner"})));
        eventually("the code disappears", || async {
            if device.state().join("claim_code").exists() { Err("it is there") } else { Ok(()) }
        })
        .await;
        let token = alice.token().await;
        let page = self.call(Method::GET, "/d/cam-01/web/method", &token).send().await.expect(200).await;
        assert_eq!(page.header("x-method"), "GET");
        assert_eq!(self.upload(&token, UPLOAD).await, UPLOAD);
        let bearer = format!("Bearer {token}");
        let socket = self.cloud.user().websocket("/d/cam-01/web/ws", &[("authorization", &bearer)]).await;
        let mut socket = socket.expect("an owner may open it");
        for word in ["one", "two"] {
            socket.send(Message::text(word)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(word));
        }
    }

    /// Step 6: shared to look at; taken back, which refuses within a second and ends what is open within ten.
    pub(super) async fn the_owner_shares_and_takes_back(&self, alice: &mut Person, bob: &mut Person) {
        self.share(alice, bob, "viewer").await;
        let look = bob.token().await;
        self.call(Method::GET, "/d/cam-01/web/method", &look).send().await.expect(200).await;
        let post = self.call(Method::POST, "/d/cam-01/web/count", &look).body("x").send().await;
        assert_eq!(post.problem().await, "403 TMX-4031");
        let live = self.call(Method::GET, "/d/cam-01/web/chunks/1000000000", &look).send().await;
        let mut live = live.expect(200).await;
        live.next().await.unwrap().unwrap();
        let began = Instant::now();
        let path = format!("/v1/devices/cam-01/grants/{}", bob.id);
        assert_eq!(alice.call(Method::DELETE, &path, Value::Null).await.0, 204);
        let refused = self.call(Method::GET, "/d/cam-01/web/method", &look).send().await;
        assert_eq!(refused.problem().await, "403 TMX-4030");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let ended = timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = live.next().await {} });
        ended.await.expect("a live stream ends with the share");
    }

    /// Step 7: a program on the device reports; whoever listens with a filter hears what fits it; history has all.
    pub(super) async fn what_the_device_reports_reaches_the_second_person(
        &self,
        alice: &mut Person,
        bob: &mut Person,
        device: &Device,
    ) {
        self.share(alice, bob, "viewer").await;
        let token = bob.token().await;
        let asked = self.call(Method::POST, "/v1/tickets", &token).json(&json!({"device": "cam-01"}));
        let ticket = asked.send().await.expect(201).await.json().await["ticket"].as_str().unwrap().to_owned();
        let path = format!("/v1/topics/default.telemetry?ticket={ticket}&where=temperature=gte:20;");
        let mut topic = self.cloud.user().websocket(&path, &[]).await.expect("a fresh ticket opens it");
        let measured = [19, 20, 7, 31, 12, 25];
        for (number, temperature) in measured.iter().enumerate() {
            let item = json!({"id": format!("reading-{number}"), "data": {"temperature": temperature}});
            assert_eq!(device.report("/v1/telemetry", &item).await, "202");
        }
        for expected in measured.iter().filter(|temperature| **temperature >= 20) {
            let event = next_event(&mut topic).await.unwrap();
            assert_eq!((&event["subject"], &event["type"]), (&json!("cam-01"), &json!("telemetry")));
            assert_eq!(event["data"], json!({"temperature": expected}), "in order, and nothing between");
        }
        let history = "/v1/devices/cam-01/history?type=telemetry&order=asc";
        let known = bob.read(history).await;
        let items = known["items"].as_array().unwrap();
        let temperatures: Vec<&Value> = items.iter().map(|item| &item["data"]["temperature"]).collect();
        assert_eq!(
            temperatures,
            measured.iter().map(|one| json!(one)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
    }

    /// Step 9: what belongs to one tenant does not exist for another, not even with a code in hand.
    pub(super) async fn another_tenant_gets_nothing(&self, alice: &mut Person, code: &str) {
        assert_eq!(self.cloud.command("tenant new rival").await.code, 0);
        let mut mallory = self.sign_in("mallory.rival").await;
        assert_eq!(mallory.read("/v1/me").await["tenant"], "rival");
        let token = mallory.token().await;
        for (method, path) in [(Method::GET, "/d/cam-01/web/method"), (Method::POST, "/d/cam-01/web/count")] {
            let refused = self.call(method, path, &token).send().await;
            assert_eq!(refused.problem().await, "403 TMX-4030");
        }
        let owner = format!("/v1/devices/{{}}/grants/{}", alice.id);
        let own = format!("/v1/devices/{{}}/grants/{}", mallory.id);
        let offer = json!({"to": mallory.id});
        for (method, path, body) in [
            (Method::GET, "/v1/devices/{}", Value::Null),
            (Method::PATCH, "/v1/devices/{}", json!({"name": "mine"})),
            (Method::GET, "/v1/devices/{}/connections", Value::Null),
            (Method::GET, "/v1/devices/{}/history", Value::Null),
            (Method::GET, "/v1/devices/{}/grants", Value::Null),
            (Method::PUT, own.as_str(), json!({"level": "owner"})),
            (Method::DELETE, owner.as_str(), Value::Null),
            (Method::DELETE, "/v1/devices/{}/owner", Value::Null),
            (Method::POST, "/v1/devices/{}/transfers", offer),
        ] {
            let foreign = mallory.call(method.clone(), &path.replace("{}", "cam-01"), body.clone()).await;
            let absent = mallory.call(method.clone(), &path.replace("{}", "no-such-device"), body).await;
            assert_eq!(
                strip(foreign.1),
                strip(absent.1),
                "{method} {path}: foreign and absent are one answer"
            );
            assert_eq!((foreign.0, absent.0), (404, 404), "{method} {path}");
        }
        let ticket = |asked: Value| self.call(Method::POST, "/v1/tickets", &token).json(&asked).send();
        assert_eq!(ticket(json!({"device": "cam-01"})).await.status, 404);
        let own =
            ticket(json!({})).await.expect(201).await.json().await["ticket"].as_str().unwrap().to_owned();
        let path = format!("/v1/topics/default.telemetry?ticket={own}");
        let mut topic = self.cloud.user().websocket(&path, &[]).await.unwrap();
        assert_eq!(next_event(&mut topic).await, Err(4403), "another tenant's topic");
        let known = mallory.call(Method::POST, "/v1/claims", json!({ "code": code })).await;
        let unknown = mallory.call(Method::POST, "/v1/claims", json!({ "code": NOBODYS })).await;
        assert_eq!((known.0, strip(known.1)), (404, strip(unknown.1)), "a code is its own tenant's alone");
        assert_eq!(mallory.read("/v1/devices").await["items"], json!([]));
        assert_eq!(alice.read("/v1/devices/cam-01").await["level"], "owner", "nothing was changed");
    }

    /// Step 11: the daemon is back by itself, nobody was falsely online in between, and a code that nobody used yet
    /// is as good as before.
    pub(super) async fn everything_comes_back_after_kill_9(
        &mut self,
        alice: &mut Person,
        bob: &mut Person,
        spare: &Device,
        code: &str,
    ) {
        EnrolledDevice::enrol(&self.cloud, "box-01").await;
        self.cloud.kill();
        self.cloud.start_again().await;
        assert_eq!(self.cloud.device_record("box-01").await["online"], false, "it never connected");
        for device in ["cam-01", "cam-02"] {
            self.cloud.until_online(device, true, Duration::from_secs(30)).await;
        }
        let token = alice.token().await;
        self.call(Method::GET, "/d/cam-01/web/method", &token).send().await.expect(200).await;
        assert_eq!(code_on(spare).await, code, "the same code still stands");
        let (status, claimed) = bob.call(Method::POST, "/v1/claims", json!({ "code": code })).await;
        assert_eq!((status, claimed), (201, json!({"device": "cam-02", "level": "owner"})));
    }

    /// Step 10: the tunnel drops, requests are told that the device is not there, it is refused when it comes again,
    /// and the serial is on the list.
    pub(super) async fn a_revoked_device_is_out(&self, alice: &mut Person, device: &mut Device) {
        let record = self.cloud.device_record("cam-01").await;
        let text = |member: &str| record["certificate"][member].as_str().unwrap().to_owned();
        let path = format!("/admin/api/certificates/{}/revoke", text("fingerprint"));
        let receipt = self.cloud.administer(Method::POST, &path, json!({"reason": "keyCompromise"})).await;
        assert_eq!(receipt["tunnels_closed"], 1, "{receipt}");
        let token = alice.token().await;
        let gone = self.call(Method::GET, "/d/cam-01/web/method", &token).send().await;
        assert_eq!(gone.problem().await, "503 TMX-3001");
        let list = self.cloud.device().get("/crl/devices.crl").send().await.expect(200).await;
        let list = list.bytes().await.unwrap();
        let list = run_ok("openssl", ["crl", "-inform", "DER", "-noout", "-text"], &list).await;
        assert!(list.contains(&text("serial").to_uppercase()), "{list}");
        eventually("the daemon was refused", || async {
            let log = device.log();
            if log.contains("revoked") || log.contains("refused") { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(self.cloud.device_record("cam-01").await["online"], false);
        device.kill();
    }

    async fn share(&self, owner: &mut Person, with: &Person, level: &str) {
        let path = format!("/v1/devices/cam-01/grants/{}", with.id);
        let (status, answer) = owner.call(Method::PUT, &path, json!({ "level": level })).await;
        assert!((200..300).contains(&status), "{status} {answer}");
    }

    fn call(&self, method: Method, path: &str, token: &str) -> Call {
        self.cloud.user().call(method, path).bearer(token)
    }

    /// How many bytes of an upload arrived.
    async fn upload(&self, token: &str, size: usize) -> usize {
        let block = Bytes::from(vec![7; BLOCK]);
        let frames =
            std::iter::repeat_n(block, size / BLOCK).map(|block| Ok::<_, Infallible>(Frame::data(block)));
        let call = self.call(Method::POST, "/d/cam-01/web/count", token);
        let call =
            call.header("content-length", size.to_string()).stream(StreamBody::new(stream::iter(frames)));
        call.send().await.expect(200).await.text().await.parse().unwrap()
    }
}

/// The next event of a stream of them.
async fn event_of(answer: &mut Answer) -> Value {
    let mut text = String::new();
    loop {
        let line = text.split_inclusive('\n').find(|line| line.starts_with("data: ") && line.ends_with('\n'));
        if let Some(line) = line {
            return serde_json::from_str(line.trim_start_matches("data: ")).unwrap();
        }
        let piece = timeout(Duration::from_secs(20), answer.next()).await;
        let piece = piece.unwrap_or_else(|_| panic!("no event, but: {text}")).expect("the stream goes on");
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
}

/// A problem without what is of this request alone.
fn strip(mut problem: Value) -> Value {
    let members = problem.as_object_mut().expect("a problem");
    for own in ["instance", "request_id"] {
        members.remove(own);
    }
    problem
}

const UPLOAD: usize = 1 << 30;
const BLOCK: usize = 64 * 1024;
/// A well-formed code that no device shows.
const NOBODYS: &str = "WDJB-MJHT-KQXN-VZCP-LRFS";
