//! The same for what people and their programs hold: tickets, claim codes, device tokens, the secrets of webhooks,
//! push accounts, sign-in clients, logins, visits, and the password of the shared registry.

use std::{process::Command, time::Duration};

use http::Method;
use serde_json::{Value, json};
use tests::{
    Browser, CLIENT_SECRET, Cloud, EnrolledDevice, Page, Process, Provider, PushService, Receiver, Redis,
    Service, client_program, eventually_within,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, client::IntoClientRequest},
};
use url::Url;

use super::canaries::{Places, Secrets};

#[tokio::test]
async fn no_secret_of_people_is_in_a_log_a_metric_an_error_the_database_the_registry_or_at_a_device() {
    let (provider, receiver, push) =
        (Provider::start().await, Receiver::start().await, PushService::start().await);
    let redis = Redis::start().await;
    assert_eq!(redis.ask(&format!("CONFIG SET requirepass {PASSWORD}")).await, "OK");
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("registry");
    std::fs::write(&url, redis.url().replacen("redis://", &format!("redis://:{PASSWORD}@"), 1)).unwrap();
    let mut cloud = Cloud::plan()
        .config("device_domain = \"devices.example\"")
        .config(&format!("{}{}", receiver.config(), push.config()))
        .config(&provider.sign_in_config("idp"))
        .environment("TCPMUX_REGISTRY_FILE", &url.display().to_string())
        .log_level("trace")
        .start()
        .await;
    let mirror = Service::mirror().await;
    let (mut secrets, mut places) = (Secrets::default(), Places::default());
    secrets.text("the registry's password", PASSWORD);
    secrets.text("the sign-in client's secret", CLIENT_SECRET);
    let account: Value = serde_json::from_slice(&std::fs::read(push.credentials()).unwrap()).unwrap();
    let key = account["private_key"].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    secrets.text("the push account's key", &key[400..600]);

    // A device shows its code, is claimed, and reports with the token that it was given.
    let state = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let local = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let device = run_device(&state, &mirror.url("http"), &local.to_string());
    cloud.until_online("cam-01", true, Duration::from_secs(30)).await;
    let code = eventually_within(Duration::from_secs(30), "the device shows a code", || async {
        std::fs::read_to_string(state.state().join("claim_code"))
    })
    .await;
    secrets.text("a claim code", code.trim());
    secrets.text("a claim code's letters", &code.trim().replace('-', ""));
    let alice = provider.token("alice");
    secrets.token("a provider's token", &alice);
    let call = async |method: Method, path: &str, body: Value| {
        let answer = cloud.user().call(method, path).bearer(&alice).json(&body).send().await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        serde_json::from_str::<Value>(&answer.text().await).unwrap_or_default()
    };
    for wrong in [json!({"code": code.trim(), "more": 1}), json!({"kode": code.trim()})] {
        let refused = cloud.user().post("/v1/claims").bearer(&alice).json(&wrong).send().await;
        places.text("a refused claim", refused.expect(400).await.text().await);
    }
    call(Method::POST, "/v1/claims", json!({"code": code})).await;
    let answer = cloud.user().post("/v1/claims").bearer(&alice).json(&json!({"code": code})).send().await;
    places.text("a used code", answer.expect(404).await.text().await);

    // A webhook and an app, which hear of what the device reports.
    let hook = json!({"url": receiver.url(), "types": ["notification"]});
    let hook = call(Method::POST, "/v1/webhooks", hook).await;
    secrets.text("a webhook's secret", hook["secret"].as_str().unwrap());
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let rotated = call(Method::POST, &format!("{path}/rotate"), json!({})).await;
    secrets.text("a webhook's new secret", rotated["secret"].as_str().unwrap());
    call(Method::POST, "/v1/push/fcm", json!({"token": "app-1", "platform": "ios"})).await;
    let report = json!({"type": "door.open", "severity": "critical", "title": "Open"}).to_string();
    let url = format!("http://{local}/v1/notifications");
    let words = ["-sS", "--fail", "-H", "Content-Type: application/json", "--data-binary", "@-", &url];
    tests::run_ok("curl", words, report.as_bytes()).await;
    receiver.until("the webhook", |one| one.json()["data"]["title"] == "Open").await;
    push.message_to("app-1").await;
    for token in push.access_tokens() {
        secrets.text("an access token of the push service", &token);
    }
    for path in [path.clone(), format!("{path}/deliveries"), "/v1/push/fcm".into(), "/v1/webhooks".into()] {
        places.text(&path, call(Method::GET, &path, Value::Null).await.to_string());
    }

    // A browser signs in and opens the device at its own host.
    let mut browser = Browser::new(cloud.user());
    sign_in(&mut browser, &cloud, &provider).await;
    secrets.text("a login", browser.cookie("localhost", LOGIN).unwrap());
    let port = cloud.user().address().port();
    let host = |path: &str| format!("https://{HOST}:{port}{path}");
    let sent = browser.visit(&host("/")).await.expect(303);
    let handed = browser.visit(sent.location().unwrap().as_str()).await.expect(303);
    let handed = handed.location().unwrap();
    for (name, value) in handed.query_pairs().filter(|(_, value)| value.len() >= 32) {
        secrets.text(&format!("a hand-over's {name}"), &value);
    }
    browser.open(handed.as_str()).await.expect(200);
    secrets.text("a visit", browser.cookie(HOST, VISIT).unwrap());
    let page = browser.open(&host("/panel")).await.expect(200);
    places.text("what a device sees of a browser", page.text);

    // Tickets: used at the device, at a topic, at the wrong place, and not used at all.
    let ticket = async |asked: Value| {
        let made = call(Method::POST, "/v1/tickets", asked).await;
        made["ticket"].as_str().unwrap().to_owned()
    };
    let of_web = json!({"device": "cam-01", "service": "web"});
    for (what, asked, path, is_good) in [
        ("a ticket for a topic", json!({}), "/v1/topics/default.telemetry?ticket=", true),
        ("a ticket for a device", of_web.clone(), "/d/cam-01/web/ws?a=b&ticket=", true),
        ("a ticket for a stream", of_web.clone(), "/v1/devices/cam-01/streams/web?ticket=", false),
        ("a ticket at another device", of_web.clone(), "/d/cam-02/web/ws?ticket=", false),
        ("a ticket at another service", of_web, "/d/cam-01/api/ws?ticket=", false),
        ("a ticket at no topic", json!({}), "/v1/topics/nowhere?ticket=", true),
        ("a ticket nowhere", json!({}), "/nowhere?ticket=", false),
    ] {
        let ticket = ticket(asked).await;
        secrets.text(what, &ticket);
        let path = format!("{path}{ticket}");
        let (status, said) = open(&cloud, &path).await;
        // The service at the device is no WebSocket: that it was asked is what counts.
        let is_refused = (400..500).contains(&status);
        let is_right = if is_good { status == 101 || status == 200 } else { is_refused };
        assert!(is_right, "{what}: {status} {said}");
        places.text(&format!("the answer to {what}"), said);
        let again = cloud.user().get(&path).send().await;
        let head = format!("{:?}", again.headers);
        places.text(&format!("the second answer to {what}"), head + &again.text().await);
    }
    let unused = ticket(json!({})).await;
    secrets.text("a ticket that waits", &unused);

    let contents = everything_in(&redis).await;
    assert!(contents.contains("tcpmux:ticket:"), "the ticket waits there: {contents}");
    places.text("the registry", contents);
    places.text("the metrics", cloud.admin().get("/metrics").send().await.text().await);
    for page in ["devices", "devices/cam-01", "audit", "certificates"] {
        let listed = cloud.administer(Method::GET, &format!("/admin/api/{page}"), Value::Null).await;
        places.text(page, listed.to_string());
    }
    places.process("the cloud", cloud.process());
    places.process("the daemon", &device);
    places.text("what came to the device", mirror.seen().join("\n"));
    let came = receiver.received().iter().map(|one| format!("{one:?}")).collect::<String>();
    places.text("what came to the webhook", came);
    places.text("the daemon's log", device.log());
    cloud.kill();
    places.text("the cloud's log", cloud.log());
    for file in ["tcpmux.db", "tcpmux.db-wal", "tcpmux.db-shm"] {
        places.file(file, &cloud.data().join(file));
    }
    assert!(places.says("the cloud's log", "/d/cam-01/web/ws"), "requests with tickets are logged");
    let found = places.search(&secrets);
    assert!(found.is_empty(), "{found:#?}");
    // Device tokens are never shown to a test: anything like a token must be nowhere.
    assert_eq!(places.tokens(), [] as [&str; 0]);

    // Controls: each of them is found where it is planted, also in the registry.
    redis.ask(&format!("-a {PASSWORD} --no-auth-warning SET planted {unused}")).await;
    let mut planted = Places::default();
    planted.text("the registry", everything_in(&redis).await);
    for (what, shown) in secrets.all() {
        planted.text(what, format!("GET /x?y={} HTTP/1.1", String::from_utf8_lossy(shown)));
    }
    planted.text("a token", format!("token={alice} "));
    let found = planted.search(&secrets);
    for (what, _) in secrets.all() {
        assert!(found.contains(&format!("{what} is in {what}")), "{what}: {found:#?}");
    }
    assert!(found.contains(&"a ticket that waits is in the registry".to_owned()), "{found:#?}");
    assert!(planted.tokens().contains(&"a token"));
}

