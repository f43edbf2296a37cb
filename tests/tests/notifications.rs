//! From a device's notification to the people who may know: inboxes, signed webhooks, push messages.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{
    Cloud, EnrolledDevice, Provider, PushService, Received, Receiver, eventually, eventually_within, run,
    workspace,
};

/// A cloud with a device, and Alice who owns it.
struct Scene {
    provider: Provider,
    receiver: Receiver,
    push: PushService,
    cloud: Cloud,
    device: EnrolledDevice,
    alice: String,
}

impl Scene {
    async fn build() -> Self {
        let (provider, receiver, push) =
            (Provider::start().await, Receiver::start().await, PushService::start().await);
        let config = format!("{}{}", receiver.config(), push.config());
        let cloud = Cloud::plan().config(&config).provider(&provider).start().await;
        let device = EnrolledDevice::enrol(&cloud, "cam-01").await;
        let alice = provider.token("alice");
        let scene = Self { provider, receiver, push, cloud, device, alice };
        scene.grant("alice", "owner").await;
        scene
    }

    async fn grant(&self, name: &str, level: &str) -> String {
        let token = self.provider.token(name);
        let user = self.cloud.user_id(&token).await;
        self.cloud.grant("cam-01", &user, json!({"level": level})).await;
        user
    }

    async fn call(&self, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let call = self.cloud.user().call(method, path).bearer(token);
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = call.send().await;
        let status = answer.status.as_u16();
        let text = answer.text().await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// What the device says to the device door.
    async fn notify(&self, title: &str) {
        let body =
            json!({"type": "door.open", "severity": "critical", "title": title, "body": "at the back"});
        let door = self.cloud.device().showing(&self.device.identity());
        door.post("/device/v1/notifications").json(&body).send().await.expect(200).await;
    }

    async fn webhook(&self, token: &str, types: &[&str]) -> (String, String) {
        let body = json!({"url": self.receiver.url(), "types": types});
        let (status, made) = self.call(token, Method::POST, "/v1/webhooks", body).await;
        assert_eq!(status, 201, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), text("secret"))
    }

    async fn titles(&self, token: &str) -> Vec<String> {
        let (status, page) = self.call(token, Method::GET, "/v1/notifications", Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["title"].as_str().unwrap().to_owned()).collect()
    }

    async fn until_titles(&self, token: &str, titles: &[&str]) {
        eventually(&format!("an inbox of {titles:?}"), || async {
            let found = self.titles(token).await;
            if found == titles { Ok(()) } else { Err(found) }
        })
        .await;
    }

    async fn until_delivery(&self, hook: &str, state: &str) -> Value {
        let path = format!("/v1/webhooks/{hook}/deliveries");
        eventually_within(Duration::from_secs(60), &format!("a delivery that is {state}"), || async {
            let (_, page) = self.call(&self.alice, Method::GET, &path, Value::Null).await;
            if page["items"][0]["state"] == state { Ok(page["items"][0].clone()) } else { Err(page) }
        })
        .await
    }
}

/// Whether the published library of the standard takes this message.
async fn library_takes(received: &Received, secret: &str) -> Result<(), String> {
    let python = workspace().join("target/standardwebhooks/bin/python");
    let script = "import json, sys\n\
        from standardwebhooks.webhooks import Webhook\n\
        told = json.load(sys.stdin)\n\
        Webhook(told['secret']).verify(told['body'], told['headers'])\n";
    let headers: serde_json::Map<String, Value> =
        received.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let told = json!({"secret": secret, "body": received.body, "headers": headers});
    let finished = run(python, ["-c", script], told.to_string().as_bytes()).await;
    if finished.code == 0 { Ok(()) } else { Err(finished.stderr) }
}

fn titled<'a>(title: &'a str) -> impl Fn(&Received) -> bool + use<'a> {
    move |received| received.json()["data"]["title"] == title
}

