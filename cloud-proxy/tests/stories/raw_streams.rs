//! Raw TCP over WebSocket, subprotocol `tcpmux.stream.v1`.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cloud_proxy::SUBPROTOCOL;
use futures_util::{SinkExt, StreamExt};
use http::{Request, header::AUTHORIZATION};
use tcpmux_proto::{OpenError, StreamKind, TunnelStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    device::Device,
    house::{HOST, House, refusal},
};

type Socket = WebSocketStream<DuplexStream>;

fn request(house: &House) -> Request<()> {
    let mut request = format!("wss://{HOST}/v1/devices/cam/streams/shell").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    headers.insert(AUTHORIZATION, format!("Bearer {}", house.token()).parse().unwrap());
    request
}

async fn open(house: &House) -> Socket {
    let connection = house.connection(b"http/1.1");
    let (socket, response) = client_async(request(house), connection).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
    socket
}

/// The request without tungstenite, so that a refusal can be read.
async fn refused(house: &House, change: impl FnOnce(&mut Request<Body>)) -> (u16, String) {
    let mut request = request(house).map(|()| Body::empty());
    *request.uri_mut() = "/v1/devices/cam/streams/shell".parse().unwrap();
    change(&mut request);
    refusal(house.send(request).await).await
}

async fn echo(mut stream: TunnelStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..count]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let _ = stream.shutdown().await;
}

