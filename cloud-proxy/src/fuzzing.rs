//! Targets of the fuzzer in this room: what a stranger's or a device's HTTP head may not do, whatever its bytes.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION,
        SET_COOKIE, TRANSFER_ENCODING,
    },
    request::Parts,
};
use model::{DeviceRef, RequestId, Target};
use url::Url;

use crate::{
    admit::Admission,
    cookies,
    headers::filter_trailers,
    request::{Ours, Shape, for_device},
    response::{Source, for_client, for_upgrade},
    target::{self, Asked, Form, Hosts},
    tickets,
    trace::Trace,
};

/// A request target in the first line, its `Host` fields in the others: what is forwarded is what stood behind the
/// prefix, byte for byte, and nothing that names a device goes past this proxy.
pub fn target(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = Request::builder().uri(lines.next().unwrap_or_default());
    for host in lines.take(3) {
        request = request.header(HOST, host);
    }
    let Ok(request) = request.body(()) else { return };
    let parts = request.into_parts().0;
    let Ok(asked) = target::read(&hosts(), &parts) else { return };
    assert!(target::claims(&hosts(), &parts), "what is read here is claimed here");
    assert!(asked.forwarded.as_str().starts_with('/') && !asked.authority.as_str().contains('@'));
    let whole = parts.uri.path_and_query().map_or("", |whole| whole.as_str());
    match (asked.form, &asked.prefix) {
        (Form::Host, None) => assert_eq!(asked.forwarded.as_str(), whole),
        (Form::Stream, None) => assert_eq!(asked.forwarded.as_str(), "/"),
        (Form::Path, Some(prefix)) => {
            assert_eq!(*prefix, format!("/d/{}/{}", asked.device, asked.service));
            let rest = whole.strip_prefix(prefix.as_str()).expect("the prefix is what came first");
            let is_same = asked.forwarded.as_str() == rest || asked.forwarded.as_str() == format!("/{rest}");
            assert!(is_same, "{rest} became {}", asked.forwarded);
        }
        other => panic!("a form with another's prefix: {other:?}"),
    }
    let without = tickets::without(&asked.forwarded);
    assert_eq!(without.path(), asked.forwarded.path());
}

/// A method in the first line, header fields in the others: the device gets one framing, one host, our word on who is
/// calling, and none of our secrets.
pub fn request_head(bytes: &[u8]) {
    let (first, fields) = head(bytes);
    let Ok(method) = Method::from_bytes(first.trim_ascii()) else { return };
    let parts = parts(method, fields);
    for body_is_empty in [true, false] {
        let Ok(shape) = Shape::read(&parts, body_is_empty) else { continue };
        let (admission, id) = (admission(), request_id());
        for asked in [asked(Form::Path), asked(Form::Host)] {
            let trace = Trace::of(&parts.headers, [1; 16], [2; 8]);
            let peer = ([192, 0, 2, 7], 4000).into();
            let ours = Ours {
                asked: &asked,
                admission: &admission,
                peer,
                request_id: &id,
                trace: &trace,
                host: None,
            };
            check_for_device(&for_device(&parts.headers, &shape, &ours));
        }
    }
    filtered(filter_trailers(parts.headers));
}

/// Header fields of a device's answer, one a line: no cookie of another host, no redirect out of the device's own
/// paths on the cloud's origin, one framing.
pub fn answer_head(bytes: &[u8]) {
    let (_, fields) = head(bytes);
    let id = request_id();
    for asked in [asked(Form::Path), asked(Form::Host)] {
        let source = Source { asked: &asked, host: None, request_id: &id };
        if let Ok(headers) = for_client(&fields, &source) {
            check_for_client(&headers, &asked);
        }
        if let Ok(headers) = for_upgrade(&fields, &source) {
            assert!(!headers.contains_key(CONTENT_LENGTH));
            check_for_client(&headers, &asked);
        }
    }
}

