//! D16, D17: whoever loses a right loses everything that stood on it. One table of losses, each against every kind of
//! stream at once; somebody else's streams go on.

mod held;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{
    Cloud, Device, Provider, Service, client_program, eventually, eventually_within, now, run_ok, web,
};
use tokio::time::Instant;

use held::{Held, Streams};

use crate::minimal::Pki;

/// How somebody loses a right on `cam-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The owner takes the share back.
    Unshared,
    /// The share had an end, and it has come.
    Ended,
    /// The owner gives the device up.
    Released,
    /// The owner hands the device on.
    HandedOn,
    /// Whoever has the device in hand resets it.
    Reset,
}

/// A cloud with two devices: `cam-01`, whose rights get lost, and `cam-02` beside it.
struct Scene {
    provider: Provider,
    cloud: Cloud,
    device: Device,
    other: Device,
    _services: [Service; 2],
}

impl Scene {
    async fn set() -> Self {
        let provider = Provider::start().await;
        let config = "[claims]\nfactory_reset = \"device\"\n";
        let cloud = Cloud::plan().provider(&provider).config(config).start().await;
        let services = [web().await, Service::echo().await];
        let exposed = [("web", services[0].url("http")), ("shell", services[1].url("tcp"))];
        let device = Device::enrol_and_run(&cloud, "cam-01", &exposed).await;
        let other = Device::enrol_and_run(&cloud, "cam-02", &exposed).await;
        Self { provider, cloud, device, other, _services: services }
    }

    fn person(&self, name: &str) -> String {
        self.provider.token(name)
    }

    async fn id(&self, name: &str) -> String {
        self.cloud.user_id(&self.person(name)).await
    }

    /// Calls the API as a person; the call has to succeed.
    async fn call(&self, person: &str, method: Method, path: &str, body: Value) -> String {
        let mut call = self.cloud.user().call(method, path).bearer(&self.person(person));
        if !body.is_null() {
            call = call.json(&body);
        }
        let answer = call.send().await;
        let status = answer.status;
        let text = answer.text().await;
        assert!(status.is_success(), "{person} {path}: {status} {text}");
        text
    }

    /// Alice claims a device with the code that it shows.
    async fn claim(&self, device: &Device) {
        let file = device.state().join("claim_code");
        eventually_within(Duration::from_secs(30), "alice claims the device", || async {
            let code = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let call = self.cloud.user().post("/v1/claims").bearer(&self.person("alice"));
            let answer = call.json(&json!({ "code": code.trim() })).send().await;
            if answer.status == 201 { Ok(()) } else { Err(answer.text().await) }
        })
        .await;
    }

    async fn share(&self, device: &str, person: &str, until: Option<u64>) {
        let mut grant = json!({"level": "operator"});
        if let Some(until) = until {
            grant["until"] = json!(rfc3339(until));
        }
        let path = format!("/v1/devices/{device}/grants/{}", self.id(person).await);
        self.call("alice", Method::PUT, &path, grant).await;
    }

    /// Makes the loss happen; for the moment at which it was answered, or at which the share ends.
    async fn lose(&self, loss: Loss) {
        let bob = self.id("bob").await;
        match loss {
            Loss::Unshared => {
                let share = format!("/v1/devices/cam-01/grants/{bob}");
                self.call("alice", Method::DELETE, &share, Value::Null).await;
            }
            Loss::Ended => {
                eventually("the end of the share has come", || async {
                    let answer = self.look("bob").await;
                    if answer == 404 { Ok(()) } else { Err(answer) }
                })
                .await;
            }
            Loss::Released => {
                self.call("alice", Method::DELETE, "/v1/devices/cam-01/owner", Value::Null).await;
            }
            Loss::HandedOn => {
                let offer = json!({ "to": self.id("dave").await });
                let offer = self.call("alice", Method::POST, "/v1/devices/cam-01/transfers", offer).await;
                let offer: Value = serde_json::from_str(&offer).unwrap();
                let accept = format!("/v1/transfers/{}/accept", offer["id"].as_str().unwrap());
                self.call("dave", Method::POST, &accept, Value::Null).await;
            }
            Loss::Reset => {
                let state = self.device.state().display().to_string();
                let words = ["reset", "--yes", "--no-local-api", "--state", &state];
                run_ok(client_program(), words, b"").await;
            }
        }
    }

    /// Alice owns `cam-01` again, whatever happened.
    async fn restore(&self, loss: Loss) {
        match loss {
            Loss::Unshared | Loss::Ended => {}
            Loss::Released | Loss::Reset => self.claim(&self.device).await,
            Loss::HandedOn => {
                self.call("dave", Method::DELETE, "/v1/devices/cam-01/owner", Value::Null).await;
                self.claim(&self.device).await;
            }
        }
    }

