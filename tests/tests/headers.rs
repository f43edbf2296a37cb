//! What a device sees of a request, and what no request can be: D18 to D24.

use std::{collections::BTreeMap, time::Duration};

use tests::{Cloud, Device, EnrolledDevice, Service, eventually, web};

use crate::stage::Stage;

#[tokio::test]
async fn a_device_sees_our_identity_headers_once_and_no_clients_copies() {
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("web", mirror.url("http"))]).await;
    let forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("X-FORWARDED-PROTO", "gopher"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Client-Cert", "evil"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Request-Id", "evil"),
        ("X-Remote-User", "root"),
        ("X-Tcpmux-User", "root"),
        ("X-Tcpmux-Level", "owner"),
        ("X-Tcpmux-Anything", "evil"),
        ("TE", "gzip"),
        ("Proxy-Authorization", "Basic evil"),
        ("Keep-Alive", "timeout=1"),
    ];
    let mut call = stage.get("/web/").header("x-kept", "as it is");
    for (name, value) in forged {
        call = call.header(name, value);
    }
    let seen = head(&call.send().await.expect(200).await.text().await);
    let one = |name: &str| {
        let all = seen.get(name).cloned().unwrap_or_default();
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        all[0].clone()
    };
    assert_eq!(one("x-forwarded-for"), "127.0.0.1");
    assert_eq!(one("x-forwarded-proto"), "https");
    assert_eq!(one("x-forwarded-host"), stage.cloud.user().authority());
    assert_eq!(one("x-forwarded-prefix"), "/d/cam-01/web");
    assert_eq!((one("x-tcpmux-user"), one("x-tcpmux-level")), ("admin".into(), "operator".into()));
    assert!(one("x-request-id").starts_with("req_") && one("traceparent").len() == 55);
    assert_eq!((one("x-kept"), one("host")), ("as it is".into(), mirror.address().to_string()));
    for gone in ["authorization", "forwarded", "x-real-ip", "x-remote-user", "x-tcpmux-anything", "te"] {
        assert!(!seen.contains_key(gone), "{gone}: {:?}", seen[gone]);
    }
    let text = format!("{seen:?}");
    assert!(!text.contains("evil") && !text.contains("6.6.6.6") && !text.contains(&stage.token), "{text}");
}

#[tokio::test]
async fn naming_our_headers_in_connection_removes_none_of_them() {
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("web", mirror.url("http"))]).await;
    let names = "close, x-forwarded-for, x-tcpmux-user, x-tcpmux-level, x-request-id, x-mine";
    let request = stage.head("GET /d/cam-01/web/", &format!("Connection: {names}\r\nX-Mine: hop\r\n"));
    let answer = stage.cloud.user().exchange(request).await;
    let seen = head(answer.split_once("\r\n\r\n").unwrap().1);
    assert!(seen.contains_key("x-forwarded-for") && seen.contains_key("x-tcpmux-user"), "{answer}");
    assert!(!seen.contains_key("x-mine"), "a header of the hop ends at the hop");
}

#[tokio::test]
async fn a_client_can_sign_in_at_the_device_without_the_device_seeing_our_token() {
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("web", mirror.url("http"))]).await;
    let call =
        stage.get("/web/").header("x-device-authorization", "Basic ZGV2aWNlOnB3").header("cookie", "mine=1");
    let seen = head(&call.send().await.expect(200).await.text().await);
    assert_eq!(seen["authorization"], ["Basic ZGV2aWNlOnB3"]);
    assert!(!seen.contains_key("x-device-authorization"));
    assert_eq!(seen["cookie"], ["mine=1"]);
}

#[tokio::test]
async fn what_a_device_answers_stays_under_its_prefix() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: /login?next=/\r\nSet-Cookie: sid=1; Path=/; Domain=example.com\r\n\
                  Strict-Transport-Security: max-age=1\r\nClear-Site-Data: \"*\"\r\nAlt-Svc: h3=\":1\"\r\n\
                  Service-Worker-Allowed: /\r\nContent-Length: 0\r\n\r\n";
    let service = Service::answering(answer).await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    let got = stage.get("/web/a/b").send().await.expect(302).await;
    assert_eq!(got.header("location"), "/d/cam-01/web/login?next=/");
    let cookie = got.header("set-cookie").to_ascii_lowercase();
    assert!(cookie.contains("path=/d/cam-01/web") && !cookie.contains("domain"), "{cookie}");
    for gone in ["strict-transport-security", "clear-site-data", "alt-svc", "service-worker-allowed"] {
        assert!(!got.headers.contains_key(gone), "{gone}");
    }
    assert!(got.header("content-security-policy").contains("sandbox"), "{:?}", got.headers);
    let navigation =
        stage.get("/web/").header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    assert!((400..500).contains(&navigation.send().await.status.as_u16()), "the path form is for APIs");
}

