//! Rows 29–39 at the real door: what surrounds a request that is good in itself.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tests::{Cloud, Door, TlsClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::applicant::{Applicant, certificates_of, est, refusal, registry};

/// A request as bytes; `Host` is added, nothing else.
fn bytes(line: &str, fields: &str, body: &str) -> String {
    format!("{line}\r\nHost: localhost\r\n{fields}\r\n{body}")
}

/// The statuses of all answers in what a connection said.
fn statuses(said: &str) -> Vec<&str> {
    said.split("HTTP/1.").skip(1).map(|answer| answer.get(2..5).unwrap_or("?")).collect()
}

/// Rows 29 to 33: router tests have every shape; here is one of each through the whole door.
#[tokio::test]
async fn the_body_is_base64_of_pkcs10_and_little_more_is_forgiven() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let (device, passcode) = (Applicant::new(), cloud.passcode("cam-01").await);
    let body = device.body();
    let post = || est(&door, "simpleenroll").basic("cam-01", &passcode);
    let bare = || door.post("/.well-known/est/simpleenroll").basic("cam-01", &passcode).body(body.clone());
    for (call, answer) in [
        (bare(), "415 media-type"),
        (bare().header("content-type", "text/plain"), "415 media-type"),
        (post().header("content-encoding", "gzip").body(body.clone()), "415 media-type"),
        (post().body(device.request(None)), "400 base64"),
        (post().body(format!("{body}=")), "400 base64"),
    ] {
        assert_eq!(refusal(call.send().await).await, answer);
    }
    // Five refusals in a minute are a passcode's measure; the next device has its own.
    let passcode = cloud.passcode("cam-02").await;
    let device = Applicant::new();
    let text = device.body();
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    let mut answers = vec![];
    for (body, field, value) in [
        (format!("{}\r\n", lines.join("\r\n")), "content-transfer-encoding", "base64"),
        (format!(" \t{}\n\n", lines.join(" \n")), "content-transfer-encoding", "binary"),
        (text.clone(), "x-nothing", "at all"),
    ] {
        let call = est(&door, "simpleenroll").basic("", &passcode).header(field, value).body(body);
        answers.push(call.send().await.expect(200).await.text().await);
    }
    let odd = door.post("/.well-known/est/simpleenroll").basic("", &passcode);
    let odd = odd
        .header("content-type", "APPLICATION/Pkcs10; charset=utf-8")
        .header("accept", "application/x-pem-file");
    answers.push(odd.body(text).send().await.expect(200).await.text().await);
    answers.dedup();
    assert_eq!(answers.len(), 1, "one key, one passcode, one certificate");
}

/// Row 34.
#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_ends() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let passcode = cloud.passcode("cam-01").await;
    let post = || est(&door, "simpleenroll").basic("", &passcode);
    let began = Instant::now();
    // By its told length, nothing of it sent; by one octet more than is taken; and by chunks that never end.
    let told = post().header("content-length", "70000").stream(StreamBody::new(stream::pending()));
    let piece = || Ok(Frame::data(Bytes::from(vec![b'A'; 4096])));
    let pieces = (0..16).map(move |_| piece()).chain([Ok(Frame::data(Bytes::from("A")))]);
    let longer = post().stream(StreamBody::new(stream::iter(pieces).chain(stream::pending())));
    for call in [told, longer] {
        let answer = call.send().await;
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(refusal(answer).await, "413 too-large");
    }
    let endless = post().stream(StreamBody::new(stream::iter(std::iter::repeat_with(piece))));
    // Who never stops to listen may miss the answer, but not the end.
    assert!(endless.try_send().await.map_or(true, |answer| answer.status == 413));
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    let csr = post().body("MIIB".repeat(6000)).send().await;
    assert_eq!(refusal(csr).await, "413 csr-too-large");
    assert!(registry(&cloud).await.is_empty());
    Applicant::new().enrolment(&door, "", &passcode).send().await.expect(200).await;
}

