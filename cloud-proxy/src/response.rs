//! From the device's response head to the client's. Pure.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ALT_SVC, CONNECTION, CONTENT_LENGTH,
        CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use model::{Code, Refusal, RequestId};
use tcpmux_proto::LocalHost;

use crate::{
    cookies,
    headers::{Nominated, announced_trailers, is_reserved, list},
    location,
    target::Asked,
};

/// What an answer is the answer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) asked: &'a Asked,
    /// What the service takes for its own name.
    pub(crate) host: Option<&'a LocalHost>,
    pub(crate) request_id: &'a RequestId,
}

/// The response headers for the client. An answer that is framed in two ways, or in a way that is not understood,
/// is refused as broken HTTP.
pub(crate) fn for_client(device: &HeaderMap, source: &Source<'_>) -> Result<HeaderMap, Refusal> {
    let Source { asked, host, request_id } = *source;
    let broken = |why: &'static str| Refusal::new(Code::ServiceRefused, why);
    let nominated = Nominated::read(device)
        .map_err(|_| broken("the device's service sent an invalid Connection header"))?;
    let is_coded = device.contains_key(TRANSFER_ENCODING);
    if is_coded && list(device, &TRANSFER_ENCODING) != ["chunked"] {
        return Err(broken("the device's service used a transfer coding other than chunked"));
    }
    let mut headers = HeaderMap::with_capacity(device.len() + 4);
    for (name, value) in device {
        if passes(name, asked, &nominated) && !(is_coded && *name == CONTENT_LENGTH) {
            headers.append(name.clone(), value.clone());
        }
    }
    for cookie in device.get_all(SET_COOKIE) {
        if let Some(cookie) = cookies::from_device(cookie, asked.prefix.as_deref()) {
            headers.append(SET_COOKIE, cookie);
        }
    }
    if let Some(trailers) = announced_trailers(device, &nominated) {
        headers.insert(TRAILER, trailers);
    }
    if let Some(location) = device.get(LOCATION).and_then(|at| location::rewritten(at, asked, host)) {
        headers.insert(LOCATION, location);
    }
    if asked.prefix.is_some() {
        // This origin is ours too: nothing that a device sends may run in it with our rights.
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    headers.insert(PROXY_STATUS, HeaderValue::from_static("tcpmux"));
    if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert("x-request-id", id);
    }
    Ok(headers)
}

/// The headers of a device's 101, which keeps what names the protocol. Refused unless it is a WebSocket's.
pub(crate) fn for_upgrade(device: &HeaderMap, source: &Source<'_>) -> Result<HeaderMap, Refusal> {
    let is_upgrade = list(device, &CONNECTION).iter().any(|option| option == "upgrade");
    if !is_upgrade || list(device, &UPGRADE) != ["websocket"] {
        let detail = "the device's service switched to another protocol than the one asked for";
        return Err(Refusal::new(Code::ServiceRefused, detail));
    }
    let mut headers = for_client(device, source)?;
    for framing in [CONTENT_LENGTH, TRAILER] {
        headers.remove(framing);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(headers)
}

fn passes(name: &HeaderName, asked: &Asked, nominated: &Nominated) -> bool {
    let replaced = [SET_COOKIE, PROXY_STATUS];
    !replaced.contains(name)
        && !nominated.is_hop_by_hop(name)
        && !is_reserved(name)
        && (asked.prefix.is_none() || !is_for_own_origin(name))
        // Its `cookies` mean those of the whole registered domain, the cloud's login among them.
        && name.as_str() != "clear-site-data"
}

/// Headers that speak for a whole origin; in the path form the origin is the cloud's.
fn is_for_own_origin(name: &HeaderName) -> bool {
    [
        ALT_SVC,
        STRICT_TRANSPORT_SECURITY,
        LOCATION,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ]
    .contains(name)
        || OF_ORIGIN.contains(&name.as_str())
}

const OF_ORIGIN: [&str; 8] = [
    "clear-site-data",
    "nel",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "public-key-pins",
    "expect-ct",
    "origin-agent-cluster",
];

/// Says whose error an answer is (RFC 9209).
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
