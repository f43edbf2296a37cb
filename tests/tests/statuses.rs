//! The status table: each fault is made to happen, and the caller is told which hop failed and why.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{Answer, Cloud, Device, Provider, Service, eventually, now, web};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::stage::Stage;

#[tokio::test]
async fn no_token_and_tokens_of_others_are_401_with_the_reason() {
    let provider = Provider::start().await;
    let cloud = Cloud::with_provider(&provider).await;
    let web = web().await;
    let stage = Stage::on(cloud, &[("web", web.url("http"))]).await;
    let user = stage.cloud.user();
    let bare = user.get("/d/cam-01/web/method").send().await;
    assert!(bare.header("www-authenticate").starts_with("Bearer"), "{:?}", bare.headers);
    assert_problem(bare, 401, "TMX-4001").await;
    // A provider's token is for another audience; and one whose key nobody knows.
    for (token, codes) in [
        (provider.token("alice"), &["TMX-4003", "TMX-4004"][..]),
        (
            tests::Signer::new("k")
                .sign("at+jwt", &json!({"iss": "https://nobody.example", "exp": now() + 60})),
            &["TMX-4004"],
        ),
        ("not.a.token".into(), &["TMX-4004", "TMX-4000", "TMX-4003"]),
    ] {
        let refused = user.get("/d/cam-01/web/method").bearer(&token).send().await;
        assert!(refused.header("www-authenticate").contains("error="), "{:?}", refused.headers);
        let problem = refused.problem().await;
        assert!(
            codes.iter().any(|code| problem == format!("401 {code}")),
            "{problem}, expected one of {codes:?}"
        );
    }
    let expired = stage
        .cloud
        .administer(Method::POST, "/admin/api/tokens", json!({"device": "cam-01", "ttl": "1s"}))
        .await;
    let expired = expired["token"].as_str().unwrap();
    eventually("a token of one second ends", || async {
        let problem = user.get("/d/cam-01/web/method").bearer(expired).send().await.problem().await;
        if problem == "401 TMX-4002" { Ok(()) } else { Err(problem) }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_granted_is_403_and_no_device_looks_like_another() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http")), ("other", web.url("http"))]).await;
    let user = stage.cloud.user();
    let _second = Device::enrol_and_run(&stage.cloud, "cam-02", &[("web", web.url("http"))]).await;
    for device in ["cam-02", "no-such-device"] {
        let refused = user.get(&format!("/d/{device}/web/method")).bearer(&stage.token).send().await;
        assert_problem(refused, 403, "TMX-4030").await;
        let refused = user.get(&format!("/v1/devices/{device}/streams/web")).bearer(&stage.token);
        assert!(["403 TMX-4030", "426 TMX-4000"].contains(&&*refused.send().await.problem().await));
    }
    let viewer = stage.cloud.token("cam-01", "viewer").await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let refused = user.call(method, "/d/cam-01/web/method").bearer(&viewer).send().await;
        assert_problem(refused, 403, "TMX-4031").await;
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        user.call(method, "/d/cam-01/web/method").bearer(&viewer).send().await.expect(200).await;
    }
    assert_eq!(web.connections(), 3, "nothing that was refused came as far as the service");
}

#[tokio::test]
async fn what_is_ambiguous_too_large_or_for_another_host_is_4xx() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    let underscore = stage.get("/web/method").header("x_forwarded_for", "1.2.3.4").send().await;
    assert_problem(underscore, 400, "TMX-4000").await;
    let elsewhere = stage.get("/web/method").header("host", "cloud.example.org").send().await;
    assert_problem(elsewhere, 421, "TMX-4021").await;
    let heavy = stage.get("/web/method").header("x-much", "x".repeat(70_000)).send().await;
    assert_problem(heavy, 431, "TMX-4043").await;
    let heavier = stage.get("/web/method").header("x-much", "x".repeat(400_000)).try_send().await;
    assert!(
        heavier.is_err() || heavier.is_ok_and(|answer| answer.status == 431),
        "far too much is not even read"
    );
    let big = stage
        .cloud
        .admin()
        .post("/admin/api/otp")
        .admin(stage.cloud.key())
        .header("content-type", "application/json");
    let big = big.body(format!("{{\"device\":\"{}\"}}", "x".repeat(100_000))).send().await;
    assert_problem(big, 413, "TMX-4013").await;
}