/// Row 35. What is slow is given up in time, and meanwhile hinders nobody.
#[tokio::test]
async fn slow_callers_are_given_up_and_hinder_nobody() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let passcode = cloud.passcode("slow-01").await;
    let began = Instant::now();
    let mut silent = vec![];
    for _ in 0..400 {
        silent.push(TcpStream::connect(door.address()).await.unwrap());
    }
    let silence = async {
        for mut socket in silent {
            until_closed(&mut socket).await;
        }
        began.elapsed()
    };
    let half_a_hello = async {
        let mut socket = TcpStream::connect(door.address()).await.unwrap();
        socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01]).await.unwrap();
        until_closed(&mut socket).await;
        began.elapsed()
    };
    let no_request = async {
        until_closed(&mut door.connect().await).await;
        began.elapsed()
    };
    let a_slow_head = async {
        let said =
            drip(&door, b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\nX: ", b'x').await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
        began.elapsed()
    };
    let a_slow_body = async {
        let credentials = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!(":{passcode}"));
        let fields = format!(
            "Authorization: Basic {credentials}\r\nContent-Type: application/pkcs10\r\nContent-Length: 5000\r\n"
        );
        let head = bytes("POST /.well-known/est/simpleenroll HTTP/1.1", &fields, "");
        let said = drip(&door, head.as_bytes(), b'A').await;
        assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("body-late: "), "{said}");
        assert!(said.to_ascii_lowercase().contains("connection: close"), "{said}");
        began.elapsed()
    };
    let others = async {
        for number in 0..5 {
            let began = Instant::now();
            Applicant::new().enrol(&cloud, &format!("quick-{number}")).await;
            assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        }
    };
    let (silence, hello, request, head, body, ()) =
        tokio::join!(silence, half_a_hello, no_request, a_slow_head, a_slow_body, others);
    for (what, took, limit) in [
        ("silence", silence, 5),
        ("hello", hello, 5),
        ("request", request, 10),
        ("head", head, 10),
        ("body", body, 10),
    ] {
        let limit = Duration::from_secs(limit);
        // The bound counts from when the server saw it; the slack is for a busy machine.
        assert!(
            took + Duration::from_secs(1) > limit && took < limit + Duration::from_secs(6),
            "{what}: {took:?}"
        );
    }
}

const LONG: Duration = Duration::from_secs(5);

/// Sends a head, then one octet a second until the door has had enough; what it said.
async fn drip(door: &Door, head: &[u8], octet: u8) -> String {
    let (mut read, mut write) = tokio::io::split(door.connect().await);
    write.write_all(head).await.unwrap();
    write.flush().await.unwrap();
    let mut said = vec![];
    let reading = read.read_to_end(&mut said);
    let dripping = async {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            if write.write_all(&[octet]).await.is_err() || write.flush().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        _ = timeout(Duration::from_secs(30), reading) => {}
        () = dripping => {}
    }
    String::from_utf8_lossy(&said).into_owned()
}

