//! The status table of the contract, each line by making the fault happen.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt;
use model::DisconnectCause;
use tcpmux_proto::OpenError;
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::{
    device::{After, Device, linger, read_head},
    house::{HOST, House, refusal},
};

async fn rejecting(error: OpenError) -> House {
    House::with(Device::new().service("web", move |stream| async move { stream.reject(error) })).await
}

async fn answered(house: &House) -> (u16, String) {
    let response = house.get("/").await;
    let whose = response.headers()["proxy-status"].to_str().unwrap().to_owned();
    let (status, code) = refusal(response).await;
    assert!(whose.starts_with("tcpmux; error=") && whose.contains(&code), "{whose}");
    (status, code)
}

async fn saying(bytes: &'static [u8], after: After) -> (u16, String) {
    answered(&House::with(Device::new().says("web", bytes, after)).await).await
}

fn of(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_not_connected() {
    let house = House::empty();
    let response = house.get("/").await;
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(refusal(response).await, of(503, "TMX-3001"));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_is_lost_before_the_head() {
    let house =
        House::with(Device::new().raw("web", |mut stream| async move { linger(&mut stream).await })).await;
    let session = house.sessions.of("cam");
    house.outside.spawn(async move {
        while session.stream_count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        session.close(DisconnectCause::Lost);
    });
    assert_eq!(answered(&house).await, of(502, "TMX-3002"));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_has_ended_already() {
    let house = House::with(Device::new()).await;
    house.sessions.of("cam").close(DisconnectCause::Revoked);
    assert_eq!(answered(&house).await, of(502, "TMX-3002"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_the_device_does_not_expose() {
    assert_eq!(answered(&House::with(Device::new()).await).await, of(404, "TMX-3003"));
}

#[tokio::test(start_paused = true)]
async fn a_local_service_that_does_not_take_connections() {
    assert_eq!(answered(&rejecting(OpenError::Refused).await).await, of(502, "TMX-3004"));
}

#[tokio::test(start_paused = true)]
async fn a_local_service_that_breaks_http() {
    for after in [After::Finish, After::Reset] {
        assert_eq!(saying(b"", after).await, of(502, "TMX-3004"));
        assert_eq!(saying(b"HTTP/1.1 200 OK\r\nhal", after).await, of(502, "TMX-3004"));
    }
    for broken in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
    ] {
        assert_eq!(saying(broken, After::Stay).await, of(502, "TMX-3004"), "{}", broken.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_head_without_end_is_bounded() {
    let endless = |mut stream: tcpmux_proto::TunnelStream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(format!("x: {}\r\n", "y".repeat(8000)).as_bytes()).await.is_ok() {}
    };
    let house = House::with(Device::new().raw("web", endless)).await;
    assert_eq!(answered(&house).await, of(502, "TMX-3004"));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_open_in_time() {
    let silent = |stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    };
    let house = House::with(Device::new().service("web", silent)).await;
    let begun = Instant::now();
    assert_eq!(answered(&house).await, of(504, "TMX-3005"));
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(answered(&rejecting(OpenError::TimedOut).await).await, of(504, "TMX-3005"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_in_time() {
    let silent = Device::new().raw("web", |mut stream| async move { linger(&mut stream).await });
    let house = House::with(silent).await;
    let begun = Instant::now();
    assert_eq!(answered(&house).await, of(504, "TMX-3005"));
    assert_eq!(begun.elapsed().as_secs(), 60);
    // Interim answers are no answer.
    let chatty = |mut stream: tcpmux_proto::TunnelStream| async move {
        read_head(&mut stream).await;
        while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    assert_eq!(answered(&House::with(Device::new().raw("web", chatty)).await).await, of(504, "TMX-3005"));
}

#[tokio::test(start_paused = true)]
async fn the_time_for_the_head_counts_from_the_last_of_the_upload() {
    let answer = |request: Request<hyper::body::Incoming>| async {
        Response::new(Body::from(request.into_body().collect().await.unwrap().to_bytes()))
    };
    let house = House::with(Device::new().http("web", answer)).await;
    let drops = futures_util::stream::unfold(0, |number| async move {
        tokio::time::sleep(Duration::from_secs(50)).await;
        (number < 4).then_some((Ok::<_, axum::Error>("x"), number + 1))
    });
    let response = house.send(house.request("POST", "/").body(Body::from_stream(drops)).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(crate::house::text(response).await, "xxxx");
}

#[tokio::test(start_paused = true)]
async fn too_many_streams_and_a_draining_session() {
    let house = rejecting(OpenError::Busy).await;
    let response = house.get("/").await;
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(refusal(response).await, of(503, "TMX-3006"));

    let house = House::with(Device::new()).await;
    house.sessions.of("cam").drain();
    let response = house.get("/").await;
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(refusal(response).await, of(503, "TMX-3010"));
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_takes_nothing_new_and_finishes_what_it_has() {
    let house =
        House::with(Device::new().http("web", |request: Request<hyper::body::Incoming>| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Body::from(body))
        }))
        .await;
    let (mut sender, body) = http_body_util::channel::Channel::<bytes::Bytes>::new(1);
    let mut client = house.client().await;
    let request = house.request("POST", "/").body(Body::new(body)).unwrap();
    let live = house.outside.spawn(async move { client.send_request(request).await });
    sender.send_data("before ".into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    // A request on a connection that was accepted before, as the proxy sees it.
    let late = house.connection(b"http/1.1");
    house.tasks.begin_drain();
    let response = crate::house::text;
    sender.send_data("and after".into()).await.unwrap();
    drop(sender);
    assert_eq!(response(live.await.unwrap().unwrap().unwrap()).await, "before and after");
    drop(late);
    assert_eq!(answered_draining(&house).await, of(503, "TMX-3010"));
}

/// The door closes idle connections when draining begins, so the proxy is asked directly by a server of its own.
async fn answered_draining(house: &House) -> (u16, String) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let info = runtime::http::ConnectionInfo {
        peer: "192.0.2.7:4711".parse().unwrap(),
        certificates: std::sync::Arc::new([]),
        alpn: None,
    };
    let proxy = std::sync::Arc::clone(&house.proxy);
    house.outside.spawn(async move {
        let serve = move |request| {
            let proxy = std::sync::Arc::clone(&proxy);
            async move { proxy.handle(request).await }
        };
        let other_tasks = runtime::Tasks::new();
        runtime::http::serve_connection(server, info, Default::default(), &other_tasks, serve).await;
    });
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(client)).await.unwrap();
    house.outside.spawn(connection);
    refusal(sender.send_request(house.request("GET", "/").body(Body::empty()).unwrap()).await.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn no_grant_and_no_such_device_are_the_same_answer() {
    let house = House::with(Device::new()).await;
    let mut bodies = Vec::new();
    for (granted, path) in [("other", "/d/cam/web/"), ("other", "/d/nothing/web/"), ("cam", "/d/other/web/")]
    {
        let mut body = house.token_body();
        body["devices"] = serde_json::json!({ granted: {"level": "owner"} });
        let mut request = house.request("GET", "").body(Body::empty()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {}", house.sign(&body)).parse().unwrap());
        let response = house.send(request).await;
        assert_eq!(response.status(), 403);
        bodies.push(crate::house::text(response).await);
    }
    assert!(bodies[0].contains("TMX-4030"));
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_level_that_is_too_low_and_a_caller_that_the_device_forbids() {
    let house = House::with(Device::new()).await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let mut request = house.request(method, "/").body(Body::empty()).unwrap();
        let token = format!("Bearer {}", house.token_of_level("viewer"));
        request.headers_mut().insert(AUTHORIZATION, token.parse().unwrap());
        assert_eq!(refusal(house.send(request).await).await, of(403, "TMX-4031"));
    }
    assert_eq!(house.sessions.opened(), 0);
    assert_eq!(answered(&rejecting(OpenError::Forbidden).await).await, of(403, "TMX-4031"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_host_a_bad_path_and_an_ambiguous_request() {
    let house = House::with(Device::new()).await;
    for (uri, host, expected) in [
        ("/d/cam/web/", "evil.example", of(421, "TMX-4021")),
        ("/d/cam/web/", "a.b.dev.example.com", of(421, "TMX-4021")),
        ("/d/cam/127.0.0.1:22/", HOST, of(400, "TMX-4000")),
        ("/d/cam/tcpmux.agent/", HOST, of(400, "TMX-4000")),
        ("/d/cam%2fweb/", HOST, of(404, "TMX-4005")),
        ("/d/cam", HOST, of(404, "TMX-4005")),
    ] {
        let mut request = house.request("GET", "").body(Body::empty()).unwrap();
        *request.uri_mut() = uri.parse().unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(refusal(house.send(request).await).await, expected, "{uri} {host}");
    }
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_s_own_error_passes_untouched() {
    let own = b"HTTP/1.1 503 Mine\r\ncontent-type: text/x-own\r\nretry-after: 77\r\nwww-authenticate: Basic\r\ncontent-length: 5\r\n\r\nsorry";
    let house = House::with(Device::new().says("web", own, After::Stay)).await;
    let response = house.get("/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["proxy-status"], "tcpmux");
    assert_eq!(response.headers()["content-type"], "text/x-own");
    assert_eq!(response.headers()["retry-after"], "77");
    assert_eq!(response.headers()["www-authenticate"], "Basic");
    assert_eq!(crate::house::text(response).await, "sorry");
}