fn run_device(state: &EnrolledDevice, web: &str, local: &str) -> Process {
    let file = state.state().join("client.toml");
    std::fs::write(&file, format!("local_api = \"{local}\"\n")).unwrap();
    let mut command = Command::new(client_program());
    command.args(["--log-level", "trace", "run", "--config"]).arg(file);
    command.arg("--service").arg(format!("web={web}")).arg("--state").arg(state.state());
    Process::start("cam-01", command)
}

async fn sign_in(browser: &mut Browser, cloud: &Cloud, provider: &Provider) {
    let page = browser.visit(&cloud.user().url("/login/idp")).await.expect(303);
    let asked = page.location().unwrap();
    let parameter = |name| Page::parameter(&asked, name).unwrap();
    let mut body = provider.body("alice");
    body["aud"] = json!("web");
    body["nonce"] = json!(parameter("nonce"));
    let answer = json!({"id_token": provider.sign(&body), "access_token": "x", "token_type": "Bearer"});
    provider.will_redeem("code-1", &parameter("code_challenge"), &parameter("redirect_uri"), answer);
    let mut back = Url::parse(&parameter("redirect_uri")).unwrap();
    back.query_pairs_mut()
        .append_pair("code", "code-1")
        .append_pair("state", &parameter("state"))
        .append_pair("iss", &provider.issuer());
    browser.open(back.as_str()).await.expect(200);
}