async fn until_closed(socket: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = vec![];
    let ended = timeout(Duration::from_secs(30), socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the door holds a caller that says nothing");
}

/// Row 36. After each request comes a second one that must never be heard as long as where the first ends is in
/// doubt.
#[tokio::test]
async fn a_request_that_ends_in_two_places_ends_the_connection() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let passcode = cloud.passcode("cam-01").await;
    let credentials = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!(":{passcode}"));
    let (body, usual) = (
        Applicant::new().body(),
        format!("Authorization: Basic {credentials}\r\nContent-Type: application/pkcs10\r\n"),
    );
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let smuggled = bytes("GET /.well-known/est/csrattrs HTTP/1.1", "Connection: close\r\n", "");
    let post = "POST /.well-known/est/simpleenroll HTTP/1.1";
    for (what, fields, body) in [
        ("two lengths", format!("{length}Content-Length: 5\r\n"), &body),
        ("a list of lengths", format!("Content-Length: {0}, {0}\r\n", body.len()), &body),
        ("a signed length", format!("Content-Length: +{}\r\n", body.len()), &body),
        ("a negative length", "Content-Length: -1\r\n".into(), &body),
        ("an unknown coding", "Transfer-Encoding: gzip\r\n".into(), &chunked),
        ("a coding like chunked", "Transfer-Encoding: xchunked\r\n".into(), &chunked),
        ("chunked, then more", "Transfer-Encoding: chunked, identity\r\n".into(), &chunked),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(), &chunked),
        ("a list of codings", "Transfer-Encoding: identity, chunked\r\n".into(), &chunked),
        ("a folded field", format!("{length}X-Fold: a\r\n b\r\n"), &body),
        ("a bare CR", format!("{length}X-Bare: a\rb\r\n"), &body),
        ("a NUL", format!("{length}X-Nul: a\0b\r\n"), &body),
        ("a space before the colon", format!("{length}X-Space : a\r\n"), &body),
        ("a nameless field", format!("{length}: a\r\n"), &body),
    ] {
        let said = door.exchange(bytes(post, &(usual.clone() + &fields), body) + &smuggled).await;
        assert_eq!(statuses(&said), ["400"], "{what}: {said}");
        assert!(said.to_ascii_lowercase().contains("connection: close"), "{what}: {said}");
    }
    for hosts in ["", "Host: localhost\r\nHost: other\r\n"] {
        let said =
            door.exchange(format!("GET /.well-known/est/cacerts HTTP/1.1\r\n{hosts}\r\n{smuggled}")).await;
        assert_eq!(statuses(&said), ["400"], "{hosts:?}: {said}");
    }
    // RFC 9112 §6.3: the coding counts, the length is ignored, and the connection ends after the answer.
    let both = bytes(post, &format!("{usual}{length}Transfer-Encoding: chunked\r\n"), &chunked) + &smuggled;
    let said = door.exchange(both).await;
    assert_eq!(statuses(&said), ["200"], "{said}");
    assert!(said.to_ascii_lowercase().contains("connection: close"), "{said}");
    let twice = door.post("/.well-known/est/simpleenroll").basic("", &passcode).basic("", &passcode);
    let twice = twice.header("content-type", "application/pkcs10").body(body.clone()).send().await;
    assert_eq!(refusal(twice).await, "400 authorization");
    // Control: one end, and the second request is heard.
    let said = door.exchange(bytes(post, &(usual + &length), &body) + &smuggled).await;
    assert_eq!(statuses(&said), ["200", "200"], "{said}");
    assert_eq!(certificates_of(&cloud, "cam-01").await.len(), 1);
}

/// Row 37. This version has no labels.
#[tokio::test]
async fn there_is_one_spelling_of_an_address() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let long = format!("/.well-known/est/{}/cacerts", "a".repeat(300));
    for target in [
        "/.well-known/est/%2e%2e/admin",
        "/.well-known/est/../../admin/api/otp",
        "/.well-known/est/label/cacerts",
        "/.well-known/est/cacerts/cacerts",
        "/.well-known/est/a%2fb/cacerts",
        "/.well-known/est/%00/cacerts",
        "/.well-known/est//cacerts",
        "//.well-known/est/cacerts",
        "/.well-known/est/cacerts/",
        "/.well-known/est/%63acerts",
        "/.well-known/EST/cacerts",
        "/.well-known/est/fullcmc",
        "/.well-known/est/serverkeygen",
        "/.well-known/est",
        "/crl/root.crl",
        "/crl/..%2fdevices.crl",
        &long,
        "*",
    ] {
        let said = door.exchange(bytes(&format!("GET {target} HTTP/1.1"), "Connection: close\r\n", "")).await;
        assert_eq!(statuses(&said), ["404"], "{target}: {said}");
    }
    let nul = door.exchange(bytes("GET /.well-known/est/\0/cacerts HTTP/1.1", "", "")).await;
    assert_eq!(statuses(&nul), ["400"]);
    let endless = door.exchange(bytes(&format!("GET /{} HTTP/1.1", "a".repeat(100_000)), "", "")).await;
    assert!(["414", "431"].contains(&statuses(&endless)[0]), "{endless:.80}");
    let control =
        door.exchange(bytes("GET /.well-known/est/cacerts HTTP/1.1", "Connection: close\r\n", "")).await;
    assert_eq!(statuses(&control), ["200"]);
}

