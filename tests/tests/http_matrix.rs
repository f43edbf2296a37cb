//! HTTP as apps use it, through the cloud, to ordinary services behind a device.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tests::{Call, Nginx, Service, eventually, pieces, web};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::stage::Stage;

#[tokio::test]
async fn every_method_arrives_over_both_versions_of_http() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    for version in VERSIONS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let method: Method = method.parse().unwrap();
            let answer = version(stage.call(method.clone(), "/web/method")).send().await.expect(200).await;
            assert_eq!(answer.header("x-method"), method.as_str());
            assert_eq!(answer.header("proxy-status"), "tcpmux", "the device's own answer says so");
        }
        let head = version(stage.call(Method::HEAD, "/web/bytes/12345")).send().await.expect(200).await;
        assert_eq!(head.header("content-length"), "12345");
        assert_eq!(head.bytes().await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn statuses_and_bodies_of_the_device_pass_untouched() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    for status in [201, 204, 304, 401, 403, 404, 409, 418, 500, 502, 503, 504] {
        let answer = stage.get(&format!("/web/status/{status}")).send().await.expect(status).await;
        assert_eq!(answer.header("proxy-status"), "tcpmux", "{status}");
        let expected = if [204, 304].contains(&status) { "" } else { "as asked" };
        assert_eq!(answer.text().await, expected, "{status}");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once_before_either_has_ended() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    for version in VERSIONS {
        let (feed, body) = pieces();
        feed.send(Bytes::from_static(b"piece 0")).await.unwrap();
        let mut answer = version(stage.post("/web/echo")).stream(body).send().await.expect(200).await;
        for number in 0..20 {
            let piece = format!("piece {number}");
            let got = timeout(SOON, answer.next())
                .await
                .expect("each piece comes back by itself")
                .unwrap()
                .unwrap();
            assert_eq!(got, piece);
            feed.send(Bytes::from(format!("piece {}", number + 1))).await.unwrap();
        }
        drop(feed);
        assert_eq!(answer.next().await.unwrap().unwrap(), "piece 20");
        assert!(answer.next().await.is_none(), "the end is an end");
    }
}

#[tokio::test]
async fn bodies_of_every_size_arrive_whole_with_and_without_a_length() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    for size in [0, 1, 16_383, 16_384, 65_537, 3_000_000] {
        let body = Bytes::from((0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>());
        for version in VERSIONS {
            let echoed = version(stage.post("/web/echo")).body(body.clone()).send().await.expect(200).await;
            assert!(echoed.bytes().await.unwrap() == body, "{size} with a length");
            let one =
                futures_util::stream::iter([Ok::<_, std::convert::Infallible>(Frame::data(body.clone()))]);
            let echoed =
                version(stage.post("/web/echo")).stream(StreamBody::new(one)).send().await.expect(200).await;
            assert!(echoed.bytes().await.unwrap() == body, "{size} without");
            for kind in ["bytes", "chunks"] {
                let down = version(stage.get(&format!("/web/{kind}/{size}"))).send().await.expect(200).await;
                assert_eq!(down.bytes().await.unwrap().len(), size, "{kind}");
            }
        }
    }
}

#[tokio::test]
async fn ranges_and_conditions_work_as_with_nginx_itself() {
    let nginx = Nginx::start().await;
    let stage = Stage::set(&[("web", nginx.url())]).await;
    let part = stage.get("/web/hello.txt").header("range", "bytes=6-9").send().await.expect(206).await;
    assert_eq!(part.header("content-range"), "bytes 6-9/17");
    assert_eq!(part.text().await, "from");
    let whole = stage.get("/web/hello.txt").send().await.expect(200).await;
    let (tag, modified) = (whole.header("etag").to_owned(), whole.header("last-modified").to_owned());
    let same = stage.get("/web/hello.txt").header("if-none-match", &tag).send().await.expect(304).await;
    assert_eq!(same.text().await, "");
    stage.get("/web/hello.txt").header("if-modified-since", &modified).send().await.expect(304).await;
    let beyond = stage.get("/web/hello.txt").header("range", "bytes=100-").send().await.expect(416).await;
    assert_eq!(beyond.header("content-range"), "bytes */17");
}

#[tokio::test]
async fn the_path_and_the_query_reach_the_device_byte_for_byte() {
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("web", mirror.url("http"))]).await;
    for path in [
        "/",
        "/a%2Fb",
        "/a/../b",
        "/a/./b",
        "//a//b",
        "/..",
        "/%2e%2e/%2E",
        "/a;b=c",
        "/%00",
        "/%C3%A4%ff",
        "/a%252Fb",
        "/a?b=c%20d&&=&e",
        "/a?",
        "/?",
        "/a?/../?x",
        "/~!$&'()*+,;=:@",
        "/a|b",
    ] {
        let request = stage.head(&format!("GET /d/cam-01/web{path}"), "Connection: close\r\n");
        let answer = stage.cloud.user().exchange(request).await;
        let line = answer
            .split("\r\n\r\n")
            .nth(1)
            .and_then(|body| body.lines().next())
            .unwrap_or(&answer)
            .to_owned();
        assert_eq!(line, format!("GET {path} HTTP/1.1"), "{answer}");
    }
}