/// All bytes until a Close, and its code.
async fn rest(socket: &mut Socket) -> (Vec<u8>, Option<CloseCode>) {
    let mut bytes = Vec::new();
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Binary(data)) => bytes.extend_from_slice(&data),
            Ok(Message::Close(frame)) => return (bytes, frame.map(|frame| frame.code)),
            Ok(_) => (),
            Err(_) => break,
        }
    }
    (bytes, None)
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_and_borders_mean_nothing() {
    let house = House::with(Device::new().raw("shell", echo)).await;
    let socket = open(&house).await;
    let all: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let (mut sink, mut source) = socket.split();
    let send = async {
        for part in all.chunks(7777) {
            sink.send(Message::binary(part.to_vec())).await.unwrap();
        }
    };
    let receive = async {
        let mut got = Vec::new();
        while got.len() < all.len() {
            if let Message::Binary(data) = source.next().await.unwrap().unwrap() {
                got.extend_from_slice(&data);
            }
        }
        got
    };
    let ((), got) = tokio::join!(send, receive);
    assert!(got == all);
    sink.close().await.unwrap();
    assert!(house.tasks.wait(Duration::from_secs(30)).await, "{} tasks are left", house.tasks.len());
    assert_eq!(house.sessions.of("cam").stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_ends_one_direction_and_the_other_goes_on() {
    let device = Device::new().service("shell", |stream| async move {
        assert_eq!(stream.header.kind, StreamKind::Tcp);
        let mut stream = stream.accept().await;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let house = House::with(device).await;
    let mut socket = open(&house).await;
    socket.send(Message::binary("12345")).await.unwrap();
    socket.send(Message::Binary(Bytes::new())).await.unwrap();
    assert_eq!(rest(&mut socket).await, (b"5 bytes".to_vec(), Some(CloseCode::Normal)));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_finishes_closes_with_1000_after_its_last_byte() {
    let device = Device::new().raw("shell", |mut stream| async move {
        stream.write_all(&[7; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        crate::device::linger(&mut stream).await;
    });
    let house = House::with(device).await;
    let (bytes, code) = rest(&mut open(&house).await).await;
    assert_eq!((bytes.len(), code), (100_000, Some(CloseCode::Normal)));
}

#[tokio::test(start_paused = true)]
async fn a_reset_or_a_lost_tunnel_closes_with_1011() {
    for is_lost in [false, true] {
        let device = Device::new().raw("shell", move |mut stream| async move {
            stream.write_all(b"hello").await.unwrap();
            stream.read_u8().await.unwrap();
            if is_lost {
                std::future::pending::<()>().await;
            }
            stream.reset();
        });
        let house = House::with(device).await;
        let mut socket = open(&house).await;
        socket.send(Message::binary("x")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary("hello"));
        if is_lost {
            tokio::time::sleep(Duration::from_millis(10)).await;
            house.sessions.of("cam").close(model::DisconnectCause::Lost);
        }
        assert_eq!(rest(&mut socket).await, (vec![], Some(CloseCode::Error)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_finishes_and_one_that_vanishes_resets() {
    for is_clean in [true, false] {
        let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let device = Device::new().raw("shell", move |mut stream| {
            let told = told.clone();
            async move {
                let mut all = Vec::new();
                let end = stream.read_to_end(&mut all).await;
                let _ = told.send((all, end.is_ok()));
            }
        });
        let house = House::with(device).await;
        let mut socket = open(&house).await;
        socket.send(Message::binary("last words")).await.unwrap();
        if is_clean {
            socket.close(None).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(socket);
        assert_eq!(ends.recv().await.unwrap(), (b"last words".to_vec(), is_clean));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_stream_of_bytes_is_closed_with_its_reason() {
    for (messages, code) in [
        (vec![Message::text("ls")], CloseCode::Unsupported),
        (vec![Message::Binary(Bytes::new()), Message::binary("more")], CloseCode::Protocol),
        (vec![Message::binary(vec![0; 1024 * 1024 + 1])], CloseCode::Size),
    ] {
        let house = House::with(Device::new().raw("shell", |mut stream| async move {
            crate::device::linger(&mut stream).await;
            std::future::pending::<()>().await;
        }))
        .await;
        let mut socket = open(&house).await;
        for message in messages {
            // The proxy may be done with a client before the client is done with its message.
            let _ = socket.send(message).await;
        }
        assert_eq!(rest(&mut socket).await.1, Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive_and_a_silent_client_is_gone() {
    let house = House::with(Device::new().raw("shell", echo)).await;
    let mut socket = open(&house).await;
    for _ in 0..20 {
        // Each answered by tungstenite when the next one is read.
        assert!(socket.next().await.unwrap().unwrap().is_ping());
    }
    assert_eq!(house.sessions.of("cam").stream_count(), 1, "ten quiet minutes are no silence");
    let before = tokio::time::Instant::now();
    while house.sessions.of("cam").stream_count() == 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(before.elapsed() <= Duration::from_secs(302), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_may_not_and_what_is_no_such_websocket_is_refused_before_the_device_is_asked() {
    let house = House::with(Device::new().raw("shell", echo)).await;
    let viewer = format!("Bearer {}", house.token_of_level("viewer"));
    let mut other = house.token_body();
    other["devices"]["cam"]["services"] = serde_json::json!(["web"]);
    let other = format!("Bearer {}", house.sign(&other));
    let set = |name: &'static str, value: &str| {
        let value = value.parse().unwrap();
        move |request: &mut Request<Body>| drop(request.headers_mut().insert(name, value))
    };
    assert_eq!(refused(&house, set("authorization", &viewer)).await, (403, "TMX-4031".into()));
    assert_eq!(refused(&house, set("authorization", &other)).await, (403, "TMX-4031".into()));
    assert_eq!(
        refused(&house, |r| drop(r.headers_mut().remove("authorization"))).await,
        (401, "TMX-4001".into())
    );
    assert_eq!(refused(&house, set("sec-websocket-protocol", "mqtt")).await.0, 400);
    assert_eq!(refused(&house, set("sec-websocket-version", "8")).await.0, 400);
    assert_eq!(refused(&house, set("sec-websocket-key", "short")).await.0, 400);
    let plain = |request: &mut Request<Body>| {
        request.headers_mut().remove("upgrade");
        request.headers_mut().remove("connection");
    };
    assert_eq!(refused(&house, plain).await.0, 426);
    assert_eq!(house.sessions.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_s_no_is_an_http_status() {
    for (error, expected) in [
        (OpenError::Refused, (502, "TMX-3004".to_owned())),
        (OpenError::Busy, (503, "TMX-3006".to_owned())),
        (OpenError::Forbidden, (403, "TMX-4031".to_owned())),
    ] {
        let house =
            House::with(Device::new().service("shell", move |stream| async move { stream.reject(error) }))
                .await;
        assert_eq!(refused(&house, |_| ()).await, expected);
    }
    assert_eq!(refused(&House::with(Device::new()).await, |_| ()).await, (404, "TMX-3003".into()));
    assert_eq!(refused(&House::empty(), |_| ()).await, (503, "TMX-3001".into()));
}