/// RFC 8951 §3.2 and the contract: what EST says no with is text, also where there is no such operation.
#[tokio::test]
async fn every_no_under_est_is_plain_text() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    for (method, path, status) in [
        (Method::GET, "/.well-known/est/label/cacerts", 404),
        (Method::POST, "/.well-known/est/fullcmc", 404),
        (Method::GET, "/.well-known/est/simpleenroll", 405),
        (Method::POST, "/.well-known/est/cacerts", 405),
        (Method::POST, "/.well-known/est/simpleenroll", 401),
        (Method::POST, "/.well-known/est/simplereenroll", 401),
    ] {
        let answer = door.call(method.clone(), path).send().await.expect(status).await;
        assert!(
            answer.header("content-type").starts_with("text/plain"),
            "{method} {path}: {:?}",
            answer.headers
        );
        assert!(!answer.text().await.is_empty());
    }
}

/// Row 38.
#[tokio::test]
async fn each_address_takes_its_own_methods() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    for (method, path, allow) in [
        ("GET", "/.well-known/est/simpleenroll", "POST"),
        ("HEAD", "/.well-known/est/simpleenroll", "POST"),
        ("PUT", "/.well-known/est/simpleenroll", "POST"),
        ("GET", "/.well-known/est/simplereenroll", "POST"),
        ("POST", "/.well-known/est/cacerts", "GET,HEAD"),
        ("DELETE", "/.well-known/est/cacerts", "GET,HEAD"),
        ("TRACE", "/.well-known/est/cacerts", "GET,HEAD"),
        ("OPTIONS", "/.well-known/est/cacerts", "GET,HEAD"),
        ("PROPFIND", "/crl/devices.crl", "GET,HEAD"),
    ] {
        let answer = door.call(method.parse().unwrap(), path).send().await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, allow), "{method} {path}");
    }
    let tunnel = door
        .exchange("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\nConnection: close\r\n\r\n")
        .await;
    assert!(["404", "405"].contains(&statuses(&tunnel)[0]), "{tunnel}");
    let (get, head) = (
        door.get("/.well-known/est/cacerts").send().await.expect(200).await,
        door.call(Method::HEAD, "/.well-known/est/cacerts").send().await.expect(200).await,
    );
    for field in ["content-type", "content-length", "vary"] {
        assert_eq!(get.header(field), head.header(field), "{field}");
    }
    assert!(head.bytes().await.unwrap().is_empty() && !get.bytes().await.unwrap().is_empty());
}

/// Row 39.
#[tokio::test]
async fn old_new_and_odd_http_is_served_or_refused_but_never_confused() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let get = "GET /.well-known/est/cacerts HTTP/1.1";
    let whole = door.get("/.well-known/est/cacerts").send().await.text().await;
    let answers_all = |said: String| assert!(statuses(&said) == ["200"] && said.ends_with(&whole), "{said}");
    answers_all(door.exchange("GET /.well-known/est/cacerts HTTP/1.0\r\n\r\n").await);
    answers_all(door.exchange(format!("{get}\r\nHost: evil.example\r\nConnection: close\r\n\r\n")).await);
    let absolute = "GET https://evil.example/.well-known/est/cacerts HTTP/1.1";
    answers_all(door.exchange(bytes(absolute, "Connection: close\r\n", "")).await);
    assert_eq!(statuses(&door.exchange("GET /.well-known/est/cacerts\r\n\r\n").await), ["400"], "HTTP/0.9");
    // HTTP/2 is not spoken here: neither offered, nor understood without being offered.
    let offered = TlsClient::trusting(&cloud.root()).with_alpn(&[b"h2"]).connect(door.address()).await;
    assert!(offered.is_err());
    let preface = door.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(preface.is_empty() || statuses(&preface) == ["400"], "{preface}");

    let (device, passcode) = (Applicant::new(), cloud.passcode("cam-01").await);
    let credentials = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!(":{passcode}"));
    let body = device.body();
    let head = bytes(
        "POST /.well-known/est/simpleenroll HTTP/1.1",
        &format!(
            "Authorization: Basic {credentials}\r\nContent-Type: application/pkcs10\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\nConnection: close\r\n",
            body.len()
        ),
        "",
    );
    let mut stream = door.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest).await;
    assert_eq!(statuses(&rest), ["200"]);
    // A request whose head is refused is not asked for its body.
    let refused = door.exchange(head.replace(&credentials, "!!!")).await;
    assert_eq!(statuses(&refused), ["400"], "{refused}");
}
