//! Requests that two servers could read differently: 400 and close, or exactly one request at the device (D21, D23).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{
    device::Device,
    house::{HOST, House},
};

/// A house whose device counts the requests that it understands, in all its connections.
async fn counting() -> (House, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let answer = move |request: Request<Incoming>| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            let _ = request.into_body().collect().await;
            Response::new(Body::from("seen"))
        }
    };
    (House::with(Device::new().http("web", answer)).await, count)
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_request_is_refused_and_its_connection_closed() {
    let (house, count) = counting().await;
    let common = format!("host: {HOST}\r\nauthorization: Bearer {}\r\n", house.token());
    let smuggled = format!("GET /d/cam/web/smuggled HTTP/1.1\r\n{common}\r\n");
    for (line, lengths, body) in [
        ("POST /d/cam/web/ HTTP/1.1", "content-length: 6\r\ncontent-length: 5\r\n", "0\r\n\r\nX"),
        ("POST /d/cam/web/ HTTP/1.1", "content-length: +5\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "content-length: -5\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "content-length: 0x5\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "content-length: 5, 5\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "content-length: \r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "content-length: 99999999999999999999\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ("POST /d/cam/web/ HTTP/1.1", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("POST /d/cam/web/ HTTP/1.1", "transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        (
            "POST /d/cam/web/ HTTP/1.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        ("POST /d/cam/web/ HTTP/1.1", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        ("POST /d/cam/web/ HTTP/1.1", "transfer-encoding:\u{b}chunked\r\n", "0\r\n\r\n"),
        ("POST /d/cam/web/ HTTP/1.0", "transfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("POST /d/cam/web/ HTTP/1.1", "x: 1\r\n content-length: 5\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "no colon here\r\n", ""),
        ("POST /d/cam/web/ HTTP/1.1", "x: a\0b\r\n", ""),
        ("POST /d/cam/web/ HTTP/1.1", "x: a\rb\r\n", ""),
        ("POST /d/cam/web/ HTTP/1.1", ": empty\r\n", ""),
        ("POST /d/cam/web/ HTTP/1.1", "connection: content-length\r\ncontent-length: 5\r\n", "hello"),
        ("POST /d/cam/web/ HTTP/1.1", "content_length: 5\r\n", ""),
        ("POST /d/cam/web/ HTTP/1.1", "host: other.example\r\n", ""),
        ("GET /d/cam/web/ HTTP/1.1 ", "", ""),
        ("GET  /d/cam/web/ HTTP/1.1", "", ""),
        ("GET /d/cam/web/ x HTTP/1.1", "", ""),
        ("GET /d/cam/web/ HTTP/9.9", "", ""),
        ("GET https://other.example/d/cam/web/ HTTP/1.1", "", ""),
        ("GET https://a:b@cloud.example.com/d/cam/web/ HTTP/1.1", "", ""),
        ("OPTIONS * HTTP/1.1", "", ""),
    ] {
        let request = format!("{line}\r\n{common}{lengths}\r\n{body}{smuggled}");
        let answer = String::from_utf8_lossy(&house.raw(request.as_bytes()).await).into_owned();
        let status = answer.get(9..12).unwrap_or("closed");
        assert!(matches!(status, "400" | "closed"), "{line} {lengths:?}\n{answer}");
        assert_eq!(
            answer.matches("HTTP/1.").count(),
            usize::from(status == "400"),
            "{line} {lengths:?}\n{answer}"
        );
    }
    assert_eq!((house.sessions.opened(), count.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn where_a_length_and_chunks_meet_the_device_sees_one_request() {
    for order in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\ncontent-length: 6\r\n",
    ] {
        let (house, count) = counting().await;
        let common = format!("host: {HOST}\r\nauthorization: Bearer {}\r\n", house.token());
        let smuggled = format!("GET /d/cam/web/smuggled HTTP/1.1\r\n{common}\r\n");
        let request = format!("POST /d/cam/web/ HTTP/1.1\r\n{common}{order}\r\n0\r\n\r\n{smuggled}");
        let answer = String::from_utf8(house.raw(request.as_bytes()).await).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "the connection ends after it: {answer}");
        assert!(house.sessions.opened() <= 1 && count.load(Ordering::SeqCst) <= 1, "{order}");
    }
}

#[tokio::test(start_paused = true)]
async fn broken_chunks_never_complete_a_request() {
    for body in [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "g\r\n",
        "ffffffffffffffffff\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    ] {
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let answer = move |request: Request<Incoming>| {
            let told = told.clone();
            async move {
                let _ = told.send(request.into_body().collect().await.is_ok());
                Response::new(Body::empty())
            }
        };
        let house = House::with(Device::new().http("web", answer)).await;
        let request = format!(
            "POST /d/cam/web/ HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n{body}",
            house.token()
        );
        house.raw(request.as_bytes()).await;
        assert_ne!(heard.try_recv(), Ok(true), "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_many_requests_on_one_connection_is_one_stream_of_its_own() {
    let (house, count) = counting().await;
    let common = format!("host: {HOST}\r\nauthorization: Bearer {}\r\n", house.token());
    let one = format!("POST /d/cam/web/ HTTP/1.1\r\n{common}content-length: 5\r\n\r\nhello");
    let last = format!("GET /d/cam/web/ HTTP/1.1\r\n{common}connection: close\r\n\r\n");
    let answer = String::from_utf8(house.raw(format!("{one}{one}{last}").as_bytes()).await).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!((house.sessions.opened(), count.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn paths_decide_by_the_bytes_that_are_forwarded() {
    let (house, count) = counting().await;
    let common = format!("host: {HOST}\r\nauthorization: Bearer {}\r\nconnection: close\r\n", house.token());
    for (path, status) in [
        ("/d/cam/web/%2e%2e/%2e%2e/api/", "200"),
        ("/d/cam/web/../api/", "200"),
        ("/d/cam/web//d/other/web/", "200"),
        ("/d/cam/web/;/../x", "200"),
        ("/d/cam/web/%252e%252e/", "200"),
        ("/d/cam/web/\\..\\api", "200"),
        ("https://cloud.example.com/d/cam/web/", "200"),
        ("/d/cam/../other/web/", "400"),
        ("/d/cam/%2e%2e/web/", "400"),
        ("/d/%63am/web/", "400"),
        ("/d/cam%2Fweb/", "404"),
        ("/d/cam;x/web/", "400"),
        ("/d/other/web/", "403"),
        ("//d/cam/web/", "404"),
    ] {
        let answer = house.raw(format!("GET {path} HTTP/1.1\r\n{common}\r\n").as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(&answer[9..12], status, "{path}\n{answer}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 7);
}