fn check_for_device(headers: &HeaderMap) {
    for one in [
        "host",
        "connection",
        "x-forwarded-for",
        "x-tcpmux-user",
        "x-tcpmux-level",
        "x-request-id",
        "traceparent",
    ] {
        assert_eq!(headers.get_all(one).iter().count(), 1, "{one}");
    }
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["x-tcpmux-user"], "ada%20l");
    let framings =
        headers.get_all(CONTENT_LENGTH).iter().count() + headers.get_all(TRANSFER_ENCODING).iter().count();
    assert!(framings <= 1, "framed twice");
    assert!(headers.keys().all(|name| !name.as_str().contains('_')));
    assert!(headers.get_all(AUTHORIZATION).iter().count() <= 1);
    assert!(["close", "close, te", "upgrade"].contains(&headers[CONNECTION].to_str().unwrap_or_default()));
    for secret in ["proxy-authorization", "x-device-authorization", "keep-alive"] {
        assert!(!headers.contains_key(secret), "{secret}");
    }
    if let Some(cookie) = headers.get(COOKIE) {
        let pairs = cookie.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        assert!(pairs.clone().all(|pair| !pair.is_empty()));
        let ours = cookies::for_device(headers).expect("what was kept is kept again");
        assert_eq!(ours, cookie, "none of ours among them");
    }
}

fn check_for_client(headers: &HeaderMap, asked: &Asked) {
    assert!(
        !(headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING)),
        "framed twice"
    );
    assert!(!headers.contains_key("clear-site-data"));
    assert_eq!(headers.get_all("proxy-status").iter().count(), 1);
    for cookie in headers.get_all(SET_COOKIE) {
        let mut attributes = cookie.as_bytes().split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
        let has_domain = attributes.clone().any(|attribute| starts_with(attribute, b"domain"));
        assert!(!has_domain || !attributes.any(|attribute| starts_with(attribute, b"domain=")), "{cookie:?}");
    }
    let Some(prefix) = &asked.prefix else { return };
    assert!(headers.get_all(CONTENT_SECURITY_POLICY).iter().any(|policy| policy == "sandbox"));
    for cookie in headers.get_all(SET_COOKIE) {
        let path = format!("; Path={prefix}");
        assert_eq!(String::from_utf8_lossy(cookie.as_bytes()).matches(&path).count(), 1, "{cookie:?}");
    }
    let page = Url::parse(&format!("https://{}{prefix}{}", asked.authority, asked.forwarded));
    let page = page.expect("a page of the device has an address");
    let Some(Ok(location)) = headers.get(LOCATION).map(HeaderValue::to_str) else { return };
    if let Ok(leads_to) = page.join(location)
        && leads_to.origin() == page.origin()
    {
        let path = leads_to.path();
        let is_under = path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        assert!(is_under, "{location} leads to {leads_to}");
    }
}

fn filtered(trailers: HeaderMap) {
    for never in ["set-cookie", "host", "content-length", "transfer-encoding", "location", "x-forwarded-for"]
    {
        assert!(!trailers.contains_key(never), "{never}");
    }
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The first line, and the fields that a parser would let through.
fn head(bytes: &[u8]) -> (&[u8], HeaderMap) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines.take(MOST_FIELDS) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    (first, headers)
}

fn parts(method: Method, fields: HeaderMap) -> Parts {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    parts.headers = fields;
    parts
}

fn hosts() -> Hosts {
    Hosts { cloud: vec!["cloud.example.com".into()], device_domain: Some("dev.example.com".into()) }
}

fn asked(form: Form) -> Asked {
    let prefix = (form == Form::Path).then(|| "/d/cam/web".to_owned());
    let authority = if prefix.is_some() { "cloud.example.com:8443" } else { "cam.dev.example.com:8443" };
    Asked {
        form,
        device: "cam".parse().expect("a name"),
        service: "web".parse().expect("a name"),
        forwarded: "/a/b?c".parse().expect("a path"),
        prefix,
        authority: authority.parse().expect("an authority"),
    }
}

fn admission() -> Admission {
    let device = DeviceRef::new("acme".parse().expect("a name"), "cam".parse().expect("a name"));
    let admission = Admission::published(Target { device, service: "web".parse().expect("a name") });
    Admission { subject: "ada l".into(), ..admission }
}

fn request_id() -> RequestId {
    RequestId::from_random([7; 16])
}

const MOST_FIELDS: usize = 32;