#[tokio::test]
async fn the_host_form_reaches_the_same_services_with_the_clients_host() {
    let mirror = Service::mirror().await;
    let cloud = Cloud::plan().config("device_domain = \"devices.example\"").start().await;
    let stage = Stage::on(cloud, &[("web", mirror.url("http")), ("api", mirror.url("http"))]).await;
    for (host, status) in [
        ("cam-01.devices.example", 200),
        ("api--cam-01.devices.example", 200),
        ("nothing--cam-01.devices.example", 404),
        ("cam-02.devices.example", 403),
        ("a.cam-01.devices.example", 421),
    ] {
        let answer = stage.cloud.user().get("/a/../b").header("host", host).bearer(&stage.token).send().await;
        assert_eq!(answer.status.as_u16(), status, "{host}");
        if status == 200 {
            let text = answer.text().await;
            assert!(text.starts_with("GET /a/../b HTTP/1.1\r\n"), "{text}");
            assert_eq!(head(&text)["host"], [host]);
        }
    }
}

#[tokio::test]
async fn a_service_whose_owner_set_its_host_is_never_called_otherwise() {
    let mirror = Service::mirror().await;
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://shop.example/next\r\nContent-Length: 0\r\n\r\n";
    let redirecting = Service::answering(moved).await;
    let cloud = Cloud::plan().config("device_domain = \"devices.example\"").start().await;
    let service = |name: &str, url: String| {
        format!("[[service]]\nname = \"{name}\"\nto = \"{url}\"\nhost = \"shop.example\"\n")
    };
    let config = service("web", mirror.url("http")) + &service("moved", redirecting.url("http"));
    let _device = EnrolledDevice::enrol(&cloud, "cam-01").await.run_configured(&config);
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    let token = cloud.token("cam-01", "operator").await;
    let ask = |host: &str, path: &str| {
        let call = cloud.user().get(path).header("host", host).bearer(&token);
        async move { call.send().await }
    };
    for (host, path) in [("localhost", "/d/cam-01/web/"), ("cam-01.devices.example", "/")] {
        let seen = head(&ask(host, path).await.expect(200).await.text().await);
        assert_eq!(seen["host"], ["shop.example"], "{host}");
    }
    for (host, path, location) in [
        ("localhost", "/d/cam-01/moved/", "/d/cam-01/moved/next"),
        ("moved--cam-01.devices.example", "/", "https://moved--cam-01.devices.example/next"),
    ] {
        assert_eq!(ask(host, path).await.expect(302).await.header("location"), location, "{host}");
    }
}

