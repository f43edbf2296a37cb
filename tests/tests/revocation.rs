//! Revocation: the receipt tells the truth, live streams end within a second, and nothing comes back.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{Service, eventually, eventually_within};
use tokio::time::{Instant, timeout};

use crate::stage::Stage;

#[tokio::test]
async fn a_revoked_device_loses_twenty_live_streams_within_a_second_and_never_comes_back() {
    let service = endless().await;
    let mut stage = Stage::set(&[("web", service.url("http"))]).await;
    let mut live = vec![];
    for _ in 0..20 {
        let mut answer = stage.get("/web/events").send().await.expect(200).await;
        answer.next().await.unwrap().unwrap();
        live.push(answer);
    }
    let record = stage.cloud.device_record("cam-01").await;
    let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap().to_owned();
    let url = stage.cloud.admin().url(&format!("/admin/api/certificates/{fingerprint}/revoke"));
    let root = stage.cloud.root().display().to_string();
    let key = format!("Authorization: PROV-ADMIN {}", stage.cloud.key());
    let words = [
        "-sS",
        "-f",
        "--cacert",
        &root,
        "-H",
        &key,
        "-H",
        "content-type: application/json",
        "-d",
        r#"{"reason":"keyCompromise"}"#,
        &url,
    ];
    let began = Instant::now();
    let receipt: Value = serde_json::from_str(&tests::run_ok("curl", words, b"").await).unwrap();
    assert_eq!(
        (&receipt["nodes"], &receipt["nodes_acked"], &receipt["tunnels_closed"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(receipt["ms"].as_u64().unwrap() < 1000 && receipt["seq"].as_u64().unwrap() > 0, "{receipt}");
    for mut answer in live {
        let ended = timeout(Duration::from_secs(1), answer.next()).await.expect("each stream ends");
        assert!(ended.is_none_or(|piece| piece.is_err()), "cut, not continued");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "curl and all: {:?}", began.elapsed());
    let offline = stage.get("/web/events").send().await.problem().await;
    assert!(["503 TMX-3001", "403 TMX-4030"].contains(&&*offline), "{offline}");

    let record = stage
        .cloud
        .administer(Method::GET, &format!("/admin/api/certificates/{fingerprint}"), Value::Null)
        .await;
    assert_eq!(record["status"], "revoked", "{record}");
    // The daemon tries and tries; so does a thief with a copy, at the tunnel and at renewal.
    let attempts = |log: String| log.matches("refused").count() + log.matches("revoked").count();
    eventually("the daemon is told no", || async {
        let log = stage.device.log();
        if attempts(log.clone()) > 0 { Ok(()) } else { Err(log) }
    })
    .await;
    let door = stage.cloud.device().showing(&stage.device.identity());
    let renewal = door
        .post("/.well-known/est/simplereenroll")
        .header("content-type", "application/pkcs10")
        .body("AAAA");
    assert!(renewal.try_send().await.is_ok_and(|answer| answer.status == 401));
    assert!(!stage.cloud.device_record("cam-01").await["online"].as_bool().unwrap());
    stage.device.kill();
    stage.cloud.kill();
    stage.cloud.start_again().await;
    stage.device.start_again();
    let before = attempts(stage.device.log());
    eventually("revoked also after a restart", || async {
        let log = stage.device.log();
        if attempts(log.clone()) > before { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(!stage.cloud.device_record("cam-01").await["online"].as_bool().unwrap());
}

#[tokio::test]
async fn a_new_passcode_brings_a_revoked_device_back_under_a_new_key() {
    let service = endless().await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    let record = stage.cloud.device_record("cam-01").await;
    let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap();
    let revoked =
        stage.cloud.command(&format!("cert revoke {fingerprint} --reason keyCompromise -o json")).await;
    assert_eq!(revoked.code, 0, "{revoked:?}");
    drop(stage.device);
    let device = tests::Device::enrol_and_run(&stage.cloud, "cam-01", &[("web", service.url("http"))]).await;
    let again = stage.cloud.device_record(device.id()).await;
    assert_ne!(again["certificate"]["fingerprint"].as_str(), Some(fingerprint));
}

#[tokio::test]
async fn a_removed_device_is_gone_with_tunnel_certificate_and_grants() {
    let service = endless().await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    let mut live = stage.get("/web/events").send().await.expect(200).await;
    live.next().await.unwrap().unwrap();
    let removed = stage.cloud.command("device rm cam-01").await;
    assert_eq!(removed.code, 0, "{removed:?}");
    let ended = timeout(Duration::from_secs(1), async { while let Some(Ok(_)) = live.next().await {} }).await;
    assert!(ended.is_ok(), "the live stream ends");
    let admin = stage.cloud.admin();
    let gone = admin.get("/admin/api/devices/cam-01").admin(stage.cloud.key()).send().await;
    assert_eq!(gone.status, 404);
    let refused = stage.get("/web/events").send().await.problem().await;
    assert!(["403 TMX-4030", "503 TMX-3001"].contains(&&*refused), "{refused}");
}

#[tokio::test]
async fn a_changed_grant_ends_live_streams_within_ten_seconds_and_holds_across_a_restart() {
    let provider = tests::Provider::start().await;
    let service = endless().await;
    let mut stage =
        Stage::on(tests::Cloud::with_provider(&provider).await, &[("web", service.url("http"))]).await;
    let alice = provider.token("alice");
    let id = stage.cloud.user_id(&alice).await;
    stage.cloud.grant("cam-01", &id, json!({"level": "operator"})).await;
    let token = stage.cloud.user_token(&alice).await;
    let user = stage.cloud.user();
    let mut live = user.get("/d/cam-01/web/events").bearer(&token).send().await.expect(200).await;
    live.next().await.unwrap().unwrap();
    let grant = format!("/admin/api/devices/cam-01/grants/{id}");
    stage.cloud.administer(Method::DELETE, &grant, Value::Null).await;
    // New requests know within a second.
    eventually_within(Duration::from_secs(1), "the grant is gone", || async {
        let problem = user.get("/d/cam-01/web/events").bearer(&token).send().await.problem().await;
        if problem == "403 TMX-4030" { Ok(()) } else { Err(problem) }
    })
    .await;
    let cut = timeout(Duration::from_secs(10), async {
        loop {
            match live.next().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break true,
                None => break false,
            }
        }
    });
    assert_eq!(cut.await, Ok(true), "the live stream is cut, not ended as if complete");
    stage.cloud.kill();
    stage.cloud.start_again().await;
    stage.cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    let user = stage.cloud.user();
    let problem = user.get("/d/cam-01/web/events").bearer(&token).send().await.problem().await;
    assert_eq!(problem, "403 TMX-4030", "the old token, after a restart");
}

async fn endless() -> Service {
    Service::start(|mut conversation| async move {
        if conversation.request().await.is_some() {
            conversation.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            conversation.until_gone().await;
        }
    })
    .await
}
