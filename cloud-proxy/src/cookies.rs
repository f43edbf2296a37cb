//! Cookies: ours stay here, the device's stay under the device. Pure.

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// The client's cookies for the device in one header, as HTTP/1.1 wants them (RFC 9113 §8.2.3), without ours.
pub(crate) fn for_device(client: &HeaderMap) -> Option<HeaderValue> {
    let mut joined: Vec<u8> = Vec::new();
    for line in client.get_all(COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            if pair.is_empty() || is_ours(name(pair)) {
                continue;
            }
            if !joined.is_empty() {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(pair);
        }
    }
    if joined.is_empty() { None } else { HeaderValue::from_bytes(&joined).ok() }
}

/// A `Set-Cookie` of a device as the client may have it; `None` where it may not have it at all.
///
/// `Domain` is dropped, so that a cookie never reaches another device or the cloud. Under a prefix (the path form)
/// the path is moved there; a `__Host-` cookie cannot live under a prefix, and ours cannot be overwritten.
pub(crate) fn from_device(value: &HeaderValue, prefix: Option<&str>) -> Option<HeaderValue> {
    let mut attributes = value.as_bytes().split(|byte| *byte == b';');
    let pair = attributes.next()?.trim_ascii();
    let name = name(pair);
    let is_host_bound = starts_with_ignoring_case(name, b"__Host-");
    if name.is_empty() || is_ours(name) || (prefix.is_some() && is_host_bound) {
        return None;
    }
    let mut kept = pair.to_vec();
    let mut path: &[u8] = b"";
    for attribute in attributes {
        let attribute = attribute.trim_ascii();
        let (key, value) = split_at_equals(attribute);
        if key.eq_ignore_ascii_case(b"domain") || attribute.is_empty() {
            continue;
        }
        if prefix.is_some() && key.eq_ignore_ascii_case(b"path") {
            path = value;
            continue;
        }
        kept.extend_from_slice(b"; ");
        kept.extend_from_slice(attribute);
    }
    if let Some(prefix) = prefix {
        kept.extend_from_slice(b"; Path=");
        kept.extend_from_slice(prefix.as_bytes());
        // `/` itself is the whole prefix; anything that is no absolute path means the default, made explicit.
        if path.len() > 1 && path.starts_with(b"/") {
            kept.extend_from_slice(path);
        }
    }
    HeaderValue::from_bytes(&kept).ok()
}

/// The value of a cookie of ours that a request brings; `None` if it is not there, or there twice.
pub(crate) fn ours<'a>(client: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = None;
    for line in client.get_all(COOKIE) {
        for pair in line.to_str().ok()?.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else { continue };
            if key == name && found.replace(value).is_some() {
                return None;
            }
        }
    }
    found
}

fn name(pair: &[u8]) -> &[u8] {
    split_at_equals(pair).0
}

fn split_at_equals(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (text[..at].trim_ascii(), text[at + 1..].trim_ascii()),
        None => (text, b""),
    }
}

fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|prefix| starts_with_ignoring_case(name, prefix))
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// How the names of all cookies of the cloud begin.
const OURS: [&[u8]; 3] = [b"__Host-tcpmux", b"__Secure-tcpmux", b"tcpmux"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_arrive_in_one_line_and_without_ours() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; __Host-tcpmux-login=secret", "b=2;c=3", " TCPMUX_x=1 ", "d"] {
            headers.append(COOKIE, line.parse().unwrap());
        }
        assert_eq!(for_device(&headers).unwrap(), "a=1; b=2; c=3; d");
        headers.insert(COOKIE, "__Secure-TCPMUX=1".parse().unwrap());
        assert_eq!(for_device(&headers), None);
    }

    #[test]
    fn a_device_sets_cookies_for_itself_alone() {
        let rewritten = |text: &str, prefix: Option<&str>| {
            from_device(&text.parse().unwrap(), prefix).map(|value| value.to_str().unwrap().to_owned())
        };
        let under = |text: &str| rewritten(text, Some("/d/cam/web"));
        assert_eq!(under("a=b").unwrap(), "a=b; Path=/d/cam/web");
        assert_eq!(under("a=b; Path=/").unwrap(), "a=b; Path=/d/cam/web");
        assert_eq!(
            under("a=b; path=/x/y; Secure; DOMAIN=.example.com; HttpOnly").unwrap(),
            "a=b; Secure; HttpOnly; Path=/d/cam/web/x/y"
        );
        assert_eq!(under("a=b; Path=/x; Path=evil").unwrap(), "a=b; Path=/d/cam/web");
        assert_eq!(under("__Host-a=b; Secure; Path=/"), None);
        assert_eq!(under("__host-tcpmux=evil"), None);
        assert_eq!(under("=x"), None);
        assert_eq!(rewritten("a=b; Domain=x; Path=/q", None).unwrap(), "a=b; Path=/q");
        assert_eq!(rewritten("__Host-a=b; Secure; Path=/", None).unwrap(), "__Host-a=b; Secure; Path=/");
        assert_eq!(rewritten("tcpmux-login=x", None), None);
    }
}
