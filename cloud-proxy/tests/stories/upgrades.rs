//! WebSockets through a device's HTTP service, and everything that only looks like one.

use std::time::Duration;

use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use http::{Request, header::AUTHORIZATION};
use model::{Generation, NodeId, SessionId};
use registry::SessionRecord;
use tcpmux_proto::TunnelStream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Message, protocol::Role},
};

use crate::{
    device::{After, Device, linger, read_head},
    house::{HOST, House, NOW, device_ref, refusal},
};

/// A service that echoes messages.
async fn echo(stream: TunnelStream) {
    let mut socket = accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() || socket.send(message).await.is_err() {
            break;
        }
    }
    // Answers the Close, and ends as a server does.
    let _ = socket.next().await;
    let stream = socket.get_mut();
    stream.shutdown().await.unwrap();
    linger(stream).await;
}

fn upgrade(house: &House) -> http::request::Builder {
    house
        .request("GET", "/ws?a=b")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn raw_upgrade(house: &House) -> String {
    format!(
        "GET /d/cam/web/ws HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        house.token()
    )
}

/// Upgrades by hand and gives the connection after the 101.
async fn open(house: &House) -> DuplexStream {
    let mut connection = house.connection(b"http/1.1");
    connection.write_all(raw_upgrade(house).as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // RFC 6455 §1.3 has this answer for this key.
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    connection
}

#[tokio::test(start_paused = true)]
async fn a_websocket_echoes_and_closes_cleanly() {
    let house = House::with(Device::new().raw("web", echo)).await;
    let mut socket = WebSocketStream::from_raw_socket(open(&house).await, Role::Client, None).await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 500_000] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
    assert!(socket.next().await.is_none());
    assert!(house.tasks.wait(Duration::from_secs(30)).await, "{} tasks are left", house.tasks.len());
    assert_eq!(house.sessions.of("cam").stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_client_arrive_before_it_is_gone() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let device = Device::new().raw("web", move |stream| {
        let told = told.clone();
        async move {
            let mut socket = accept_async(stream).await.unwrap();
            // Slow to read: what the client said must still be there.
            tokio::time::sleep(Duration::from_secs(1)).await;
            while let Some(Ok(message)) = socket.next().await {
                let _ = told.send(message);
            }
        }
    });
    let house = House::with(device).await;
    let mut socket = WebSocketStream::from_raw_socket(open(&house).await, Role::Client, None).await;
    socket.send(Message::text("last")).await.unwrap();
    drop(socket);
    assert_eq!(heard.recv().await.unwrap(), Message::text("last"));
    assert!(house.tasks.wait(Duration::from_secs(30)).await);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_breaks_off_breaks_off_the_client() {
    for is_lost in [false, true] {
        let device = Device::new().raw("web", move |stream| async move {
            let mut socket = accept_async(stream).await.unwrap();
            socket.next().await.unwrap().unwrap();
            if is_lost {
                std::future::pending::<()>().await;
            }
        });
        let house = House::with(device).await;
        let mut socket = WebSocketStream::from_raw_socket(open(&house).await, Role::Client, None).await;
        socket.send(Message::text("go")).await.unwrap();
        if is_lost {
            tokio::time::sleep(Duration::from_millis(10)).await;
            house.sessions.of("cam").close(model::DisconnectCause::Lost);
        }
        let end = timeout(Duration::from_secs(5), socket.next()).await.expect("the client is told");
        assert!(end.is_none_or(|message| message.is_err()), "no Close was made up for it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_other_than_101_is_an_ordinary_answer() {
    for (bytes, status) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"[..], 200),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403),
    ] {
        let house = House::with(Device::new().says("web", bytes, After::Stay)).await;
        let response = house.send(upgrade(&house).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status);
        assert!(!response.headers().contains_key("upgrade"));
        assert_eq!(crate::house::text(response).await, "no");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_answer_an_upgrade_is_a_timeout_and_another_protocol_a_refusal() {
    let house =
        House::with(Device::new().raw("web", |mut stream| async move { linger(&mut stream).await })).await;
    let response = house.send(upgrade(&house).body(Body::empty()).unwrap()).await;
    assert_eq!(refusal(response).await.0, 504);
    let other = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    let house = House::with(Device::new().says("web", other, After::Stay)).await;
    let response = house.send(upgrade(&house).body(Body::empty()).unwrap()).await;
    assert_eq!(refusal(response).await, (502, "TMX-3004".into()));
}

#[tokio::test(start_paused = true)]
async fn no_byte_passes_raw_before_the_device_has_switched() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let device = Device::new().raw("web", move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            let early = timeout(Duration::from_secs(1), stream.read_u8()).await;
            let _ = told.send(early.is_err());
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            let late = timeout(Duration::from_secs(1), stream.read_u8()).await;
            let _ = told.send(!matches!(late, Ok(Ok(_))));
        }
    });
    let house = House::with(device).await;
    // What a frontend takes for frames would be a second request at the device.
    let smuggled = format!("{}GET /admin HTTP/1.1\r\nhost: x\r\n\r\n", raw_upgrade(&house));
    let answer = String::from_utf8(house.raw(smuggled.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(heard.recv().await.unwrap(), "nothing came before the answer");
    assert!(heard.recv().await.unwrap(), "nothing came after it");
    assert_eq!(house.sessions.opened(), 1, "the rest was no request of its own that got through");
}

#[tokio::test(start_paused = true)]
async fn upgrades_that_are_no_websocket_reach_no_device() {
    let house = House::with(Device::new().raw("web", echo)).await;
    let token = house.token();
    let common = format!("host: {HOST}\r\nauthorization: Bearer {token}\r\n");
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\n";
    for request in [
        format!("GET /d/cam/web/ HTTP/1.1\r\n{common}{websocket}content-length: 5\r\n\r\nhello"),
        format!("GET /d/cam/web/ HTTP/1.1\r\n{common}{websocket}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!(
            "GET /d/cam/web/ HTTP/1.1\r\n{common}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        ),
        format!("GET /d/cam/web/ HTTP/1.1\r\n{common}connection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n"),
        format!("POST /d/cam/web/ HTTP/1.1\r\n{common}{websocket}\r\n"),
        format!("TRACE /d/cam/web/ HTTP/1.1\r\n{common}\r\n"),
        format!("CONNECT {HOST}:443 HTTP/1.1\r\n{common}\r\n"),
        format!("GET /d/cam/web/ HTTP/1.0\r\n{common}{websocket}\r\n"),
    ] {
        let answer = String::from_utf8(house.raw(request.as_bytes()).await).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"),
            "{request}\n{answer}"
        );
    }
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn viewers_open_websockets_where_the_device_lets_them() {
    let house = House::with(Device::new().raw("web", echo)).await;
    let connect = async |viewer_websockets| {
        let record = SessionRecord {
            device: device_ref("cam"),
            session: SessionId::from_random([1; 16]),
            generation: Generation(0),
            node: NodeId::from_random([1; 16]),
            certificate: model::Fingerprint([0; 32]),
            boot_id: "b".into(),
            services: vec!["web".parse().unwrap()],
            claim_digest: None,
            viewer_websockets,
            since: NOW,
            verified_at: NOW,
        };
        house.registry.connect(record).await;
        let mut request = upgrade(&house).body(Body::empty()).unwrap();
        let token = format!("Bearer {}", house.token_of_level("viewer"));
        request.headers_mut().insert(AUTHORIZATION, token.parse().unwrap());
        house.send(request).await
    };
    assert_eq!(refusal(connect(vec![]).await).await, (403, "TMX-4031".into()));
    assert_eq!(house.sessions.opened(), 0);
    assert_eq!(connect(vec!["web".parse().unwrap()]).await.status(), 101);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_on_which_nothing_is_said_ends() {
    let house = House::with(Device::new().raw("web", echo)).await;
    let mut connection = open(&house).await;
    let begun = Instant::now();
    let mut rest = Vec::new();
    // Leases are another matter: here the clock of the wall stands.
    let _ = connection.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert_eq!(begun.elapsed().as_secs(), 3600);
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_is_not_offered_websockets() {
    let house = House::with(Device::new().raw("web", echo)).await;
    let mut client = house.client_h2().await;
    let mut request = Request::connect(format!("https://{HOST}/d/cam/web/")).body(Body::empty()).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    assert!(client.send_request(request).await.is_err());
    assert_eq!(house.sessions.opened(), 0);
}