#[tokio::test]
async fn a_request_that_two_readers_could_read_differently_is_refused() {
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("web", mirror.url("http"))]).await;
    let smuggled = "GET /d/cam-01/web/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = |lines: &str, body: &str| {
        stage.head("POST /d/cam-01/web/first", &format!("Connection: close\r\n{lines}")) + body
    };
    let ambiguous = [
        (
            "CL.TE",
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}")),
        ),
        (
            "TE.CL",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                &format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
            ),
        ),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 44\r\n", smuggled)),
        ("a list of lengths", post("Content-Length: 0, 44\r\n", smuggled)),
        ("signed length", post("Content-Length: +4\r\n", "abcd")),
        ("hex length", post("Content-Length: 0x4\r\n", "abcd")),
        ("empty length", post("Content-Length:\r\n", "abcd")),
        ("negative length", post("Content-Length: -1\r\n", "abcd")),
        (
            "TE.TE",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                &format!("0\r\n\r\n{smuggled}"),
            ),
        ),
        ("TE xchunked", post("Transfer-Encoding: xchunked\r\n", &format!("0\r\n\r\n{smuggled}"))),
        ("TE with a space", post("Transfer-Encoding : chunked\r\n", &format!("0\r\n\r\n{smuggled}"))),
        ("TE twice in one", post("Transfer-Encoding: chunked, chunked\r\n", &format!("0\r\n\r\n{smuggled}"))),
        ("TE not last", post("Transfer-Encoding: chunked, gzip\r\n", &format!("0\r\n\r\n{smuggled}"))),
        ("folded header", post("X-Folded: a\r\n b\r\nContent-Length: 0\r\n", "")),
        ("NUL in a value", post("X-Nul: a\0b\r\nContent-Length: 0\r\n", "")),
        ("CR in a value", post("X-Cr: a\rb\r\nContent-Length: 0\r\n", "")),
        ("line without colon", post("no colon here\r\nContent-Length: 0\r\n", "")),
        ("space before colon", post("X-Space : a\r\nContent-Length: 0\r\n", "")),
        ("bad chunk size", post("Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n")),
        ("huge chunk size", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n")),
        ("two hosts", stage.head("GET /d/cam-01/web/first", "Host: other.example\r\nConnection: close\r\n")),
        (
            "no host",
            format!(
                "GET /d/cam-01/web/first HTTP/1.1\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
                stage.token
            ),
        ),
        (
            "HTTP/1.0 chunked",
            post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1),
        ),
        ("HTTP/0.9", format!("GET /d/cam-01/web/first\r\n\r\n{smuggled}")),
        ("unknown version", stage.head("GET /d/cam-01/web/first", "").replacen("HTTP/1.1", "HTTP/3.7", 1)),
        ("another expectation", post("Expect: 200-ok\r\nContent-Length: 1\r\n", "x")),
        (
            "h2c",
            post("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0\r\n", "").replacen(
                "Connection: close",
                "Connection: Upgrade, HTTP2-Settings, close",
                1,
            ),
        ),
    ];
    for (name, request) in ambiguous {
        let before = mirror.connections();
        let answer = stage.cloud.user().exchange(&request).await;
        let answers = answer.matches("HTTP/1.1 ").count();
        let arrived: Vec<String> = mirror.seen().into_iter().skip(before).collect();
        // Either a no, or exactly one request arrives and it has exactly one answer.
        let is_refused =
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5") || answer.is_empty();
        let is_one = answer.starts_with("HTTP/1.1 200") && answers == 1 && arrived.len() == 1;
        assert!(arrived.iter().all(|seen| beyond(seen).is_empty()), "{name}: {arrived:?}");
        assert!(is_refused || is_one, "{name}: {answer}");
        assert!(arrived.len() <= 1, "{name}: {arrived:?}");
    }
    stage.get("/web/").send().await.expect(200).await;
}

#[tokio::test]
async fn connect_trace_and_upgrades_that_are_no_websocket_open_no_raw_path() {
    let answers_200 = Service::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    let mirror = Service::mirror().await;
    let stage = Stage::set(&[("plain", answers_200.url("http")), ("web", mirror.url("http"))]).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let second = "GET /hidden HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n";
    for service in ["plain", "web"] {
        let request = stage.head(&format!("GET /d/cam-01/{service}/"), upgrade) + second;
        let answer = stage.cloud.user().exchange(request).await;
        assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
    }
    for seen in answers_200.seen().into_iter().chain(mirror.seen()) {
        assert!(!seen.contains("/hidden"), "a second request came through: {seen}");
    }
    let before = mirror.connections();
    for line in
        ["CONNECT cam-01:80", "TRACE /d/cam-01/web/", "GET http://localhost/d/cam-01/web/", "OPTIONS *"]
    {
        let answer = stage.cloud.user().exchange(stage.head(line, "Connection: close\r\n")).await;
        let is_absolute = line.starts_with("GET http");
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5") || is_absolute,
            "{line}: {answer}"
        );
    }
    assert!(mirror.connections() <= before + 1, "only the absolute form may be a request to the device");
    let upgrade_with_body =
        stage.head("POST /d/cam-01/web/", &format!("{upgrade}Content-Length: 3\r\n")) + "abc";
    let answer = stage.cloud.user().exchange(upgrade_with_body).await;
    assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
}

