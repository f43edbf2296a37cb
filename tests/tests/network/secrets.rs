//! Secrets in places where they must not be: logs at their most talkative, metrics, errors, the database,
//! the process table.

use std::{path::Path, process::Command, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Finished, Process, Provider, Service, client_program, eventually, run};

use super::canaries::{Places, Secrets};

#[tokio::test]
async fn no_secret_is_in_a_log_a_metric_an_error_the_database_or_the_process_table() {
    let provider = Provider::start().await;
    let mut cloud = Cloud::plan().provider(&provider).log_level("trace").start().await;
    let mirror = Service::mirror().await;
    let mut secrets = Secrets::default();
    let mut places = Places::default();
    secrets.text("the admin key", cloud.key());
    for file in ["authorizer.key", "ca/root.key", "ca/devices.key", "ca/services.key"] {
        secrets.key_file(file, &cloud.data().join(file));
    }

    // A device comes into being, at the most talkative level.
    let [redeemed, unused] = [cloud.passcode("cam-01").await, cloud.passcode("cam-02").await];
    secrets.passcode("a redeemed passcode", "cam-01", &redeemed);
    secrets.passcode("an unused passcode", "cam-02", &unused);
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let text = format!(
        "tcpmux://{}/?ca={}&otp={redeemed}&device=cam-01",
        cloud.device_address(),
        cloud.fingerprint()
    );
    let enrolled = enroll(&text, &state).await;
    assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
    places.command("enrolling", &enrolled);
    places.command("enrolling again", &enroll(&text, &directory.path().join("other")).await);
    secrets.key_file("the device's key", &state.join("current/key.pem"));
    let device = run_device(&state, &mirror.url("http"));
    cloud.until_online("cam-01", true, Duration::from_secs(30)).await;

    // People and tokens, right and wrong.
    let alice = provider.token("alice");
    secrets.token("a provider's token", &alice);
    let id = cloud.user_id(&alice).await;
    cloud.grant("cam-01", &id, json!({"level": "operator"})).await;
    let (minted, by_admin) = (cloud.user_token(&alice).await, cloud.token("cam-01", "operator").await);
    secrets.token("a proxy token", &minted);
    secrets.token("a proxy token of the admin", &by_admin);
    let strange = tests::Signer::new("k").sign("at+jwt", &json!({"iss": "https://x.example", "sub": "x"}));
    secrets.token("a stranger's token", &strange);
    for (what, canary) in
        [("a cookie", COOKIE), ("a query", QUERY), ("a body", BODY), ("a device's own", OWN)]
    {
        secrets.text(what, canary);
    }
    let path = format!("/d/cam-01/web/login?key={QUERY}");
    for door in [minted.as_str(), by_admin.as_str()] {
        let call = cloud.user().post(&path).bearer(door).header("cookie", format!("session={COOKIE}"));
        let call = call.header("x-device-authorization", format!("Basic {OWN}")).body(BODY);
        let answer = call.send().await.expect(200).await.text().await;
        // The device has to see what is meant for it, and nothing of the caller's token.
        assert!([COOKIE, QUERY, BODY, OWN].iter().all(|canary| answer.contains(canary)), "{answer}");
        assert!(!answer.contains(door), "{answer}");
        let http2 = cloud.user().get(&path).bearer(door).http2().header("cookie", COOKIE);
        http2.send().await.expect(200).await;
    }

    // Every door says no to what was shown at the wrong place.
    let wrong = format!("{}0", &unused[..32]);
    secrets.passcode("a mistyped passcode", "cam-02", &wrong);
    let (user, device_door, admin) = (cloud.user(), cloud.device(), cloud.admin());
    let refusals = [
        user.get(&path).bearer(&strange),
        user.get(&path).bearer(&alice),
        user.get(&path).bearer(cloud.key()),
        user.get(&path).bearer(&unused),
        user.get("/v1/me").bearer(&minted),
        user.get("/v1/me").bearer(&format!("{alice}x")),
        user.get(&format!("/d/cam-02/web/?key={QUERY}")).bearer(&minted),
        user.get(&format!("/nowhere?key={QUERY}&token={by_admin}")),
        admin.get("/admin/api/devices").bearer(&minted),
        admin.get("/admin/api/devices").admin(&unused),
        admin.get(&format!("/admin/api/devices?key={QUERY}&cursor={minted}")).admin(cloud.key()),
        admin.get(&format!("/admin/api/devices?authorization={minted}")),
        est(&device_door, "cam-02", &wrong),
        est(&device_door, "cam-01", &unused),
        est(&device_door, cloud.key(), &minted),
        device_door.get("/.well-known/est/cacerts").bearer(&by_admin),
    ];
    for (number, call) in refusals.into_iter().enumerate() {
        let answer = call.send().await;
        let (status, head) = (answer.status, format!("{:?}", answer.headers));
        places.text(&format!("refusal {number}, {status}"), head + &answer.text().await);
    }
    // A device that shows its certificate, is taken back, and comes again in vain.
    let record = cloud.device_record("cam-01").await;
    places.text("the device's record", record.to_string());
    for page in ["devices", "certificates", "otps", "audit", "tenants", "ca"] {
        let listed = cloud.administer(Method::GET, &format!("/admin/api/{page}"), Value::Null).await;
        places.text(page, listed.to_string());
    }
    places.text("the metrics", admin.get("/metrics").send().await.text().await);
    places.process("the cloud", cloud.process());
    places.process("the daemon", &device);
    let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap();
    let revoke = format!("/admin/api/certificates/{fingerprint}/revoke");
    cloud.administer(Method::POST, &revoke, json!({"reason": "keyCompromise"})).await;
    cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    places.text("the daemon's log", device.log());
    assert_eq!(cloud.stop().await, 0);
    cloud.start_again().await;
    cloud.kill();
    places.text("the cloud's log", cloud.log());
    // In the write-ahead log of a killed process are pages that the file does not have.
    for file in ["tcpmux.db", "tcpmux.db-wal", "tcpmux.db-shm"] {
        places.file(file, &cloud.data().join(file));
    }
    for file in ["proven_time", "server"] {
        places.file(file, &state.join(file));
    }
    assert!(places.size() > 100_000, "the logs at this level are long: {}", places.size());
    assert!(
        places.says("the cloud's log", "device connected")
            && places.says("the cloud's log", "/d/cam-01/web/login")
    );
    let found = places.search(&secrets);
    assert!(found.is_empty(), "{found:#?}");

    // Controls: what is planted is found, in each kind of place and each form.
    let mut planted = Places::default();
    planted.text("a log", format!("Authorization: Bearer {minted}"));
    planted.text("a basic login", BASE64_STANDARD.encode(format!("cam-02:{unused}")));
    let file = directory.path().join("planted");
    std::fs::write(&file, [b"\0\0page".to_vec(), secrets.raw("an unused passcode")].concat()).unwrap();
    planted.file("a database", &file);
    let mut sleeper = Command::new("sleep");
    sleeper.arg("60").env("PLANTED", cloud.key());
    let sleeper = Process::start("sleeper", sleeper);
    let environment = format!("/proc/{}/environ", sleeper.id());
    // A process that has only just become another program has no environment yet.
    eventually("the sleeper has its environment", || async {
        let bytes = std::fs::read(&environment).unwrap_or_default();
        if bytes.is_empty() { Err("empty") } else { Ok(()) }
    })
    .await;
    planted.process("a process", &sleeper);
    let found = planted.search(&secrets);
    for place in ["a log", "a basic login", "a database", "a process"] {
        assert!(found.iter().any(|line| line.ends_with(place)), "{place}: {found:#?}");
    }
}

async fn enroll(text: &str, state: &Path) -> Finished {
    let state = state.display().to_string();
    run(client_program(), ["--log-level", "trace", "enroll", "-", "--state", &state], text.as_bytes()).await
}

fn run_device(state: &Path, web: &str) -> Process {
    let mut command = Command::new(client_program());
    command.args(["--log-level", "trace", "run", "--no-local-api", "--service"]);
    command.arg(format!("web={web}")).arg("--state").arg(state);
    Process::start("cam-01", command)
}

/// An enrolment that will be refused.
fn est(door: &tests::Door, user: &str, password: &str) -> tests::Call {
    let call = door.post("/.well-known/est/simpleenroll").basic(user, password);
    call.header("content-type", "application/pkcs10").body("AAAA")
}

const COOKIE: &str = "canary-cookie-5d1f8a6be3";
const QUERY: &str = "canary-query-83b1c07d2a";
const BODY: &str = "canary-body-1c9e44f07b";
const OWN: &str = "canary-own-login-7fe20c91";
