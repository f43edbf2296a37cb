//! The self-check: the main path, step by step, from outside, through the real doors.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;

use super::{services, stage::Stage};

/// Walks the path. `to_the_end` also revokes a device, which a demo to play with should not.
pub(super) async fn walk(stage: &Stage, to_the_end: bool) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut steps = 0;
    let mut step = |what: &str, said: String| {
        steps += 1;
        stage.ok(what, &said);
    };

    let (alice, bob) = people(stage).await?;
    step("people", "alice and bob signed in; neither may anything yet".into());

    for device in ["cam-01", "gate-02", "pi-03"] {
        claim(stage, &alice, device).await?;
    }
    step("claim", "alice read three codes off the devices: she owns them, and the codes are gone".into());

    let heard = share(stage, &alice, &bob).await?;
    step(
        "share",
        format!("cam-01 with bob, to look at; alice heard of it live, {} ms later", heard.as_millis()),
    );

    telemetry(stage, &alice).await?;
    step("telemetry", "a program on cam-01 left a temperature; alice reads it in the history".into());

    let token = proxy_token(stage, &alice).await?;
    step("token", "alice's identity became a token for the proxy".into());

    let answer = stage.user(Method::GET, "/d/cam-01/web/api/status", Some(&token), "").await?;
    ensure!(answer.status() == StatusCode::OK, "GET through the tunnel: {}", answer.status());
    let body: Value = serde_json::from_slice(answer.body())?;
    ensure!(body["device"] == "cam-01", "another device answered: {body}");
    step("request", "GET /d/cam-01/web/api/status: 200 from the device".into());

    let upload = vec![0x5a; 1024 * 1024];
    let answer = stage.user(Method::POST, "/d/gate-02/web/api/echo", Some(&token), upload.clone()).await;
    // The small client reads 256 KiB at most; a megabyte is answered in full, or not at all.
    ensure!(answer.is_err(), "an answer over the client's bound was accepted");
    let answer =
        stage.user(Method::POST, "/d/gate-02/web/api/echo", Some(&token), upload[..200_000].to_vec()).await?;
    ensure!(answer.body() == &upload[..200_000], "the body came back changed");
    step("upload", "POST of 200 kB: came back byte for byte".into());

    refusals(stage, &token).await?;
    step("refusals", "no token 401, no grant 403, only a look 403, no such service 404".into());

    let first = first_event(stage, &token).await?;
    step("events", format!("the first server-sent event after {} ms", first.as_millis()));

    tcp(stage, &token).await?;
    step("tcp", "pi-03 shell: spoke first, then said everything back".into());

    if to_the_end {
        let (tunnels, milliseconds) = revoke(stage, &token).await?;
        step(
            "revocation",
            format!("gate-02 revoked: {tunnels} tunnel closed in {milliseconds} ms, then 503"),
        );
    }
    stage.ok("self-check", &format!("{steps}/{steps} in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Signs alice and bob in. Gives alice's identity token, and bob's id.
async fn people(stage: &Stage) -> anyhow::Result<(String, String)> {
    let alice = stage.provider.token("alice")?;
    signed_in(stage, &alice).await?;
    let bob = signed_in(stage, &stage.provider.token("bob")?).await?;
    Ok((alice, bob))
}

/// A person's first call makes the user; the user's id.
async fn signed_in(stage: &Stage, identity: &str) -> anyhow::Result<String> {
    let me = stage.user(Method::GET, "/v1/me", Some(identity), "").await?;
    ensure!(me.status() == StatusCode::OK, "/v1/me: {}", me.status());
    let me: Value = serde_json::from_slice(me.body())?;
    Ok(me["id"].as_str().context("/v1/me has no id")?.to_owned())
}

/// Reads the code that a device shows, as its owner to be would, and claims the device with it.
async fn claim(stage: &Stage, identity: &str, device: &str) -> anyhow::Result<()> {
    let file = stage.claim_code(device);
    let without = format!("{device} shows no claim code");
    let code = until_there(&without, || std::fs::read_to_string(&file).ok());
    let body = json!({"code": code.await?.trim()}).to_string();
    let answer = stage.user(Method::POST, "/v1/claims", Some(identity), body.clone()).await?;
    let said = String::from_utf8_lossy(answer.body()).into_owned();
    ensure!(answer.status() == StatusCode::CREATED, "claiming {device}: {} {said}", answer.status());
    let again = stage.user(Method::POST, "/v1/claims", Some(identity), body).await?;
    ensure!(again.status() != StatusCode::CREATED, "the code of {device} served twice");
    until_there(&format!("{device} still shows its code"), || (!file.exists()).then_some(())).await
}

/// Shares cam-01 with bob, and tells how long it took until alice heard of it.
async fn share(stage: &Stage, alice: &str, bob: &str) -> anyhow::Result<Duration> {
    let head = format!(
        "GET /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {alice}\r\naccept: text/event-stream\r\n\r\n"
    );
    let mut socket = user_door(stage).await?;
    socket.write_all(head.as_bytes()).await?;
    until(&mut socket, b"200 OK").await?;
    let start = Instant::now();
    let path = format!("/v1/devices/cam-01/grants/{bob}");
    let shared = stage.user(Method::PUT, &path, Some(alice), r#"{"level":"viewer"}"#).await?;
    ensure!(shared.status().is_success(), "sharing cam-01: {}", shared.status());
    until(&mut socket, b"grant.changed").await?;
    Ok(start.elapsed())
}

/// A program on cam-01 leaves a measurement with the daemon; it comes to stand in the history.
async fn telemetry(stage: &Stage, alice: &str) -> anyhow::Result<()> {
    let address = stage.local_api()?;
    let body = r#"{"data":{"temperature":21.5}}"#;
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "POST /v1/telemetry HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await?;
    until(&mut socket, b"202 Accepted").await?;
    let look = async {
        loop {
            let path = "/v1/devices/cam-01/history?type=telemetry";
            let history = stage.user(Method::GET, path, Some(alice), "").await?;
            if String::from_utf8_lossy(history.body()).contains("21.5") {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.context("the telemetry did not come to the history")?
}

/// Looks again and again until something is there.
async fn until_there<T>(missing: &str, look: impl Fn() -> Option<T>) -> anyhow::Result<T> {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.with_context(|| missing.to_owned())
}

async fn proxy_token(stage: &Stage, identity: &str) -> anyhow::Result<String> {
    let answer = stage.user(Method::POST, "/v1/token", Some(identity), "{}").await?;
    ensure!(answer.status() == StatusCode::OK, "/v1/token: {}", answer.status());
    let answer: Value = serde_json::from_slice(answer.body())?;
    Ok(answer["token"].as_str().context("/v1/token gave no token")?.to_owned())
}

async fn refusals(stage: &Stage, token: &str) -> anyhow::Result<()> {
    let nobody = stage.user(Method::GET, "/d/cam-01/web/", None, "").await?;
    ensure!(nobody.status() == StatusCode::UNAUTHORIZED, "without a token: {}", nobody.status());
    let bob = proxy_token(stage, &stage.provider.token("bob")?).await?;
    let looker = stage.user(Method::POST, "/d/cam-01/web/api/echo", Some(&bob), "x").await?;
    ensure!(looker.status() == StatusCode::FORBIDDEN, "a viewer who posts: {}", looker.status());
    let stranger = stage.user(Method::GET, "/d/gate-02/web/", Some(&bob), "").await?;
    ensure!(stranger.status() == StatusCode::FORBIDDEN, "without a grant: {}", stranger.status());
    let missing = stage.user(Method::GET, "/d/cam-01/nothing/", Some(token), "").await?;
    ensure!(missing.status() == StatusCode::NOT_FOUND, "a service that is not there: {}", missing.status());
    Ok(())
}

/// Asks for the clock's events and tells how long the first one took.
async fn first_event(stage: &Stage, token: &str) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let head = format!(
        "GET /d/cam-01/web/api/clock HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n"
    );
    let mut socket = user_door(stage).await?;
    socket.write_all(head.as_bytes()).await?;
    until(&mut socket, b"data: tick 0").await?;
    Ok(start.elapsed())
}

/// Speaks with pi-03's TCP service by WebSocket, as `tcpmux connect` does.
async fn tcp(stage: &Stage, token: &str) -> anyhow::Result<()> {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
    let socket = user_door(stage).await?;
    let mut request = "wss://localhost/v1/devices/pi-03/streams/shell".into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    request.headers_mut().insert("sec-websocket-protocol", "tcpmux.stream.v1".parse()?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, socket).await?;
    let mut heard = vec![];
    let sent = b"and back again\n";
    let wanted = [services::GREETING.as_bytes(), sent].concat();
    socket.send(Message::Binary(bytes::Bytes::from_static(sent))).await?;
    while heard.len() < wanted.len() {
        let message = socket.next().await.context("the stream ended early")??;
        if let Message::Binary(bytes) = message {
            heard.extend_from_slice(&bytes);
        }
    }
    ensure!(heard == wanted, "the TCP service said {:?}", String::from_utf8_lossy(&heard));
    Ok(())
}

async fn revoke(stage: &Stage, token: &str) -> anyhow::Result<(u64, u64)> {
    let device = stage.admin(Method::GET, "/admin/api/devices/gate-02", Value::Null).await?;
    let fingerprint = device["certificate"]["fingerprint"].as_str().context("gate-02 has no certificate")?;
    let path = format!("/admin/api/certificates/{fingerprint}/revoke");
    let receipt = stage.admin(Method::POST, &path, json!({"reason": "keyCompromise"})).await?;
    let tunnels = receipt["tunnels_closed"].as_u64().unwrap_or(0);
    ensure!(tunnels == 1, "the receipt says {receipt}");
    let after = stage.user(Method::GET, "/d/gate-02/web/", Some(token), "").await?;
    ensure!(after.status() == StatusCode::SERVICE_UNAVAILABLE, "after revocation: {}", after.status());
    Ok((tunnels, receipt["ms"].as_u64().unwrap_or(0)))
}

async fn user_door(stage: &Stage) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(stage.root())? {
        roots.add(root?)?;
    }
    let config = ClientConfig::builder_with_provider(runtime::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = stage.house.listening().user.context("there is no user door")?;
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, socket).await?)
}

async fn until(socket: &mut (impl AsyncReadExt + Unpin), wanted: &[u8]) -> anyhow::Result<()> {
    let mut heard = vec![];
    let reading = async {
        while !heard.windows(wanted.len()).any(|window| window == wanted) {
            let mut some = [0; 4096];
            let count = socket.read(&mut some).await?;
            ensure!(count > 0 && heard.len() < 65_536, "never came: {:?}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&some[..count]);
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.context("no event in ten seconds")?
}

const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(15);
