//! From the client's request head to the device's: what is refused, what is dropped, what is ours. Pure.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    request::Parts,
};
use model::{Code, MethodClass, Refusal, RequestId};
use tcpmux_proto::LocalHost;

use crate::{
    admit::Admission,
    cookies,
    headers::{Nominated, announced_trailers, is_reserved, list, refuse_underscores},
    target::{Asked, Form},
    trace::{TRACEPARENT, TRACESTATE, Trace},
};

/// What kind of exchange a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// One request, one answer.
    Plain,
    /// An upgrade to a WebSocket (RFC 6455 §4.1).
    WebSocket,
}

/// How the body of a request is framed toward the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// As long as its one `Content-Length` says.
    Length,
    /// Chunked.
    Chunked,
}

/// A request that can mean only one thing.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) exchange: Exchange,
    pub(crate) framing: Framing,
    /// The client waits for a `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    nominated: Nominated,
}

impl Shape {
    /// Reads it. Whatever two servers could read differently is refused with 400 (RFC 9112 §6.3, §11.2).
    pub(crate) fn read(parts: &Parts, body_is_empty: bool) -> Result<Self, Refusal> {
        let refuse = |why: &'static str| Err(Refusal::new(Code::BadRequest, why));
        if parts.method == Method::CONNECT || parts.method == Method::TRACE {
            return refuse("CONNECT and TRACE are not forwarded");
        }
        refuse_underscores(&parts.headers)?;
        let nominated = Nominated::read(&parts.headers)?;
        let framing = framing(parts, body_is_empty)?;
        let exchange = exchange(parts, &nominated)?;
        if exchange == Exchange::WebSocket && (framing == Framing::Chunked || !body_is_empty) {
            return refuse("an upgrade request cannot have a body");
        }
        let expects_continue = match list(&parts.headers, &EXPECT).as_slice() {
            [] => false,
            [one] if one == "100-continue" => true,
            _ => {
                return Err(
                    Refusal::new(Code::BadRequest, "the only expectation is 100-continue").with_status(417)
                );
            }
        };
        Ok(Self { exchange, framing, expects_continue, nominated })
    }

    /// What the request asks for, as far as levels are concerned.
    pub(crate) fn class(&self, method: &Method) -> MethodClass {
        match (self.exchange, method) {
            (Exchange::WebSocket, _) => MethodClass::WebSocket,
            (_, &Method::GET | &Method::HEAD | &Method::OPTIONS) => MethodClass::Read,
            _ => MethodClass::Write,
        }
    }
}

fn framing(parts: &Parts, body_is_empty: bool) -> Result<Framing, Refusal> {
    let refuse = |why: &'static str| Err(Refusal::new(Code::BadRequest, why));
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return refuse("more than one Content-Length");
    }
    if length.is_some_and(|value| value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit)) {
        return refuse("the Content-Length is not a number");
    }
    let is_coded = parts.headers.contains_key(TRANSFER_ENCODING);
    if is_coded && list(&parts.headers, &TRANSFER_ENCODING) != ["chunked"] {
        return refuse("the only Transfer-Encoding is chunked, once");
    }
    match (length, is_coded) {
        (Some(_), true) => refuse("a request has a Content-Length or a Transfer-Encoding, not both"),
        (Some(_), false) => Ok(Framing::Length),
        (None, true) => Ok(Framing::Chunked),
        (None, false) if body_is_empty => Ok(Framing::None),
        // HTTP/2 needs no length.
        (None, false) => Ok(Framing::Chunked),
    }
}

fn exchange(parts: &Parts, nominated: &Nominated) -> Result<Exchange, Refusal> {
    let refuse = |why: &'static str| Err(Refusal::new(Code::BadRequest, why));
    if !parts.headers.contains_key(UPGRADE) {
        return if nominated.has("upgrade") {
            refuse("`Connection: upgrade` needs an Upgrade")
        } else {
            Ok(Exchange::Plain)
        };
    }
    if list(&parts.headers, &UPGRADE) != ["websocket"] {
        return refuse("the only upgrade is `websocket`");
    }
    if !nominated.has("upgrade") || parts.method != Method::GET || parts.version != Version::HTTP_11 {
        return refuse("a WebSocket begins with GET, HTTP/1.1 and `Connection: upgrade`");
    }
    Ok(Exchange::WebSocket)
}

