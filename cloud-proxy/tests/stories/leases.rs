//! For how long an open stream may live: a lost grant, `until`, and the end of the process's drain.

use std::time::Duration;

use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::UserId;
use registry::GrantChange;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    device::{Device, read_head},
    house::{HOST, House, NOW, refusal, user},
};

/// A device whose answers never end.
fn endless() -> Device {
    let never_ends = |mut stream: tcpmux_proto::TunnelStream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"tick\n").await.is_ok() {
            let _ = stream.flush().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    Device::new().raw("web", never_ends)
}

fn change(house: &House, user: Option<UserId>, device: &str, sequence: u64) {
    let change =
        GrantChange { tenant: Default::default(), user, device: device.parse().unwrap(), sequence, at: NOW };
    house.registry.grants().put(change);
}

/// Reads on for this long; false once the body broke, and a body that ends is a failure.
async fn is_alive_after(body: &mut Incoming, time: Duration) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until {
        match timeout(time, body.frame()).await {
            Ok(Some(Ok(_))) | Err(_) => (),
            Ok(Some(Err(_))) => return false,
            Ok(None) => panic!("a stream that was cut looked complete"),
        }
    }
    true
}

#[tokio::test(start_paused = true)]
async fn a_changed_grant_refuses_new_requests_at_once_and_ends_live_ones_within_ten_seconds() {
    let house = House::with(endless()).await;
    let mut live = house.get("/").await.into_body();
    change(&house, Some(UserId::from_random([9; 16])), "cam", 8);
    change(&house, Some(user()), "other", 9);
    change(&house, Some(user()), "cam", 7);
    assert!(
        is_alive_after(&mut live, Duration::from_secs(60)).await,
        "control: other changes and older ones"
    );
    change(&house, Some(user()), "cam", 10);
    assert_eq!(refusal(house.get("/").await).await, (403, "TMX-4030".into()));
    assert!(!is_alive_after(&mut live, Duration::from_secs(10)).await);
    assert_eq!(house.sessions.of("cam").stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_minted_after_the_change_is_good_again() {
    let house = House::with(endless()).await;
    change(&house, Some(user()), "cam", 10);
    let mut body = house.token_body();
    body["gv"] = 10.into();
    let mut request = house.request("GET", "/").body(Body::empty()).unwrap();
    request.headers_mut().insert(AUTHORIZATION, format!("Bearer {}", house.sign(&body)).parse().unwrap());
    assert_eq!(house.send(request).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_its_token_and_ends_at_until() {
    let house = House::with(endless()).await;
    let mut live = house.get("/").await.into_body();
    house.clock.advance(Duration::from_secs(301));
    assert_eq!(refusal(house.get("/").await).await, (401, "TMX-4002".into()));
    assert!(
        is_alive_after(&mut live, Duration::from_secs(30)).await,
        "the token is over, its streams are not"
    );
    house.clock.set(NOW.plus(Duration::from_secs(3600)));
    assert!(!is_alive_after(&mut live, Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn an_operators_token_holds_its_streams_until_its_end() {
    let house = House::with(endless()).await;
    let mut body = house.token_body();
    body["iss"] = crate::house::OPERATOR.into();
    for member in ["gv", "until", "tenant"] {
        body.as_object_mut().unwrap().remove(member);
    }
    let token = house.operator.sign("at+jwt", &body).unwrap();
    let mut request = house.request("GET", "/").body(Body::empty()).unwrap();
    request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let mut live = house.send(request).await.into_body();
    change(&house, Some(user()), "cam", 100);
    house.clock.advance(Duration::from_secs(299));
    assert!(is_alive_after(&mut live, Duration::from_secs(30)).await);
    house.clock.advance(Duration::from_secs(1));
    assert!(!is_alive_after(&mut live, Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn an_upload_and_a_client_that_reads_nothing_end_with_their_lease_too() {
    let house = House::with(endless()).await;
    let unread = house.get("/").await;
    change(&house, Some(user()), "cam", 10);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(house.sessions.of("cam").stream_count(), 0);
    drop(unread);
}

#[tokio::test(start_paused = true)]
async fn websockets_and_raw_streams_end_with_their_lease() {
    let echo = |stream: tcpmux_proto::TunnelStream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let _ = socket.send(message).await;
        }
    };
    let raw =
        |mut stream: tcpmux_proto::TunnelStream| async move { crate::device::linger(&mut stream).await };
    for (path, code) in [("d/cam/web/", None), ("v1/devices/cam/streams/shell", Some(CloseCode::Policy))] {
        let house = House::with(Device::new().raw("web", echo).raw("shell", raw)).await;
        let mut request = format!("wss://{HOST}/{path}").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, format!("Bearer {}", house.token()).parse().unwrap());
        if code.is_some() {
            headers.insert("sec-websocket-protocol", cloud_proxy::SUBPROTOCOL.parse().unwrap());
        }
        let (mut socket, _) = client_async(request, house.connection(b"http/1.1")).await.unwrap();
        socket.send(Message::binary("x")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(house.sessions.of("cam").stream_count(), 1, "control");
        change(&house, Some(user()), "cam", 10);
        let begun = Instant::now();
        let closed = loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code),
                Some(Ok(_)) => (),
                Some(Err(_)) | None => break None,
            }
        };
        assert_eq!(closed, code, "{path}");
        assert!(begun.elapsed() <= Duration::from_secs(10), "{path} {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_aborts_what_is_left() {
    let house = House::with(endless()).await;
    let mut live = house.get("/").await.into_body();
    house.tasks.begin_drain();
    assert!(is_alive_after(&mut live, Duration::from_secs(20)).await, "draining lets it live");
    house.tasks.end();
    assert!(!is_alive_after(&mut live, Duration::from_secs(1)).await);
}
