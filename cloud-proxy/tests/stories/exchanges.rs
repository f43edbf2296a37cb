//! What goes through unharmed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, channel::Channel};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use crate::{
    device::{After, Device, linger, read_head},
    house::{HOST, House, text},
};

/// Says the method, the path, the length of the body and its bytes.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let head = format!("{} {}\n", request.method(), request.uri());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(Body::from([head.as_bytes(), &body].concat()))
}

fn channel() -> (http_body_util::channel::Sender<Bytes>, Body) {
    let (sender, channel) = Channel::<Bytes>::new(1);
    (sender, Body::new(channel))
}

#[tokio::test(start_paused = true)]
async fn every_method_goes_through_with_its_path_byte_for_byte() {
    let house = House::with(Device::new().http("web", echo)).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let uri = "/a%2Fb/../c//d;x?q=%20&r=/../s";
        let body = if method == "GET" { "" } else { "some body" };
        let response = house.send(house.request(method, uri).body(Body::from(body)).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["proxy-status"], "tcpmux");
        assert_eq!(text(response).await, format!("{method} {uri}\n{body}"));
    }
    assert_eq!(house.sessions.opened(), 7, "one request is one stream");
}

#[tokio::test(start_paused = true)]
async fn a_service_without_path_is_asked_for_its_root() {
    let house = House::with(Device::new().http("web", echo)).await;
    assert_eq!(text(house.get("").await).await, "GET /\n");
}