#[tokio::test]
async fn a_notification_reaches_those_with_a_grant_alone_and_a_foreign_library_believes_the_webhook() {
    let scene = Scene::build().await;
    let bob = scene.provider.token("bob");
    scene.cloud.user_id(&bob).await;
    let (hook, secret) = scene.webhook(&scene.alice, &["notification"]).await;
    let app = json!({"token": "app-1", "platform": "ios"});
    assert_eq!(scene.call(&scene.alice, Method::POST, "/v1/push/fcm", app).await.0, 201);
    scene.notify("Open").await;
    scene.until_titles(&scene.alice, &["Open"]).await;
    let received = scene.receiver.until("the webhook", titled("Open")).await;
    library_takes(&received, &secret).await.unwrap();
    let mut forged = received.clone();
    forged.body = forged.body.replace("Open", "Shut");
    assert!(
        library_takes(&forged, &secret).await.unwrap_err().contains("WebhookVerificationError"),
        "control"
    );
    let event = received.json();
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("notification")));
    let message = scene.push.message_to("app-1").await;
    assert_eq!(message["notification"], json!({"title": "Open", "body": "at the back"}));
    assert_eq!(message["apns"]["headers"]["apns-priority"], "10");
    assert_eq!(scene.titles(&bob).await, [] as [&str; 0]);
    // Both secrets sign after a rotation.
    let path = format!("/v1/webhooks/{hook}/rotate");
    let (_, rotated) = scene.call(&scene.alice, Method::POST, &path, Value::Null).await;
    let fresh = rotated["secret"].as_str().unwrap().to_owned();
    scene.notify("Again").await;
    let received = scene.receiver.until("the webhook", titled("Again")).await;
    for secret in [&secret, &fresh] {
        library_takes(&received, secret).await.unwrap();
    }
    assert_eq!(scene.push.access_tokens().len(), 1, "an access token is kept");
    for secret in [&secret, &fresh] {
        assert!(!scene.cloud.log().contains(secret.as_str()));
        let database = std::fs::read(scene.cloud.data().join("tcpmux.db-wal")).unwrap();
        assert!(!database.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn a_message_outlives_a_dead_receiver_and_a_killed_cloud_and_comes_again_on_request() {
    let mut scene = Scene::build().await;
    let (hook, secret) = scene.webhook(&scene.alice, &["notification"]).await;
    scene.receiver.answer(500);
    scene.notify("Open").await;
    let first = scene.receiver.until("the first attempt", titled("Open")).await;
    scene.cloud.kill();
    scene.receiver.answer(204);
    let came = scene.receiver.received().len();
    scene.cloud.start_again().await;
    let done = scene.until_delivery(&hook, "delivered").await;
    let received = scene.receiver.received();
    assert!(received.len() > came);
    assert!(
        received.iter().all(|one| one.header("webhook-id") == first.header("webhook-id")),
        "{received:?}"
    );
    library_takes(received.last().unwrap(), &secret).await.unwrap();
    assert_eq!(scene.titles(&scene.alice).await, ["Open"], "once");
    let id = done["id"].as_str().unwrap();
    assert_eq!(first.header("webhook-id"), id);
    let path = format!("/v1/webhooks/{hook}/deliveries/{id}/redeliver");
    assert_eq!(scene.call(&scene.alice, Method::POST, &path, Value::Null).await.0, 202);
    let count = received.len();
    eventually("it comes again", || async {
        let received = scene.receiver.received();
        if received.len() > count { Ok(()) } else { Err(received.len()) }
    })
    .await;
    assert_eq!(scene.receiver.received().last().unwrap().header("webhook-id"), id);
}

#[tokio::test]
async fn whoever_loses_the_grant_hears_nothing_more_of_the_device() {
    let scene = Scene::build().await;
    let bob = scene.provider.token("bob");
    let user = scene.grant("bob", "viewer").await;
    let (hook, _) = scene.webhook(&bob, &["notification"]).await;
    scene.notify("Before").await;
    scene.receiver.until("Bob's webhook", titled("Before")).await;
    scene.until_titles(&bob, &["Before"]).await;
    let path = format!("/admin/api/devices/cam-01/grants/{user}");
    scene.cloud.administer(Method::DELETE, &path, Value::Null).await;
    assert_eq!(scene.titles(&bob).await, [] as [&str; 0]);
    scene.notify("After").await;
    scene.until_titles(&scene.alice, &["After", "Before"]).await;
    let path = format!("/v1/webhooks/{hook}/deliveries");
    let (_, page) = scene.call(&bob, Method::GET, &path, Value::Null).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    scene.grant("bob", "viewer").await;
    scene.notify("Control").await;
    scene.receiver.until("Bob's webhook again", titled("Control")).await;
    assert!(scene.receiver.received().iter().all(|one| !titled("After")(one)));
}

#[tokio::test]
async fn an_address_inside_is_called_only_where_the_operator_allows_it() {
    let (provider, receiver) = (Provider::start().await, Receiver::start().await);
    let without = format!("[webhooks]\nca = {:?}\n", receiver.root().display().to_string());
    let cloud = Cloud::plan().config(&without).provider(&provider).start().await;
    let alice = provider.token("alice");
    let port = receiver.address().port();
    for url in [
        format!("https://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://[::ffff:7f00:1]:{port}/"),
    ] {
        let call = cloud.user().post("/v1/webhooks").bearer(&alice).json(&json!({"url": url}));
        call.send().await.expect(400).await;
    }
    assert_eq!(receiver.received().len(), 0);
    let scene = Scene::build().await;
    let (hook, secret) = scene.webhook(&scene.alice, &["notification"]).await;
    let path = format!("/v1/webhooks/{hook}/test");
    assert_eq!(scene.call(&scene.alice, Method::POST, &path, Value::Null).await.0, 202, "control");
    let trial = scene.receiver.until("the trial", |one| one.json()["type"] == "webhook.test").await;
    library_takes(&trial, &secret).await.unwrap();
}