#[tokio::test]
async fn a_device_that_is_not_connected_is_503_until_it_is() {
    let web = web().await;
    let mut stage = Stage::set(&[("web", web.url("http"))]).await;
    stage.device.kill();
    stage.cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    let offline = stage.get("/web/method").send().await;
    assert!(
        offline.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "{:?}",
        offline.headers
    );
    assert_problem(offline, 503, "TMX-3001").await;
    stage.device.start_again();
    stage.cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    stage.get("/web/method").send().await.expect(200).await;
}

#[tokio::test]
async fn a_tunnel_that_is_lost_before_the_answer_is_502() {
    let silent = Service::start(|mut conversation| async move {
        conversation.request().await;
        conversation.until_gone().await;
    })
    .await;
    let mut stage = Stage::set(&[("web", silent.url("http"))]).await;
    let call = stage.get("/web/wait").send();
    let kill = async {
        eventually("the request is at the service", || async {
            if silent.seen().is_empty() { Err(()) } else { Ok(()) }
        })
        .await;
        tests::run_ok("kill", ["-KILL", &stage.device.process_id().to_string()], b"").await;
    };
    let (answer, ()) = tokio::join!(call, kill);
    assert_problem(answer, 502, "TMX-3002").await;
    stage.device.kill();
}

#[tokio::test]
async fn services_that_are_unknown_refuse_or_speak_no_http_are_told_apart() {
    let closed = {
        let gone = Service::echo().await;
        gone.url("http")
    };
    let garbage = Service::answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let mute = Service::answering("").await;
    let stage =
        Stage::set(&[("closed", closed), ("garbage", garbage.url("http")), ("mute", mute.url("http"))]).await;
    assert_problem(stage.get("/unknown/").send().await, 404, "TMX-3003").await;
    for service in ["closed", "garbage", "mute"] {
        assert_problem(stage.get(&format!("/{service}/")).send().await, 502, "TMX-3004").await;
    }
    assert_problem(stage.get("/tcpmux.agent/").send().await, 400, "TMX-4000").await;
}

#[tokio::test]
async fn a_device_that_does_not_open_the_stream_in_time_is_504() {
    let web = web().await;
    let mut stage = Stage::set(&[("web", web.url("http"))]).await;
    stage.device.process().signal("STOP");
    let answer =
        timeout(Duration::from_secs(9), stage.get("/web/method").send()).await.expect("five seconds or so");
    assert_problem(answer, 504, "TMX-3005").await;
    stage.device.process().signal("CONT");
    eventually("the device goes on", || async {
        let answer = stage.get("/web/method").send().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.problem().await) }
    })
    .await;
}