    /// The status with which a person is shown `cam-01`.
    async fn look(&self, person: &str) -> u16 {
        self.cloud.user().get("/v1/devices/cam-01").bearer(&self.person(person)).send().await.status.as_u16()
    }
}

#[tokio::test]
async fn whoever_loses_a_right_loses_every_stream_ticket_and_subscription_and_nobody_else_does() {
    let scene = Scene::set().await;
    scene.claim(&scene.device).await;
    scene.claim(&scene.other).await;
    for person in ["bob", "carol", "erin"] {
        scene.share("cam-02", person, None).await;
    }
    // Of another person on another device, through all of the losses.
    let mut beside = Held::open(&scene.cloud, &scene.person("erin"), "cam-02").await;
    let devices = [&scene.device, &scene.other];

    for loss in [Loss::Unshared, Loss::Ended, Loss::Released, Loss::HandedOn, Loss::Reset] {
        let end = (loss == Loss::Ended).then(|| now() + 4);
        scene.share("cam-01", "bob", end).await;
        scene.share("cam-01", "carol", None).await;
        let mut lost = Held::open(&scene.cloud, &scene.person("bob"), "cam-01").await;
        let mut kept = Held::open(&scene.cloud, &scene.person("carol"), "cam-01").await;

        scene.lose(loss).await;
        let began = Instant::now();
        // The token that stood on an ending share is at its own end.
        let refusal = if loss == Loss::Ended { "401 TMX-4002" } else { "403 TMX-4030" };
        assert_eq!(lost.next_request(&scene.cloud).await, refusal, "{loss:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{loss:?}: refused {:?} later", began.elapsed());
        assert_eq!(scene.look("bob").await, 404, "{loss:?}");
        lost.has_ended(&scene.cloud, devices, &format!("{loss:?}")).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{loss:?}: ended {:?} later", began.elapsed());

        // A share that is taken back is one person's; what ends with the ownership is everybody's.
        if matches!(loss, Loss::Unshared | Loss::Ended) {
            kept.is_alive(&scene.cloud, devices[0]).await;
        } else {
            kept.has_ended(&scene.cloud, devices, &format!("{loss:?} of another")).await;
        }
        beside.is_alive(&scene.cloud, devices[1]).await;
        scene.restore(loss).await;
    }
}

#[tokio::test]
async fn every_kind_of_stream_outlives_its_token_and_ends_at_its_until() {
    let (pki, operator) = (Pki::make().await, Provider::start().await);
    let cloud = Cloud::plan().config(&pki.config(&operator)).trusted(&pki.file("ca.crt")).start().await;
    let services = [web().await, Service::echo().await];
    let exposed = [("web", services[0].url("http")), ("shell", services[1].url("tcp"))];
    let device = pki.device_with("cam-01", &cloud, &exposed).await;
    let token = |lives: u64, until: u64| {
        let issued = now();
        let body = json!({
            "iss": operator.issuer(), "aud": "tcpmux:proxy", "sub": "alice", "tenant": "default",
            "until": issued + until, "iat": issued, "exp": issued + lives, "jti": "1",
            "devices": {"cam-01": {"level": "operator"}},
        });
        operator.signer().sign("at+jwt", &body)
    };
    let asked = async |token: &str| {
        let answer = cloud.user().get("/d/cam-01/web/method").bearer(token).send().await;
        if answer.status == 200 { "200".to_owned() } else { answer.problem().await }
    };
    let early = token(300, 600);
    eventually("the device is there", || async {
        let answer = asked(&early).await;
        if answer == "200" { Ok(()) } else { Err(format!("{answer} {}", device.log())) }
    })
    .await;
    let short = token(5, 11);
    let promised = now() + 11;
    let mut streams = Streams::open(&cloud, &short, "cam-01").await;
    let mut longer = Streams::open(&cloud, &token(5, 600), "cam-01").await;
    eventually("the token's end", || async {
        let answer = asked(&short).await;
        if answer == "401 TMX-4002" { Ok(()) } else { Err(answer) }
    })
    .await;
    longer.are_alive().await;
    streams.have_ended("until").await;
    let ended = now();
    assert!((promised - 1..promised + 10).contains(&ended), "ended at {ended}, its until was {promised}");
    longer.are_alive().await;
}

fn rfc3339(seconds: u64) -> String {
    model::Timestamp::from_secs(seconds.cast_signed()).rfc3339()
}
