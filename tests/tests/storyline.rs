//! One story from the first passcode to the last revocation, told with what an operator and a maker have at hand: the
//! two programs, curl and openssl.

use std::{path::Path, time::Duration};

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Device, Finished, Provider, eventually, run, run_ok, web};
use tokio::time::{Instant, timeout};

/// curl with this cloud's authority; what it says, and the status on a last line.
async fn curl(cloud: &Cloud, words: &[&str]) -> Finished {
    let root = cloud.root().display().to_string();
    let mut all = vec!["-sS", "--cacert", &root, "-w", "\n%{http_code}"];
    all.extend(words);
    run("curl", all, b"").await
}

fn status(finished: &Finished) -> &str {
    finished.stdout.lines().last().unwrap_or_default()
}

/// Enrols with curl and openssl alone; the certificate's file.
async fn enrol_by_hand(cloud: &Cloud, directory: &Path, device: &str, passcode: &str) -> (Finished, String) {
    let file = |name: &str| directory.join(name).display().to_string();
    let (key, csr, certificate) = (file("key.pem"), file("csr.der"), file("certificate.pem"));
    run_ok("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key], b"").await;
    let subject = format!("/CN={device}");
    let words = ["req", "-new", "-key", &key, "-subj", &subject, "-outform", "DER", "-out", &csr];
    run_ok("openssl", words, b"").await;
    let body = run_ok("openssl", ["base64", "-in", &csr], b"").await;
    let body_file = file("csr.b64");
    std::fs::write(&body_file, body).unwrap();
    let (user, data) = (format!("{device}:{passcode}"), format!("@{body_file}"));
    let url = cloud.device().url("/.well-known/est/simpleenroll");
    let enrolled = curl(
        cloud,
        &[
            "-u",
            &user,
            "-H",
            "Content-Type: application/pkcs10",
            "-H",
            "Accept: application/x-pem-file",
            "--data-binary",
            &data,
            "-o",
            &certificate,
            &url,
        ],
    )
    .await;
    (enrolled, certificate)
}

#[tokio::test]
async fn from_the_first_passcode_to_the_last_revocation() {
    let (provider, site) = (Provider::start().await, web().await);
    let config = provider.config().replace("tenant = \"default\"", "tenant_claim = \"org\"");
    let mut cloud = Cloud::plan().config(&config).start().await;
    let person = |subject: &str, org: &str| {
        let mut body = provider.body(subject);
        body["org"] = json!(org);
        provider.sign(&body)
    };

    // 2. A passcode with one curl.
    let key = format!("Authorization: PROV-ADMIN {}", cloud.key());
    let url = cloud.admin().url("/admin/api/otp?device=hand-01");
    let passcode = curl(&cloud, &["-H", &key, &url]).await;
    assert_eq!(status(&passcode), "200", "{passcode:?}");
    let passcode = passcode.stdout.lines().next().unwrap().to_owned();

    // 3. Enrolment with curl and openssl; the second use is refused.
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (enrolled, certificate) = enrol_by_hand(&cloud, first.path(), "hand-01", &passcode).await;
    assert_eq!(status(&enrolled), "200", "{enrolled:?}");
    let root = cloud.root().display().to_string();
    let devices = cloud.data().join("ca/devices.crt").display().to_string();
    let words = ["verify", "-CAfile", &root, "-untrusted", &devices, "-purpose", "sslclient", &certificate];
    assert!(run_ok("openssl", words, b"").await.contains("OK"));
    let (again, _) = enrol_by_hand(&cloud, second.path(), "hand-01", &passcode).await;
    assert!(matches!(status(&again), "401" | "403"), "{again:?}");

    // 4. The daemon connects.
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", site.url("http"))]).await;
    let services = cloud.device_record("cam-01").await["services"].clone();
    assert_eq!(services, json!(["web"]));

    // 5. A person gets at it: a page, a large upload, a token from the provider's.
    let (alice, bob) = (person("alice", "default"), person("bob", "default"));
    let (alice_id, bob_id) = (cloud.user_id(&alice).await, cloud.user_id(&bob).await);
    cloud.grant("cam-01", &alice_id, json!({"level": "owner"})).await;
    let token = cloud.user_token(&alice).await;
    let call = |method: Method, path: &str, token: &str| cloud.user().call(method, path).bearer(token);
    let page = call(Method::GET, "/d/cam-01/web/method", &token).send().await.expect(200).await;
    assert_eq!(page.header("x-method"), "GET");
    let counted = call(Method::POST, "/d/cam-01/web/count", &token).body(vec![7; 16 << 20]).send().await;
    assert_eq!(counted.expect(200).await.text().await, (16 << 20).to_string());

    // 6. Shared with another to look at; taken back: refused within a second, a live stream ends within ten.
    let share = format!("/v1/devices/cam-01/grants/{bob_id}");
    let shared = call(Method::PUT, &share, &alice).json(&json!({"level": "viewer"})).send().await;
    assert!(shared.status.is_success(), "{}", shared.text().await);
    let look = cloud.user_token(&bob).await;
    assert_eq!(call(Method::GET, "/d/cam-01/web/method", &look).send().await.status, 200);
    let post = call(Method::POST, "/d/cam-01/web/count", &look).body("x").send().await;
    assert_eq!(post.problem().await, "403 TMX-4031");
    let mut live = call(Method::GET, "/d/cam-01/web/chunks/1000000000", &look).send().await.expect(200).await;
    live.next().await.unwrap().unwrap();
    let began = Instant::now();
    let taken = call(Method::DELETE, &share, &alice).send().await;
    assert!(taken.status.is_success());
    let refused = call(Method::GET, "/d/cam-01/web/method", &look).send().await;
    assert_eq!(refused.problem().await, "403 TMX-4030");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let ended = timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = live.next().await {} });
    ended.await.expect("a live stream ends with the share");

    // 9. Another tenant tries everything against the first.
    assert_eq!(cloud.command("tenant new rival").await.code, 0);
    let mallory = person("mallory", "rival");
    cloud.user_id(&mallory).await;
    let others = cloud.user_token(&mallory).await;
    for (method, path) in [(Method::GET, "/d/cam-01/web/method"), (Method::POST, "/d/cam-01/web/count")] {
        assert_eq!(call(method, path, &others).send().await.problem().await, "403 TMX-4030");
    }
    let absent = call(Method::GET, "/v1/devices/no-such-device", &mallory).send().await;
    let foreign = call(Method::GET, "/v1/devices/cam-01", &mallory).send().await;
    assert_eq!((absent.status.as_u16(), foreign.status.as_u16()), (404, 404));
    assert_eq!(
        strip(&absent.text().await),
        strip(&foreign.text().await),
        "absent and foreign are one answer"
    );
    let grab = format!("/v1/devices/cam-01/grants/{bob_id}");
    let grabbed = call(Method::PUT, &grab, &mallory).json(&json!({"level": "owner"})).send().await;
    assert_eq!(grabbed.status, 404);
    let listed = call(Method::GET, "/v1/devices", &mallory).send().await.expect(200).await.json().await;
    assert_eq!(listed["items"], json!([]));

    // 11. kill -9: the device is back by itself, and nobody was falsely online in between.
    cloud.kill();
    cloud.start_again().await;
    let early = cloud.device_record("hand-01").await;
    assert_eq!(early["online"], false, "it never connected");
    cloud.until_online("cam-01", true, Duration::from_secs(30)).await;
    let call = |method: Method, path: &str, token: &str| cloud.user().call(method, path).bearer(token);
    let token = cloud.user_token(&alice).await;
    assert_eq!(call(Method::GET, "/d/cam-01/web/method", &token).send().await.status, 200);

    // 10. Revoked: the tunnel drops, requests get 503, no way back, and the serial is on the list.
    let record = cloud.device_record("cam-01").await;
    let text = |member: &str| record["certificate"][member].as_str().unwrap().to_owned();
    let path = format!("/admin/api/certificates/{}/revoke", text("fingerprint"));
    let receipt = cloud.administer(Method::POST, &path, json!({"reason": "keyCompromise"})).await;
    assert_eq!(receipt["tunnels_closed"], 1, "{receipt}");
    let gone = call(Method::GET, "/d/cam-01/web/method", &token).send().await;
    assert_eq!(gone.problem().await, "503 TMX-3001");
    let list = cloud.device().get("/crl/devices.crl").send().await.expect(200).await.bytes().await.unwrap();
    let list = run_ok("openssl", ["crl", "-inform", "DER", "-noout", "-text"], &list).await;
    assert!(list.contains(&text("serial").to_uppercase()), "{list}");
    eventually("the daemon was refused", || async {
        let log = device.log();
        if log.contains("revoked") || log.contains("refused") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(cloud.device_record("cam-01").await["online"], false);
    device.kill();

    // And all of it is on record.
    let checked = cloud.command("audit verify").await;
    assert_eq!(checked.code, 0, "{checked:?}");
}

/// A problem without what is of this request alone.
fn strip(text: &str) -> Value {
    let mut value: Value = serde_json::from_str(text).unwrap();
    let members = value.as_object_mut().unwrap();
    for own in ["instance", "request_id"] {
        members.remove(own);
    }
    value
}