#[tokio::test]
async fn a_server_sent_event_is_there_as_soon_as_it_is_sent() {
    let (events, mut received) = mpsc::unbounded_channel::<Instant>();
    let service = Service::start(move |mut conversation| {
        let events = events.clone();
        async move {
            conversation.request().await;
            conversation.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                let _ = events.send(Instant::now());
                if !conversation.write("data: tick\n\n").await {
                    return;
                }
            }
        }
    })
    .await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    let mut answer =
        stage.get("/web/events").header("accept", "text/event-stream").send().await.expect(200).await;
    let mut delays = vec![];
    for _ in 0..25 {
        let event = timeout(SOON, answer.next()).await.expect("an event").unwrap().unwrap();
        let arrived = Instant::now();
        // Several events in one piece would be buffering, too.
        assert_eq!(event, "data: tick\n\n");
        delays.push(arrived - received.recv().await.unwrap());
    }
    delays.sort();
    assert!(delays[delays.len() / 2] < Duration::from_millis(50), "half of them within 50 ms: {delays:?}");
}

#[tokio::test]
async fn a_websocket_echoes_text_binary_and_close() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    let mut socket = open_websocket(&stage, "/web/ws").await.unwrap();
    for message in [Message::text("grüße"), Message::binary(vec![7; 1_000_000]), Message::binary(vec![])] {
        socket.send(message.clone()).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap() == message);
    }
    socket.send(Message::Ping(Bytes::from_static(b"are you there"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"are you there")));
    socket.close(None).await.unwrap();
    let closed = timeout(SOON, socket.next()).await.unwrap();
    assert!(matches!(closed, Some(Ok(Message::Close(_))) | None), "{closed:?}");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    for version in VERSIONS {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-upload-digest", HeaderValue::from_static("d1"));
        let frames = [
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"body"))),
            Ok(Frame::trailers(trailers)),
        ];
        let answer = version(stage.post("/web/trailers"))
            .header("te", "trailers")
            .header("trailer", "x-upload-digest")
            .stream(StreamBody::new(futures_util::stream::iter(frames)))
            .send()
            .await
            .expect(200)
            .await;
        assert_eq!((answer.header("x-te"), answer.header("trailer")), ("trailers", "x-checksum"));
        let (body, trailers) = answer.with_trailers().await.unwrap();
        assert_eq!(body, "x-upload-digest=d1\n");
        assert_eq!(trailers["x-checksum"], "abc123");
    }
}