#[tokio::test]
async fn too_many_streams_on_one_device_are_503_and_spare_its_neighbour() {
    let endless = Service::start(|mut conversation| async move {
        conversation.request().await;
        conversation.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
        conversation.until_gone().await;
    })
    .await;
    let stage = Stage::set(&[("web", endless.url("http"))]).await;
    let neighbour = Device::enrol_and_run(&stage.cloud, "cam-02", &[("web", endless.url("http"))]).await;
    let mut held = vec![];
    let mut connections = vec![];
    let refused = loop {
        // A connection has room for a hundred; a viewer that asks for more opens another.
        if held.len() % 90 == 0 {
            connections.push(stage.cloud.user().multiplexed().await);
        }
        let answer = stage.get("/web/events").send_on(connections.last_mut().unwrap()).await;
        if answer.status != 200 {
            break answer;
        }
        held.push(answer);
        assert!(held.len() <= 600, "512 a session");
    };
    assert_eq!(held.len(), 512);
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert_problem(refused, 503, "TMX-3006").await;
    let token = stage.cloud.token(neighbour.id(), "viewer").await;
    stage.cloud.user().get("/d/cam-02/web/events").bearer(&token).send().await.expect(200).await;
    drop((held, connections));
    eventually("ended streams make room", || async {
        let answer = stage.get("/web/events").send().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.problem().await) }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_goes_away_says_so_to_who_still_asks() {
    let endless = Service::start(|mut conversation| async move {
        conversation.request().await;
        conversation.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
        conversation.until_gone().await;
    })
    .await;
    let cloud = Cloud::plan().config("[drain]\ngrace = \"3s\"").start().await;
    let mut stage = Stage::on(cloud, &[("web", endless.url("http"))]).await;
    let live = stage.get("/web/events").send().await.expect(200).await;
    let mut waiting = stage.cloud.user().connect().await;
    let head = stage.head("GET /d/cam-01/web/events", "Connection: close\r\n");
    let (beginning, end) = head.split_at(head.len() - 2);
    waiting.write_all(beginning.as_bytes()).await.unwrap();
    // The door has this much of the request when it has read it; a whole exchange later it surely has.
    stage.get("/web/events").send().await.expect(200).await;
    stage.cloud.process().signal("TERM");
    eventually("draining begins", || async {
        let log = stage.cloud.log();
        if log.contains("draining") { Ok(()) } else { Err(log) }
    })
    .await;
    waiting.write_all(end.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = timeout(Duration::from_secs(10), waiting.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("TMX-3010"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("retry-after:"), "{answer}");
    assert_eq!(stage.cloud.process().exit_code(Duration::from_secs(10)).await, 0);
    assert!(live.bytes().await.is_err(), "what outlived the grace period is cut, not ended");
}

#[tokio::test]
async fn a_mistake_in_the_address_is_told_apart_from_a_missing_grant() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    let user = stage.cloud.user();
    for (path, status) in
        [("/d/cam-01", 404), ("/d/cam-01/", 404), ("/d/Cam-01/web/", 400), ("/d/cam--01/web/", 400)]
    {
        let answer = user.get(path).bearer(&stage.token).send().await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text().await);
    }
}

/// Asserts a problem document: status, code, a sentence, and whose error it is.
async fn assert_problem(answer: Answer, status: u16, code: &str) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{:?}", answer.status);
    let proxy_status = answer.header("proxy-status").to_owned();
    let retry = answer.header("retry-after").to_owned();
    let got = answer.status.as_u16();
    let value: Value = answer.json().await;
    assert_eq!((got, value["code"].as_str()), (status, Some(code)), "{value}");
    assert!(
        value["detail"].as_str().or(value["title"].as_str()).is_some_and(|text| text.len() > 10),
        "{value}"
    );
    if code.starts_with("TMX-3") {
        assert!(proxy_status.starts_with("tcpmux; error="), "{proxy_status}");
        assert!(status != 503 || !retry.is_empty(), "503 without Retry-After");
    }
}

#[tokio::test]
async fn a_no_to_the_head_of_a_call_is_heard_by_who_still_sends_its_body_and_the_connection_stays() {
    let cloud = Cloud::start().await;
    // More than the buffers on the way hold.
    let body = vec![b' '; 4 << 20];
    for (door, path) in [
        (cloud.user(), "/v1/claims"),
        (cloud.user(), "/d/cam-01/web/"),
        (cloud.admin(), "/admin/api/tenants"),
        (cloud.device(), "/.well-known/est/simpleenroll"),
        (cloud.device(), "/no-such-path"),
    ] {
        let mut stream = door.connect().await;
        let host = door.authority();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
        for call in 1..=2 {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let answer = one_answer(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}, call {call}: {answer}");
            let sent = async {
                stream.write_all(&body).await?;
                stream.flush().await
            };
            sent.await.unwrap_or_else(|error| panic!("{path}, call {call}: {error} after {answer}"));
        }
    }
}

/// The next answer on a connection, which goes on.
async fn one_answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = vec![];
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, said)) = text.split_once("\r\n\r\n") {
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length:").map(|length| length.trim().parse::<usize>().unwrap())
                });
                if said.len() >= length.unwrap_or(0) {
                    return text;
                }
            }
            if stream.read_buf(&mut answer).await.unwrap() == 0 {
                return text;
            }
        }
    };
    timeout(Duration::from_secs(10), reading).await.expect("an answer")
}
