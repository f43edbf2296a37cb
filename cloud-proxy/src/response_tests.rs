use http::uri::PathAndQuery;

use super::*;
use crate::target::Form;

fn asked(form: Form) -> Asked {
    Asked {
        form,
        device: "cam".parse().unwrap(),
        service: "web".parse().unwrap(),
        forwarded: PathAndQuery::from_static("/a/b"),
        prefix: (form == Form::Path).then(|| "/d/cam/web".to_owned()),
        authority: "cloud.example.com".parse().unwrap(),
    }
}

fn lines(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn seen(form: Form, from_device: &[(&'static str, &'static str)]) -> Result<HeaderMap, Refusal> {
    let source = Source { asked: &asked(form), host: None, request_id: &RequestId::from_random([5; 16]) };
    for_client(&lines(from_device), &source)
}

const OF_ITS_ORIGIN: [(&str, &str); 9] = [
    ("clear-site-data", "\"*\""),
    ("strict-transport-security", "max-age=1; includeSubDomains"),
    ("alt-svc", "h3=\":443\""),
    ("nel", "{}"),
    ("report-to", "{}"),
    ("service-worker-allowed", "/"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("content-security-policy", "default-src 'self'"),
];

#[test]
fn in_the_path_form_a_device_cannot_speak_for_our_origin() {
    let headers = seen(Form::Path, &OF_ITS_ORIGIN).unwrap();
    let policies: Vec<_> = headers.get_all("content-security-policy").iter().collect();
    assert_eq!(policies, ["default-src 'self'", "sandbox"]);
    for (name, _) in &OF_ITS_ORIGIN[..8] {
        assert!(!headers.contains_key(*name), "{name}");
    }
}

#[test]
fn in_the_host_form_the_origin_is_the_devices_own() {
    let headers = seen(Form::Host, &OF_ITS_ORIGIN).unwrap();
    for (name, value) in OF_ITS_ORIGIN {
        // What it clears is the whole registered domain's, the cloud's login among it.
        let wanted = Some(value).filter(|_| name != "clear-site-data");
        assert_eq!(headers.get(name).map(|found| found.to_str().unwrap()), wanted, "{name}");
    }
    assert_eq!(headers.get_all("content-security-policy").iter().count(), 1);
}

#[test]
fn redirects_and_cookies_stay_under_the_prefix() {
    let from_device = [
        ("location", "/login"),
        ("set-cookie", "a=1; Path=/; Domain=example.com"),
        ("set-cookie", "tcpmux=1"),
    ];
    let headers = seen(Form::Path, &from_device).unwrap();
    assert_eq!(headers["location"], "/d/cam/web/login");
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/d/cam/web"]);
    let headers = seen(Form::Host, &from_device).unwrap();
    assert_eq!(headers["location"], "/login");
    assert_eq!(headers["set-cookie"], "a=1; Path=/");
}

#[test]
fn whose_answer_it_is_is_said_by_us_alone() {
    let from_device = [
        ("proxy-status", "tcpmux; error=x"),
        ("x-request-id", "theirs"),
        ("x-tcpmux-user", "root"),
        ("server", "nginx"),
    ];
    let headers = seen(Form::Host, &from_device).unwrap();
    assert_eq!(headers["proxy-status"], "tcpmux");
    assert_eq!(headers["x-request-id"], "req_05050505050505050505050505050505");
    assert!(!headers.contains_key("x-tcpmux-user"));
    assert_eq!(headers["server"], "nginx");
}

#[test]
fn framing_is_ours_to_set_and_broken_framing_is_refused() {
    let headers = seen(
        Form::Host,
        &[
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("trailer", "x-sum, set-cookie"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
        ],
    )
    .unwrap();
    for gone in ["transfer-encoding", "content-length", "connection", "x-hop", "keep-alive"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers["trailer"], "x-sum");
    assert_eq!(seen(Form::Host, &[("content-length", "5")]).unwrap()["content-length"], "5");
    for coding in ["gzip", "gzip, chunked", "chunked, gzip"] {
        let refusal = seen(Form::Host, &[("transfer-encoding", coding)]).unwrap_err();
        assert_eq!(refusal.code, Code::ServiceRefused, "{coding}");
    }
}

#[test]
fn only_a_switch_to_websocket_is_one() {
    let id = RequestId::from_random([5; 16]);
    let switch = |from_device: &[(&'static str, &'static str)]| {
        let source = Source { asked: &asked(Form::Path), host: None, request_id: &id };
        for_upgrade(&lines(from_device), &source)
    };
    let good = [
        ("connection", "Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-accept", "x"),
        ("content-length", "0"),
    ];
    let headers = switch(&good).unwrap();
    assert_eq!(
        (&headers["connection"], &headers["upgrade"]),
        (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
    );
    assert_eq!(headers["sec-websocket-accept"], "x");
    assert!(!headers.contains_key("content-length"));
    for bad in [
        &[("connection", "upgrade"), ("upgrade", "h2c")][..],
        &[("connection", "upgrade")],
        &[("upgrade", "websocket")],
        &[],
    ] {
        assert_eq!(switch(bad).unwrap_err().code, Code::ServiceRefused);
    }
}
