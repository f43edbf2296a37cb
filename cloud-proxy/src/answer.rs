//! How a no is answered: status and code by the contract's table, `Proxy-Status` saying whose error it is.

use std::io;

use axum::body::Body;
use http::{
    HeaderValue, Response,
    header::{CONNECTION, WWW_AUTHENTICATE},
};
use model::{Code, Refusal, RequestId};
use runtime::http::problem;
use tcpmux_proto::OpenError;

use crate::response::PROXY_STATUS;

/// The refusal for a stream that was not opened, or was lost before the response head.
pub(crate) fn of_open(error: OpenError) -> Refusal {
    match error {
        OpenError::Offline => {
            Refusal::new(Code::DeviceOffline, "the device is not connected; it may come back").retry_after(5)
        }
        OpenError::UnknownService => {
            Refusal::new(Code::UnknownService, "the device does not expose this service")
        }
        OpenError::Refused => Refusal::new(
            Code::ServiceRefused,
            "the device's local service does not take connections; check that it runs",
        ),
        OpenError::Forbidden => Refusal::new(Code::LevelOrService, "the device does not let this caller in"),
        OpenError::Busy => {
            Refusal::new(Code::TooManyStreams, "too many streams are open on this device").retry_after(1)
        }
        OpenError::TimedOut => Refusal::new(Code::TimedOut, "the device did not open the stream in time"),
        OpenError::Draining => draining(),
        OpenError::Lost => Refusal::new(Code::TunnelLost, "the tunnel to the device was lost"),
    }
}

/// The refusal of new work while this server, or the one that holds the device, is going away.
pub(crate) fn draining() -> Refusal {
    Refusal::new(Code::Draining, "this server is going away; try again").retry_after(1)
}

/// The refusal for an exchange over an open stream that broke before the response head.
pub(crate) fn of_http(error: &hyper::Error) -> Refusal {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if let Some(open) = OpenError::from_io(io) {
                return of_open(open);
            }
            if io.kind() == io::ErrorKind::ConnectionAborted {
                return of_open(OpenError::Lost);
            }
        }
        source = cause.source();
    }
    let detail = if error.is_parse() {
        "the device's service answered with what is not HTTP, or with too large a head"
    } else {
        "the device's service closed the connection without an answer"
    };
    Refusal::new(Code::ServiceRefused, detail)
}

/// A refusal as answer.
pub(crate) fn refusal(refusal: &Refusal, request_id: &RequestId) -> Response<Body> {
    let mut response = problem(refusal);
    let headers = response.headers_mut();
    let status =
        format!("tcpmux; error={}; details=\"{}\"", proxy_error(refusal.code), refusal.code.as_str());
    if let Ok(value) = HeaderValue::from_str(&status) {
        headers.insert(PROXY_STATUS, value);
    }
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert("x-request-id", value);
    }
    if let Some(challenge) = challenge(refusal) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if matches!(refusal.code, Code::BadRequest | Code::Draining) {
        // After an ambiguous request nothing more on its connection can be trusted.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The challenge of a 401 (RFC 6750 §3): bare where there was no token, with the reason where there was a bad one.
fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let text = match refusal.code {
        Code::TokenMissing => String::from("Bearer realm=\"tcpmux\""),
        Code::TokenExpired | Code::TokenAudience | Code::TokenUnknownKey => {
            let why = refusal.detail.replace(['"', '\\', '`'], "'");
            format!("Bearer realm=\"tcpmux\", error=\"invalid_token\", error_description=\"{why}\"")
        }
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

/// The error type of RFC 9209 §2.3 that comes closest.
fn proxy_error(code: Code) -> &'static str {
    match code {
        Code::DeviceOffline | Code::Draining | Code::Unavailable => "destination_unavailable",
        Code::TunnelLost => "connection_terminated",
        Code::UnknownService => "destination_not_found",
        Code::ServiceRefused => "connection_refused",
        Code::TimedOut => "connection_timeout",
        Code::TooManyStreams => "connection_limit_reached",
        Code::Internal => "proxy_internal_error",
        Code::TokenMissing
        | Code::TokenExpired
        | Code::TokenAudience
        | Code::TokenUnknownKey
        | Code::NotGranted
        | Code::LevelOrService => "http_request_denied",
        _ => "http_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(of: &Refusal) -> Response<Body> {
        refusal(of, &RequestId::from_random([1; 16]))
    }

    #[test]
    fn every_open_error_has_its_status_and_code() {
        for (error, status, code, is_repeatable) in [
            (OpenError::Offline, 503, "TMX-3001", true),
            (OpenError::Lost, 502, "TMX-3002", false),
            (OpenError::UnknownService, 404, "TMX-3003", false),
            (OpenError::Refused, 502, "TMX-3004", false),
            (OpenError::TimedOut, 504, "TMX-3005", false),
            (OpenError::Busy, 503, "TMX-3006", true),
            (OpenError::Draining, 503, "TMX-3010", true),
            (OpenError::Forbidden, 403, "TMX-4031", false),
        ] {
            let refusal = of_open(error);
            let response = answer(&refusal);
            assert_eq!((response.status().as_u16(), refusal.code.as_str()), (status, code), "{error:?}");
            assert_eq!(response.headers().contains_key("retry-after"), is_repeatable, "{error:?}");
            let whose = response.headers()[PROXY_STATUS].to_str().unwrap();
            assert!(whose.starts_with("tcpmux; error=") && whose.contains(code), "{whose}");
        }
    }

    #[test]
    fn a_refused_token_is_answered_with_a_challenge() {
        let missing = answer(&Refusal::new(Code::TokenMissing, "no token"));
        assert_eq!(missing.headers()[WWW_AUTHENTICATE], "Bearer realm=\"tcpmux\"");
        let expired = answer(&Refusal::new(Code::TokenExpired, "the \"token\" `x`\\ is old"));
        assert_eq!(
            expired.headers()[WWW_AUTHENTICATE],
            "Bearer realm=\"tcpmux\", error=\"invalid_token\", error_description=\"the 'token' 'x'' is old\""
        );
        assert!(!answer(&Refusal::new(Code::NotGranted, "no")).headers().contains_key(WWW_AUTHENTICATE));
    }
}