/// Opens a WebSocket: the status, and what was said with a refusal.
async fn open(cloud: &Cloud, path: &str) -> (u16, String) {
    let door = cloud.user();
    let request = door.url(path).replacen("https", "wss", 1).into_client_request().unwrap();
    match client_async(request, door.connect().await).await {
        Ok(_) => (101, String::new()),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            (response.status().as_u16(), format!("{:?}{body}", response.headers()))
        }
        Err(other) => panic!("{path}: {other}"),
    }
}

/// Every key of a Redis server with what it holds.
async fn everything_in(redis: &Redis) -> String {
    let ask =
        async |words: String| redis.ask(&format!("-a {PASSWORD} --no-auth-warning --raw {words}")).await;
    let mut all = String::new();
    for key in ask("KEYS *".into()).await.lines() {
        let read = match ask(format!("TYPE {key}")).await.as_str() {
            "string" => format!("GET {key}"),
            "hash" => format!("HGETALL {key}"),
            "list" => format!("LRANGE {key} 0 -1"),
            "set" => format!("SMEMBERS {key}"),
            "zset" => format!("ZRANGE {key} 0 -1 WITHSCORES"),
            "stream" => format!("XRANGE {key} - +"),
            // It ended between the two questions.
            "none" => continue,
            other => panic!("{key} is a {other}"),
        };
        all += &format!("{key}\n{}\n", ask(read).await);
    }
    all
}

const HOST: &str = "cam-01.devices.example";
const LOGIN: &str = "__Host-tcpmux";
const VISIT: &str = "__Host-tcpmux-visit";
const PASSWORD: &str = "canary-registry-9d2c11e47a";