#[tokio::test]
async fn no_spelling_of_a_service_escapes_to_another_target() {
    let canary = Service::mirror().await;
    let web = web().await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", canary.address());
    let redirecting = Service::answering(redirect).await;
    let stage = Stage::set(&[("web", web.url("http")), ("redirecting", redirecting.url("http"))]).await;
    let port = canary.address().port();
    for service in [
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1%3A{port}"),
        format!("@127.0.0.1:{port}"),
        format!("web@127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "..".into(),
        "%2e%2e".into(),
        "web%2f..%2f..".into(),
        "WEB".into(),
        "web%00".into(),
        "tcpmux.agent".into(),
    ] {
        let request = stage.head(&format!("GET /d/cam-01/{service}/"), "Connection: close\r\n");
        let answer = stage.cloud.user().exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{service}: {answer}");
    }
    let followed = stage.get("/redirecting/").send().await;
    assert_eq!(followed.status, 302, "told to the client, followed by nobody");
    assert_eq!(canary.connections(), 0, "nothing came to what is not a service");
}

#[tokio::test]
async fn browsers_of_named_origins_may_call_and_no_others() {
    let web = web().await;
    let cloud = Cloud::plan().config("[cors]\norigins = [\"https://app.example.com\"]").start().await;
    let stage = Stage::on(cloud, &[("web", web.url("http"))]).await;
    for (origin, is_allowed) in [("https://app.example.com", true), ("https://evil.example.com", false)] {
        for path in ["/d/cam-01/web/method", "/v1/me"] {
            let preflight = stage.cloud.user().call(http::Method::OPTIONS, path).header("origin", origin);
            let preflight = preflight.header("access-control-request-method", "POST");
            let preflight = preflight.header("access-control-request-headers", "authorization").send().await;
            let allowed = preflight.header("access-control-allow-origin").to_owned();
            assert_eq!(allowed == origin, is_allowed, "{path}: {:?}", preflight.headers);
            assert_ne!(allowed, "*");
            if is_allowed {
                assert!(preflight.status.is_success(), "before any token is asked for: {}", preflight.status);
            }
        }
        let answer = stage.get("/web/method").header("origin", origin).send().await;
        assert_eq!(
            answer.header("access-control-allow-origin") == origin,
            is_allowed,
            "{:?}",
            answer.headers
        );
    }
}

#[tokio::test]
async fn whatever_a_caller_writes_is_one_line_of_the_log() {
    let web = web().await;
    let stage = Stage::set(&[("web", web.url("http"))]).await;
    let user = stage.cloud.user();
    let nasty = [
        format!("/d/cam-01/web/{}", "%0d%0a%1b[31m"),
        format!("/d/cam-01/web/{}", "x".repeat(60_000)),
        "/d/cam-01\u{1b}[2J/web/".to_owned(),
        "/d/\u{202e}cam/web/".to_owned(),
    ];
    for path in &nasty {
        let lines = format!("User-Agent: a\tc{}\r\nConnection: close\r\n", "y".repeat(2000));
        user.exchange(stage.head(&format!("GET {path}"), &lines)).await;
    }
    user.exchange(stage.head("GET /d/cam-01/web/", "User-Agent: a\u{1b}[31mb\r\nConnection: close\r\n"))
        .await;
    user.exchange(b"GET /d/\xff\xfe/web/ HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \xff\xfe\r\nConnection: close\r\n\r\n").await;
    stage.get("/web/method").send().await.expect(200).await;
    let log = stage.cloud.log();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}'), "no control character comes through");
    let mut requests = 0;
    for line in log.lines().filter(|line| line.starts_with('{')) {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line.len() < 8192, "{} bytes in a line", line.len());
        requests += usize::from(value["message"] == "request");
    }
    assert!(requests >= 3, "the requests are in the log: {requests}");
}

#[tokio::test]
async fn a_service_beyond_loopback_is_refused_unless_the_device_allows_it() {
    let cloud = Cloud::start().await;
    let enrolled = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let mut device: Device = enrolled.run(&[("lan", "http://192.0.2.1:80".into())]);
    let code = device.process().exit_code(Duration::from_secs(10)).await;
    assert_eq!(code, 78, "{}", device.log());
    eventually("it says what to do", || async {
        let log = device.log();
        if log.contains("allow_lan") { Ok(()) } else { Err(log) }
    })
    .await;
}

/// What a service got beyond the one request that began its connection.
fn beyond(seen: &str) -> &str {
    let (head, mut rest) = seen.split_once("\r\n\r\n").unwrap_or((seen, ""));
    if !head.contains("transfer-encoding: chunked") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        return rest.get(length.map_or(0, |text| text.parse().unwrap())..).unwrap_or_default();
    }
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = after.get(size + 2..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    rest
}

/// Names and values of a head, names in lower case.
fn head(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    for line in text.split("\r\n\r\n").next().unwrap().lines().skip(1) {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line} in {text}"));
        all.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    all
}