/// What the proxy itself tells the device about a request.
#[derive(Debug)]
pub(crate) struct Ours<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) admission: &'a Admission,
    pub(crate) peer: SocketAddr,
    pub(crate) request_id: &'a RequestId,
    pub(crate) trace: &'a Trace,
    /// What the service takes for its own name.
    pub(crate) host: Option<&'a LocalHost>,
}

/// The request headers for the device: first the client's that may pass, then ours, each once.
pub(crate) fn for_device(client: &HeaderMap, shape: &Shape, ours: &Ours<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(client.len() + 10);
    for (name, value) in client {
        if passes(name, &shape.nominated, ours.trace) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(cookie) = cookies::for_device(client) {
        headers.insert(COOKIE, cookie);
    }
    if let Some(authorization) = client.get(DEVICE_AUTHORIZATION) {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    set_framing(&mut headers, client, shape);
    set_ours(&mut headers, ours);
    headers
}

fn passes(name: &HeaderName, nominated: &Nominated, trace: &Trace) -> bool {
    let replaced = [HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH, TRACEPARENT, DEVICE_AUTHORIZATION];
    !replaced.contains(name)
        && !nominated.is_hop_by_hop(name)
        && !is_reserved(name)
        && (*name != TRACESTATE || trace.continued)
}

fn set_framing(headers: &mut HeaderMap, client: &HeaderMap, shape: &Shape) {
    match (shape.framing, client.get(CONTENT_LENGTH)) {
        (Framing::Length, Some(length)) => drop(headers.insert(CONTENT_LENGTH, length.clone())),
        (Framing::Chunked, _) => drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        _ => (),
    }
    if let Some(trailers) = announced_trailers(client, &shape.nominated) {
        headers.insert(TRAILER, trailers);
    }
    let mut connection = match shape.exchange {
        Exchange::WebSocket => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            "upgrade"
        }
        // One request, one local connection: nothing behind this stream may be kept for somebody else.
        Exchange::Plain => "close",
    };
    if list(client, &TE).iter().any(|coding| coding == "trailers") && shape.exchange == Exchange::Plain {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        connection = "close, te";
    }
    headers.insert(CONNECTION, HeaderValue::from_static(connection));
}

fn set_ours(headers: &mut HeaderMap, ours: &Ours<'_>) {
    let mut set = |name: &'static str, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    let authority = ours.asked.authority.as_str();
    let is_path = ours.asked.form == Form::Path;
    let host = match ours.host {
        Some(host) if host.fixed || is_path => host.authority.as_str(),
        _ if is_path => LOCAL_AUTHORITY,
        _ => authority,
    };
    set("host", host);
    set("x-forwarded-for", &ours.peer.ip().to_canonical().to_string());
    set("x-forwarded-proto", "https");
    set("x-forwarded-host", authority);
    if let Some(prefix) = &ours.asked.prefix {
        set("x-forwarded-prefix", prefix);
    }
    set("x-request-id", ours.request_id.as_str());
    set("x-tcpmux-user", &escaped(&ours.admission.subject));
    set("x-tcpmux-level", ours.admission.level.as_str());
    headers.insert(TRACEPARENT, ours.trace.header());
}

/// A subject as a header value: what is not visible ASCII, and `%`, in percent form.
fn escaped(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What a service without a name of its own is told as `Host` in the path form.
pub(crate) const LOCAL_AUTHORITY: &str = "localhost";
/// Reaches the device as `Authorization`; the client's own `Authorization` is for the proxy.
const DEVICE_AUTHORIZATION: HeaderName = HeaderName::from_static("x-device-authorization");

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