#[tokio::test(start_paused = true)]
async fn the_host_form_reaches_the_same_services() {
    let house = House::with(Device::new().http("web", echo).http("api", echo)).await;
    for host in ["cam.dev.example.com", "api--cam.dev.example.com:8443"] {
        let mut request = house.request("GET", "").body(Body::empty()).unwrap();
        *request.uri_mut() = "/v1/me?x".parse().unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(text(house.send(request).await).await, "GET /v1/me?x\n", "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_asked_by_its_own_name_and_its_redirects_lead_back() {
    let answer = |request: Request<Incoming>| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let location = format!("http://{host}/next");
        Response::builder().status(302).header("location", location).body(Body::from(host)).unwrap()
    };
    let device = Device::new()
        .http("web", answer)
        .called("web", "192.168.1.7:8080", false)
        .http("shop", answer)
        .called("shop", "shop.example", true)
        .http("socket", answer);
    let house = House::with(device).await;
    let in_domain = "https://shop--cam.dev.example.com/next";
    for (host, path, named, location) in [
        (HOST, "/d/cam/web/a", "192.168.1.7:8080", "/d/cam/web/next"),
        (HOST, "/d/cam/shop/a", "shop.example", "/d/cam/shop/next"),
        (HOST, "/d/cam/socket/a", "localhost", "/d/cam/socket/next"),
        ("cam.dev.example.com", "/a", "cam.dev.example.com", "http://cam.dev.example.com/next"),
        ("shop--cam.dev.example.com", "/a", "shop.example", in_domain),
    ] {
        let mut request = house.request("GET", "").body(Body::empty()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        let response = house.send(request).await;
        assert_eq!(response.headers()["location"], location, "{host}{path}");
        assert_eq!(text(response).await, named, "{host}{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_flow_both_ways_before_either_side_is_done() {
    // The device answers each chunk before it has seen the next; so nothing may wait for an end.
    let answer = |request: Request<Incoming>| async {
        let chunks = request.into_body().into_data_stream().map(|chunk| {
            let chunk = chunk.unwrap();
            Ok::<_, axum::Error>(Bytes::from([b"<", chunk.as_ref(), b">"].concat()))
        });
        Response::new(Body::from_stream(chunks))
    };
    let house = House::with(Device::new().http("web", answer)).await;
    for method in ["POST", "GET"] {
        let (mut sender, body) = channel();
        let mut request = house.request(method, "/").body(body).unwrap();
        request.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
        let response = house.send(request).await;
        let mut down = response.into_body().into_data_stream();
        for word in ["one", "two", "three"] {
            sender.send_data(word.into()).await.unwrap();
            assert_eq!(down.next().await.unwrap().unwrap(), format!("<{word}>"), "{method}");
        }
        drop(sender);
        assert!(down.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn events_pass_one_by_one() {
    let seen = Arc::new(Notify::new());
    let waits = Arc::clone(&seen);
    let answer = move |_| {
        let waits = Arc::clone(&waits);
        async move {
            // The next event is made only when the client has seen the one before.
            let events = stream::unfold(0, move |number| {
                let waits = Arc::clone(&waits);
                async move {
                    if number > 0 {
                        waits.notified().await;
                    }
                    (number < 4).then(|| (Ok::<_, axum::Error>(format!("data: {number}\n\n")), number + 1))
                }
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(events))
                .unwrap()
        }
    };
    let house = House::with(Device::new().http("web", answer)).await;
    let mut events = house.get("/events").await.into_body().into_data_stream();
    for number in 0..4 {
        assert_eq!(events.next().await.unwrap().unwrap(), format!("data: {number}\n\n"));
        seen.notify_one();
    }
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_stay_without_one() {
    let answer = |request: Request<Incoming>| async move {
        let status = request.uri().path()[1..].parse().unwrap_or(200);
        let mut response = Response::builder().status(status);
        if request.method() == Method::HEAD {
            response = response.header("content-length", "1234");
        }
        response.body(Body::empty()).unwrap()
    };
    let house = House::with(Device::new().http("web", answer)).await;
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 205)] {
        let request = house.request(method, &format!("/{status}")).body(Body::empty()).unwrap();
        let response = house.send(request).await;
        assert_eq!(response.status(), status);
        if method == "HEAD" {
            assert_eq!(response.headers()["content-length"], "1234");
        }
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_one_request_after_another() {
    let house = House::with(Device::new().http("web", echo)).await;
    let mut client = house.client().await;
    for number in 0..3 {
        client.ready().await.unwrap();
        let request = house.request("POST", &format!("/{number}")).body(Body::from("x")).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(text(response).await, format!("POST /{number}\nx"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_with_its_connection_is_whole_when_the_device_finished() {
    let close = b"HTTP/1.0 200 OK\r\n\r\nall of it";
    let chunked = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n";
    let device = Device::new().says("web", close, After::Finish).says("api", chunked, After::Stay);
    let house = House::with(device).await;
    assert_eq!(text(house.get("/").await).await, "all of it");
    let mut request = house.request("GET", "").body(Body::empty()).unwrap();
    *request.uri_mut() = "/d/cam/api/".parse().unwrap();
    assert_eq!(
        text(house.send(request).await).await,
        "all of it",
        "what precedes the answer is not part of it"
    );
}

/// Sends its trailers back, and a forbidden one.
async fn echo_trailers(request: Request<Incoming>) -> Response<Body> {
    assert_eq!(request.headers()["te"], "trailers");
    let received = request.into_body().collect().await.unwrap();
    let mut trailers = received.trailers().cloned().unwrap_or_default();
    trailers.insert("x-tcpmux-user", "root".parse().unwrap());
    let frames = [Ok::<_, axum::Error>(Frame::data(received.to_bytes())), Ok(Frame::trailers(trailers))];
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    Response::builder().header("trailer", "x-sum, x-tcpmux-user").body(body).unwrap()
}

fn body_with_trailers() -> Body {
    let trailers = HeaderMap::from_iter([
        ("x-sum".parse().unwrap(), "42".parse().unwrap()),
        ("x-tcpmux-level".parse().unwrap(), "owner".parse().unwrap()),
    ]);
    let frames = [Ok::<_, axum::Error>(Frame::data(Bytes::from("body"))), Ok(Frame::trailers(trailers))];
    Body::new(StreamBody::new(stream::iter(frames)))
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways_without_those_that_may_not() {
    let house = House::with(Device::new().http("web", echo_trailers)).await;
    let request =
        house.request("POST", "/").header("te", "trailers").header("trailer", "x-sum, x-tcpmux-level");
    let received =
        house.send(request.body(body_with_trailers()).unwrap()).await.into_body().collect().await.unwrap();
    let trailers = received.trailers().unwrap();
    assert_eq!(trailers["x-sum"], "42");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(received.to_bytes(), "body");
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_gets_the_same() {
    let house = House::with(Device::new().http("web", echo_trailers).http("api", echo)).await;
    let mut client = house.client_h2().await;
    let to = |path: &str| {
        let token = format!("Bearer {}", house.token());
        Request::builder()
            .method("POST")
            .uri(format!("https://{HOST}/d/cam{path}"))
            .header("authorization", token)
    };
    let request =
        to("/web/x").header("te", "trailers").header("trailer", "x-sum").body(body_with_trailers()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.headers()["proxy-status"], "tcpmux");
    let received = response.into_body().collect().await.unwrap();
    assert_eq!(received.trailers().unwrap()["x-sum"], "42");

    let request =
        to("/api/a%2Fb//?c").header("cookie", "a=1").header("cookie", "b=2").body(Body::from("up")).unwrap();
    let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "POST /a%2Fb//?c\nup");

    let refused = Request::builder().uri(format!("https://{HOST}/d/cam/api/")).body(Body::empty()).unwrap();
    assert_eq!(client.send_request(refused).await.unwrap().status(), 401);
}

#[tokio::test(start_paused = true)]
async fn what_the_device_sees_of_a_request() {
    let head = |request: Request<Incoming>| async move {
        Response::new(Body::from(format!("{:?}", request.headers())))
    };
    let house = House::with(Device::new().http("web", head)).await;
    let mut client = house.client_h2().await;
    let request = Request::builder()
        .uri(format!("https://{HOST}/d/cam/web/"))
        .header("authorization", format!("Bearer {}", house.token()))
        .header("x-device-authorization", "Basic zzz")
        .header("cookie", "a=1")
        .header("cookie", "__Host-tcpmux-login=canary")
        .header("cookie", "b=2")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-tcpmux-user", "root")
        .body(Body::empty())
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let seen = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    for expected in [
        "\"host\": \"localhost\"",
        "\"authorization\": \"Basic zzz\"",
        "\"cookie\": \"a=1; b=2\"",
        "\"x-forwarded-for\": \"192.0.2.7\"",
        "\"x-forwarded-proto\": \"https\"",
        "\"x-forwarded-host\": \"cloud.example.com\"",
        "\"x-forwarded-prefix\": \"/d/cam/web\"",
        "\"x-tcpmux-user\": \"usr_03030303030303030303030303030303\"",
        "\"x-tcpmux-level\": \"operator\"",
        "\"connection\": \"close\"",
        &format!("\"x-request-id\": \"{request_id}\""),
    ] {
        assert!(seen.contains(expected), "{expected} in {seen}");
    }
    assert!(!seen.contains("canary") && !seen.contains("10.0.0.1") && !seen.contains("root"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn the_stream_tells_the_device_who_asks() {
    let (told, mut headers) = tokio::sync::mpsc::unbounded_channel();
    let device = Device::new().service("web", move |stream| {
        let _ = told.send(stream.header.clone());
        async move { stream.reject(tcpmux_proto::OpenError::Refused) }
    });
    let house = House::with(device).await;
    let response = house.get("/").await;
    let header = headers.recv().await.unwrap();
    assert_eq!(header.client, "192.0.2.7:4711");
    assert_eq!(header.level, model::Level::Operator);
    assert_eq!(header.deadline, Duration::from_secs(5));
    assert_eq!(response.headers()["x-request-id"], header.request_id.as_str());
    assert_ne!(header.principal, [0; 32]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_continue_is_told_by_the_device() {
    let device = Device::new().raw("web", |mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("expect: 100-continue"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"body");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        linger(&mut stream).await;
    });
    let house = House::with(device).await;
    let mut client = house.connection(b"http/1.1");
    let head = format!(
        "POST /d/cam/web/ HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
        house.token()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    client.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    let mut status = [0; 15];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_refuses_by_the_head_spares_the_client_the_body() {
    let refuses = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig";
    let house = House::with(Device::new().says("web", refuses, After::Stay)).await;
    let request = format!(
        "POST /d/cam/web/ HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n",
        house.token()
    );
    let answer = String::from_utf8(house.raw(request.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("big"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_says_continue_gets_the_body_all_the_same() {
    let house = House::with(Device::new().raw("web", |mut stream| async move {
        read_head(&mut stream).await;
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
        linger(&mut stream).await;
    }))
    .await;
    let request =
        house.request("POST", "/").header("expect", "100-continue").body(Body::from("body")).unwrap();
    assert_eq!(text(house.send(request).await).await, "body");
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_arrives_while_the_body_is_in_flight() {
    let refuses = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig";
    let house = House::with(Device::new().says("web", refuses, After::Stay)).await;
    let (mut sender, body) = channel();
    let request = house.request("POST", "/").body(body).unwrap();
    sender.send_data("the first of very many".into()).await.unwrap();
    let response = house.send(request).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, "big");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(house.sessions.of("cam").stream_count(), 0, "the answer ends the stream, not the upload");
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_slows_the_device() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let answer = move |_| {
        let counter = Arc::clone(&counter);
        async move {
            let endless = stream::repeat_with(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok::<_, axum::Error>(Bytes::from(vec![0; 16 * 1024]))
            });
            Response::new(Body::from_stream(endless))
        }
    };
    let house = House::with(Device::new().http("web", answer)).await;
    let mut body = house.get("/").await.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    // Paused time moves on only when everything stands still.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let stalled = made.load(Ordering::SeqCst);
    assert!(stalled * 16 < 2 * 1024, "{stalled} chunks of 16 KiB were made for a client that took one");
    for _ in 0..1000 {
        body.next().await.unwrap().unwrap();
    }
    assert!(made.load(Ordering::SeqCst) > stalled, "control: it goes on when the client does");
}

#[tokio::test(start_paused = true)]
async fn a_slow_device_slows_the_client() {
    let go_on = Arc::new(Notify::new());
    let waits = Arc::clone(&go_on);
    let device = Device::new().raw("web", move |mut stream| {
        let waits = Arc::clone(&waits);
        async move {
            waits.notified().await;
            linger(&mut stream).await;
        }
    });
    let house = House::with(device).await;
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let endless = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok::<_, axum::Error>(Bytes::from(vec![0; 16 * 1024]))
    });
    let request = house.request("POST", "/").body(Body::from_stream(endless)).unwrap();
    let mut client = house.client().await;
    house.outside.spawn(async move { client.send_request(request).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let stalled = made.load(Ordering::SeqCst);
    assert!(
        stalled > 0 && stalled * 16 < 2 * 1024,
        "{stalled} chunks of 16 KiB were taken for a device that reads nothing"
    );
    go_on.notify_one();
    // A duplex never blocks for long: an hour of paused time is no time at all, unless nothing moves.
    while made.load(Ordering::SeqCst) < stalled + 1000 {
        tokio::task::yield_now().await;
    }
}
