//! A body that was cut short is an error at the client, in every framing and by every cause.

use std::{sync::atomic::Ordering, time::Duration};

use axum::body::Body;
use http_body_util::BodyExt;
use model::DisconnectCause;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    device::{After, Device, linger, read_head},
    house::{HOST, House},
};

const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n";
const HALF_CHUNK: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\nonly this";
const NO_TRAILERS_END: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\nx-sum: 4";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nonly this";
const OLD: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nonly this";

/// How the device's side ends before its body did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Finish,
    Reset,
    TunnelLost,
}

async fn house(bytes: &'static [u8], fault: Fault) -> House {
    let device = Device::new().raw("web", move |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        // Paused time moves on only when the client has all of it.
        tokio::time::sleep(Duration::from_millis(5)).await;
        match fault {
            Fault::Finish => {
                let _ = stream.shutdown().await;
                linger(&mut stream).await;
            }
            Fault::Reset => stream.reset(),
            Fault::TunnelLost => linger(&mut stream).await,
        }
    });
    let house = House::with(device).await;
    if fault == Fault::TunnelLost {
        let session = house.sessions.of("cam");
        house.outside.spawn(async move {
            while session.stream_count() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            session.close(DisconnectCause::Lost);
        });
    }
    house
}

fn cases() -> Vec<(&'static [u8], Fault)> {
    let mut cases = Vec::new();
    for bytes in [LENGTH, CHUNKED, HALF_CHUNK, NO_TRAILERS_END] {
        for fault in [Fault::Finish, Fault::Reset, Fault::TunnelLost] {
            cases.push((bytes, fault));
        }
    }
    for bytes in [CLOSE, OLD] {
        // Here the end of the stream is the end of the body, so only the others are faults.
        cases.extend([(bytes, Fault::Reset), (bytes, Fault::TunnelLost)]);
    }
    cases
}

#[tokio::test(start_paused = true)]
async fn an_http1_client_never_gets_a_short_body_as_a_whole_one() {
    for (bytes, fault) in cases() {
        let house = house(bytes, fault).await;
        let response = house.get("/").await;
        assert_eq!(response.status(), 200, "{fault:?} {}", bytes.escape_ascii());
        let body = response.into_body().collect().await;
        assert!(body.is_err(), "{fault:?} {}", bytes.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_gets_a_reset_instead_of_an_end() {
    for (bytes, fault) in cases() {
        let house = house(bytes, fault).await;
        let mut request = house.request("GET", "").body(Body::empty()).unwrap();
        *request.uri_mut() = format!("https://{HOST}/d/cam/web/").parse().unwrap();
        let response = house.client_h2().await.send_request(request).await.unwrap();
        let body = response.into_body().collect().await;
        assert!(body.is_err(), "{fault:?} {}", bytes.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn on_the_wire_a_cut_body_has_no_last_chunk() {
    for (bytes, fault) in cases() {
        let house = house(bytes, fault).await;
        let request = format!(
            "GET /d/cam/web/ HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\n\r\n",
            house.token()
        );
        let answer = String::from_utf8(house.raw(request.as_bytes()).await).unwrap();
        assert!(answer.contains("only this"), "{fault:?} {answer}");
        assert!(!answer.contains("\r\n0\r\n"), "{fault:?} {answer}");
    }
}

/// An old client takes the end of the connection for the end of the body: it must not be a proper one.
#[tokio::test(start_paused = true)]
async fn an_http10_client_sees_its_connection_cut_and_not_closed() {
    for (bytes, fault, is_whole) in [
        (CLOSE, Fault::Reset, false),
        (CLOSE, Fault::TunnelLost, false),
        (CHUNKED, Fault::Finish, false),
        (CLOSE, Fault::Finish, true),
    ] {
        let house = house(bytes, fault).await;
        let (mut connection, ended) = house.watched_connection(b"http/1.1");
        let request = format!(
            "GET /d/cam/web/ HTTP/1.0\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\n\r\n",
            house.token()
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nonly this"), "{answer}");
        assert_eq!(ended.load(Ordering::SeqCst), is_whole, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn control_the_same_answers_are_whole_when_the_device_ends_them() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly this"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n\r\n",
        CLOSE,
        OLD,
    ] {
        let house = House::with(Device::new().says("web", bytes, After::Finish)).await;
        assert_eq!(crate::house::text(house.get("/").await).await, "only this");
    }
    // What comes after a complete body changes nothing.
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly thisHTTP/1.1 200 OK\r\n\r\n";
    for after in [After::Stay, After::Reset] {
        let house = House::with(Device::new().says("web", bytes, after)).await;
        assert_eq!(crate::house::text(house.get("/").await).await, "only this");
    }
}
