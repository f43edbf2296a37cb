use http::Request;
use model::{DeviceRef, Level, Target, TenantName};

use super::*;
use crate::target::{self, Hosts};

fn parts(method: &str, version: Version, lines: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri("/d/cam/web/x").version(version);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn shape(method: &str, lines: &[(&str, &str)], body_is_empty: bool) -> Result<Shape, Refusal> {
    Shape::read(&parts(method, Version::HTTP_11, lines), body_is_empty)
}

fn refused(method: &str, lines: &[(&str, &str)], body_is_empty: bool) {
    let refusal = shape(method, lines, body_is_empty).expect_err(&format!("{method} {lines:?}"));
    assert_eq!(refusal.code, Code::BadRequest, "{method} {lines:?}");
}

/// What a device would see of these client headers.
fn seen(host: &str, lines: &[(&str, &str)], trace: [u8; 16]) -> HeaderMap {
    seen_by(None, host, lines, trace)
}

/// The same, at a service with a name of its own.
fn seen_by(own: Option<&LocalHost>, host: &str, lines: &[(&str, &str)], trace: [u8; 16]) -> HeaderMap {
    let hosts =
        Hosts { cloud: vec!["cloud.example.com".into()], device_domain: Some("dev.example.com".into()) };
    let mut all = vec![("host", host)];
    all.extend_from_slice(lines);
    let parts = parts("GET", Version::HTTP_11, &all);
    let asked = target::read(&hosts, &parts).unwrap();
    let device = DeviceRef::new(TenantName::default(), asked.device.clone());
    let mut admission = Admission::published(Target { device, service: asked.service.clone() });
    admission.subject = "usr_ä b%".into();
    admission.level = Level::Viewer;
    let trace = Trace::of(&parts.headers, trace, [2; 8]);
    let request_id = RequestId::from_random([5; 16]);
    let peer = "192.0.2.7:4711".parse().unwrap();
    let (asked, admission, request_id, trace) = (&asked, &admission, &request_id, &trace);
    let ours = Ours { asked, admission, peer, request_id, trace, host: own };
    for_device(&parts.headers, &Shape::read(&parts, true).unwrap(), &ours)
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_request_that_can_mean_two_things_is_refused() {
    refused("POST", &[("content-length", "3"), ("transfer-encoding", "chunked")], false);
    refused("POST", &[("content-length", "3"), ("content-length", "3")], false);
    for length in ["3, 3", "+3", "-3", "0x3", "3 4", "", "three", "3."] {
        refused("POST", &[("content-length", length)], false);
    }
    for coding in ["gzip, chunked", "chunked, chunked", "xchunked", "identity", "chunked;x=1", "\"chunked\""]
    {
        refused("POST", &[("transfer-encoding", coding)], false);
    }
    refused("POST", &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false);
    refused("GET", &[("x_forwarded_for", "127.0.0.1")], true);
    for nominated in ["host", "close, Content-Length", "transfer-encoding"] {
        refused("GET", &[("connection", nominated)], true);
    }
    assert_eq!(shape("POST", &[("content-length", "3")], false).unwrap().framing, Framing::Length);
    assert_eq!(shape("POST", &[("transfer-encoding", "Chunked")], false).unwrap().framing, Framing::Chunked);
    assert_eq!(shape("GET", &[], true).unwrap().framing, Framing::None);
}

#[test]
fn connect_and_trace_are_refused() {
    refused("CONNECT", &[], true);
    refused("TRACE", &[], true);
}

#[test]
fn a_websocket_is_the_only_upgrade_and_has_no_body() {
    let upgrade = |protocol: &'static str| [("connection", "Upgrade"), ("upgrade", protocol)];
    assert_eq!(shape("GET", &upgrade("WebSocket"), true).unwrap().exchange, Exchange::WebSocket);
    for protocol in ["h2c", "websocket, h2c", "TLS/1.0", "websocket/13", ""] {
        refused("GET", &upgrade(protocol), true);
    }
    refused("POST", &upgrade("websocket"), true);
    refused("GET", &[("upgrade", "websocket")], true);
    refused("GET", &[("connection", "upgrade")], true);
    refused(
        "GET",
        &[
            ("connection", "upgrade, http2-settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ],
        true,
    );
    refused("GET", &[("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "5")], false);
    refused(
        "GET",
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("transfer-encoding", "chunked")],
        false,
    );
    let old = parts("GET", Version::HTTP_10, &upgrade("websocket"));
    assert!(Shape::read(&old, true).is_err());
}

#[test]
fn the_only_expectation_is_to_continue() {
    assert!(
        shape("POST", &[("expect", "100-Continue"), ("content-length", "1")], false)
            .unwrap()
            .expects_continue
    );
    assert_eq!(shape("POST", &[("expect", "200-ok")], true).unwrap_err().http_status(), 417);
    assert_eq!(shape("POST", &[("expect", "100-continue, x")], true).unwrap_err().http_status(), 417);
}

#[test]
fn methods_and_upgrades_ask_for_what_they_are() {
    let class = |method: &str| shape(method, &[], true).unwrap().class(&method.parse().unwrap());
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(class(method), MethodClass::Read);
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"] {
        assert_eq!(class(method), MethodClass::Write);
    }
    let websocket = shape("GET", &[("connection", "upgrade"), ("upgrade", "websocket")], true).unwrap();
    assert_eq!(websocket.class(&Method::GET), MethodClass::WebSocket);
}

#[test]
fn ours_arrive_once_whatever_the_client_sends() {
    let spoofed = [
        ("X-Forwarded-For", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-User", "root"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Real-IP", "10.0.0.1"),
        ("X-Request-Id", "mine"),
        ("X-Remote-User", "root"),
        ("Remote-User", "root"),
        ("X-Tcpmux-User", "root"),
        ("X-Tcpmux-Level", "owner"),
        ("X-Tcpmux-Anything", "1"),
        ("X.Tcpmux.Level", "owner"),
        ("Client-Cert", ":AAAA:"),
        ("X-SSL-Client-Verify", "SUCCESS"),
        ("traceparent", "nonsense"),
        ("tracestate", "a=b"),
        ("Proxy", "http://evil.example"),
    ];
    let connection: Vec<&str> = spoofed.iter().map(|(name, _)| *name).collect();
    let connection = connection.join(", ");
    for nominates in [false, true] {
        let mut lines = spoofed.to_vec();
        if nominates {
            lines.push(("connection", &connection));
        }
        let headers = seen("cloud.example.com:8443", &lines, [1; 16]);
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "cloud.example.com:8443"),
            ("x-forwarded-prefix", "/d/cam/web"),
            ("x-request-id", "req_05050505050505050505050505050505"),
            ("x-tcpmux-user", "usr_%C3%A4%20b%25"),
            ("x-tcpmux-level", "viewer"),
            ("traceparent", "00-01010101010101010101010101010101-0202020202020202-00"),
            ("host", "localhost"),
            ("connection", "close"),
        ] {
            assert_eq!(all(&headers, name), [value], "{name}");
        }
        assert_eq!(headers.len(), 10, "{headers:?}");
    }
}

#[test]
fn the_callers_token_and_our_cookies_stay_here() {
    let headers = seen(
        "cloud.example.com",
        &[
            ("authorization", "Bearer canary"),
            ("proxy-authorization", "canary"),
            ("cookie", "__Host-tcpmux=canary; a=1"),
            ("cookie", "b=2"),
            ("x-device-authorization", "Basic ZGV2aWNl"),
        ],
        [1; 16],
    );
    assert!(!format!("{headers:?}").contains("canary"));
    assert_eq!(all(&headers, "cookie"), ["a=1; b=2"]);
    assert_eq!(all(&headers, "authorization"), ["Basic ZGV2aWNl"]);
    assert!(!headers.contains_key("x-device-authorization"));
}

#[test]
fn what_belongs_to_a_connection_ends_there() {
    let headers = seen(
        "cloud.example.com",
        &[
            ("connection", "keep-alive, X-Private, TE"),
            ("keep-alive", "5"),
            ("x-private", "1"),
            ("te", "gzip, trailers"),
            ("trailer", "x-sum, x-tcpmux-user"),
            ("proxy-connection", "keep-alive"),
            ("accept", "a/b"),
            ("accept", "c/d"),
        ],
        [1; 16],
    );
    assert_eq!(all(&headers, "te"), ["trailers"]);
    assert_eq!(all(&headers, "connection"), ["close, te"]);
    assert_eq!(all(&headers, "trailer"), ["x-sum"]);
    assert_eq!(all(&headers, "accept"), ["a/b", "c/d"]);
    for gone in ["keep-alive", "x-private", "proxy-connection"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[test]
fn in_the_host_form_the_device_sees_the_clients_host() {
    let headers = seen("cam.dev.example.com:8443", &[], [1; 16]);
    assert_eq!(all(&headers, "host"), ["cam.dev.example.com:8443"]);
    assert!(!headers.contains_key("x-forwarded-prefix"));
}

#[test]
fn a_service_is_addressed_by_its_own_name_in_the_path_form_and_always_if_its_owner_set_it() {
    let own = |fixed| LocalHost { authority: "127.0.0.1:8080".parse().unwrap(), fixed };
    let (path, host) = ("cloud.example.com", "cam.dev.example.com");
    for (own, asked, expected) in [
        (None, path, "localhost"),
        (None, host, host),
        (Some(own(false)), path, "127.0.0.1:8080"),
        (Some(own(false)), host, host),
        (Some(own(true)), path, "127.0.0.1:8080"),
        (Some(own(true)), host, "127.0.0.1:8080"),
    ] {
        let headers = seen_by(own.as_ref(), asked, &[], [1; 16]);
        assert_eq!(all(&headers, "host"), [expected], "{own:?} {asked}");
        assert_eq!(all(&headers, "x-forwarded-host"), [asked]);
    }
}

#[test]
fn a_clients_trace_goes_on() {
    let line = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = seen("cloud.example.com", &[("traceparent", line), ("tracestate", "a=b")], [1; 16]);
    assert_eq!(all(&headers, "traceparent"), ["00-0af7651916cd43dd8448eb211c80319c-0202020202020202-01"]);
    assert_eq!(all(&headers, "tracestate"), ["a=b"]);
}