#[tokio::test]
async fn who_waits_for_leave_to_send_a_body_gets_it_and_is_refused_before_sending() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    let mut stream = stage.cloud.user().connect().await;
    let lines = "Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n";
    stream.write_all(stage.head("POST /d/cam-01/web/count", lines).as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    timeout(SOON, stream.read_exact(&mut interim)).await.expect("leave to send").unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"12345").await.unwrap();
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest).await;
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("\r\n\r\n5"), "{rest}");

    let host = stage.cloud.user().authority();
    let request = format!("POST /d/cam-01/web/count HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
    let refused = stage.cloud.user().exchange(request).await;
    assert!(refused.starts_with("HTTP/1.1 401"), "no leave, just the no: {refused}");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let service = Service::start(|mut conversation| async move {
        conversation.read_until(b"\r\n\r\n").await;
        let answer =
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
        conversation.write(answer).await;
        conversation.until_gone().await;
    })
    .await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    let (feed, body) = pieces();
    feed.send(Bytes::from_static(b"the first of very many")).await.unwrap();
    let call = stage.post("/web/upload").stream(body).send();
    let answer = timeout(SOON, call).await.expect("the answer does not wait for the body").expect(413).await;
    assert_eq!(answer.text().await, "too much");
    drop(feed);
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_by_the_local_service_at_once() {
    let (gone, mut noticed) = mpsc::unbounded_channel();
    let service = Service::start(move |mut conversation| {
        let gone = gone.clone();
        async move {
            conversation.request().await;
            conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nthe beginning").await;
            conversation.until_gone().await;
            let _ = gone.send(Instant::now());
        }
    })
    .await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    for version in VERSIONS {
        let mut answer = version(stage.get("/web/download")).send().await.expect(200).await;
        assert_eq!(answer.next().await.unwrap().unwrap(), "the beginning");
        let left = Instant::now();
        drop(answer);
        let when = timeout(SOON, noticed.recv()).await.expect("the service is told").unwrap();
        assert!(when - left < Duration::from_secs(1), "{:?}", when - left);
    }
}

#[tokio::test]
async fn every_request_has_a_connection_of_its_own_to_the_local_service() {
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("web", mirror.url("http"))]).await;
    let mut stream = stage.cloud.user().connect().await;
    for number in 1..=3 {
        // One connection of the client, kept alive.
        stream.write_all(stage.head("GET /d/cam-01/web/", "").as_bytes()).await.unwrap();
        let mut answer = vec![];
        while !answer.ends_with(b"\r\n\r\n") || answer.windows(4).filter(|w| w == b"\r\n\r\n").count() < 2 {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert_eq!(mirror.connections(), number);
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_service_and_nobody_else() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    // Ten readers that read nothing, of bodies larger than all buffers between.
    let mut stalled = vec![];
    for _ in 0..10 {
        stalled.push(stage.get("/web/bytes/50000000").send().await.expect(200).await);
    }
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(
            stage.get("/web/bytes/100").send().await.expect(200).await.bytes().await.unwrap().len(),
            100
        );
    }
    assert!(began.elapsed() < Duration::from_secs(5), "neighbours of stalled readers: {:?}", began.elapsed());
    let mut total = 0;
    let mut first = stalled.remove(0);
    while let Some(piece) = first.next().await {
        total += piece.unwrap().len();
    }
    assert_eq!(total, 50_000_000, "a stalled body goes on where it stopped");
}

#[tokio::test]
async fn a_service_behind_https_or_a_unix_socket_is_a_service_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("service.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix")
                .await;
        }
    });
    let stage = Stage::set(&[("unix", format!("unix:{}", path.display()))]).await;
    let answer = eventually("the unix service", || async {
        let answer = stage.get("/unix/").send().await;
        if answer.status == 200 { Ok(answer) } else { Err(answer.text().await) }
    })
    .await;
    assert_eq!(answer.text().await, "unix");
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// Opens a WebSocket under `/d/cam-01`, with the stage's token.
pub(crate) async fn open_websocket(
    stage: &Stage,
    path: &str,
) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
    let door = stage.cloud.user();
    let url = format!("wss://{}/d/cam-01{path}", door.authority());
    let mut request = url.into_client_request()?;
    request
        .headers_mut()
        .insert("authorization", HeaderValue::try_from(format!("Bearer {}", stage.token)).unwrap());
    let stream = door.connect().await;
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
}

/// As the call is, and over HTTP/2.
pub(crate) const VERSIONS: [fn(Call) -> Call; 2] = [|call| call, Call::http2];
const SOON: Duration = Duration::from_secs(5);
