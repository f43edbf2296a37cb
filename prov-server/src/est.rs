//! EST on the wire (RFC 7030, updated by 8951): what comes in is bounded and read strictly, what goes
//! out has the exact octets that strongSwan, libest and curl need. Decides nothing.

use std::time::Duration;

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{
        ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
        TRANSFER_ENCODING, USER_AGENT, VARY,
    },
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use model::Secret;

use crate::{base64_body, refusing::EstRefusal};

/// What HTTP Basic carried.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Secret<String>,
}

/// Reads the Authorization field; `None` if there is none or it is of another scheme, which gets the
/// challenge and is no failed attempt.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>, EstRefusal> {
    let bad = |sentence| Err(EstRefusal::new(StatusCode::BAD_REQUEST, "authorization", sentence));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return bad("there is more than one Authorization field");
    }
    if value.len() > LONGEST_AUTHORIZATION {
        return bad("the Authorization field is too long");
    }
    let Some((scheme, encoded)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return bad("the Authorization field is not a scheme and its credentials");
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let Some(decoded) = STANDARD.decode(encoded.trim_matches(' ')).ok().map(Secret::new) else {
        return bad("the credentials of HTTP Basic are not base64");
    };
    let Ok(text) = std::str::from_utf8(decoded.expose()) else {
        return bad("the credentials of HTTP Basic are not UTF-8");
    };
    let Some((user, password)) = text.split_once(':') else {
        return bad("the credentials of HTTP Basic have no colon");
    };
    Ok(Some(Credentials { user: user.to_owned(), password: Secret::new(password.to_owned()) }))
}

/// Reads a PKCS#10 request: its DER, not yet looked at.
pub(crate) async fn pkcs10(request: Request<Body>) -> Result<Vec<u8>, EstRefusal> {
    let headers = request.headers();
    check_framing(headers)?;
    check_type(headers)?;
    let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > LONGEST_BODY as u64) {
        return Err(too_large());
    }
    let reading = Limited::new(request.into_body(), LONGEST_BODY).collect();
    let body = match tokio::time::timeout(BODY_TIME, reading).await {
        Err(_) => {
            return Err(EstRefusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-late",
                "the body did not arrive within ten seconds",
            )
            .closing());
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => {
            return Err(
                EstRefusal::new(StatusCode::BAD_REQUEST, "body-broken", "the body broke off").closing()
            );
        }
        Ok(Ok(body)) => body.to_bytes(),
    };
    base64_body::decode(&body).ok_or_else(|| {
        EstRefusal::new(
            StatusCode::BAD_REQUEST,
            "base64",
            "the body is the DER of the request in base64 with padding, without PEM lines",
        )
    })
}

/// The answer to cacerts.
pub(crate) fn ca_certificates(headers: &HeaderMap, pkcs7: &[u8], pem: String) -> Response<Body> {
    if wants_pem(headers) {
        return answer(PEM_TYPE, pem);
    }
    let from_libest = headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"libest"));
    let text = if from_libest { base64_body::wrapped(pkcs7) } else { base64_body::one_line(pkcs7) };
    answer(PKCS7_TYPE, text)
}

/// The answer to an enrolment or a renewal; its outcome is counted under a word.
pub(crate) fn respond(
    headers: &HeaderMap,
    outcome: Result<Vec<u8>, EstRefusal>,
    count: impl FnOnce(&'static str),
) -> Response<Body> {
    match outcome {
        Ok(der) => {
            count("ok");
            certificate(headers, &der)
        }
        Err(refusal) => {
            count(refusal.word);
            refusal.into_response()
        }
    }
}

/// The new certificate alone (RFC 7030 §4.2.3).
fn certificate(headers: &HeaderMap, der: &[u8]) -> Response<Body> {
    let mut response = if wants_pem(headers) {
        answer(PEM_TYPE, ca::pem::encode(ca::pem::CERTIFICATE, der))
    } else {
        answer(PKCS7_TYPE, base64_body::one_line(&ca::pkcs7::certs_only(&[der])))
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to csrattrs: an EC key on P-256, signed with ECDSA and SHA-256.
pub(crate) fn csr_attributes() -> Response<Body> {
    answer("application/csrattrs", base64_body::one_line(CSR_ATTRIBUTES))
}

fn answer(content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, User-Agent"));
    response
}

fn wants_pem(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).map(|one| one.split(';').next().unwrap_or(""));
    types.any(|one| one.trim().eq_ignore_ascii_case(PEM_TYPE))
}

/// One coding, `chunked`, once: whoever reads more into the fields may see another end of the request.
fn check_framing(headers: &HeaderMap) -> Result<(), EstRefusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if plain && codings.next().is_none() {
        return Ok(());
    }
    let sentence = "the only transfer coding that is taken is chunked, once";
    Err(EstRefusal::new(StatusCode::BAD_REQUEST, "framing", sentence).closing())
}

fn check_type(headers: &HeaderMap) -> Result<(), EstRefusal> {
    let refuse = |sentence| Err(EstRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", sentence));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let essence = types.next().and_then(|value| value.to_str().ok()?.split(';').next());
    let is_pkcs10 = essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/pkcs10"));
    if !is_pkcs10 || types.next().is_some() {
        return refuse("the body must be application/pkcs10");
    }
    // Content-Transfer-Encoding is ignored (RFC 8951 §3.1); Content-Encoding is not one of EST's.
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return refuse("the body must not have a content encoding");
    }
    Ok(())
}

fn too_large() -> EstRefusal {
    EstRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body has at most 64 KiB").closing()
}

const LONGEST_BODY: usize = 64 * 1024;
const LONGEST_AUTHORIZATION: usize = 1024;
const BODY_TIME: Duration = Duration::from_secs(10);
/// libest compares it as a string, with the space (an answer without it is refused).
const PKCS7_TYPE: &str = "application/pkcs7-mime; smime-type=certs-only";
const PEM_TYPE: &str = "application/x-pem-file";
/// SEQUENCE { SEQUENCE { ecPublicKey, SET { prime256v1 } }, ecdsa-with-SHA256 } (RFC 8951 §3.3).
const CSR_ATTRIBUTES: &[u8] = &[
    0x30, 0x21, 0x30, 0x15, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x31, 0x0a, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03,
    0x02,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn basic_credentials_in_every_shape() {
        let basic = |scheme: &str, text: &[u8]| format!("{scheme} {}", STANDARD.encode(text));
        for (value, user, password) in [
            (basic("Basic", b"cam-01:secret"), "cam-01", "secret"),
            (basic("basic", b":secret"), "", "secret"),
            (basic("BASIC", b"a:b:c"), "a", "b:c"),
        ] {
            let read = credentials(&headers(&[&value])).unwrap().unwrap();
            assert_eq!((&*read.user, read.password.expose().as_str()), (user, password));
        }
        assert!(credentials(&headers(&[])).unwrap().is_none());
        assert!(credentials(&headers(&["Bearer abc"])).unwrap().is_none());
        let good = basic("Basic", b"a:b");
        let long = basic("Basic", &[b'a'; 2000]);
        for bad in [&["Basic"][..], &["Basic !!!"], &[&basic("Basic", b"nocolon")], &[&good, &good], &[&long]]
        {
            assert_eq!(credentials(&headers(bad)).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad:?}");
        }
        assert!(credentials(&headers(&[&basic("Basic", b"a:\xff")])).is_err());
    }

    #[test]
    fn the_type_of_the_body() {
        for (value, good) in [
            ("application/pkcs10", true),
            ("Application/PKCS10", true),
            ("application/pkcs10; charset=utf-8", true),
            ("text/plain", false),
            ("application/pkcs100", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(check_type(&headers).is_ok(), good, "{value}");
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            assert!(check_type(&headers).is_err());
        }
        assert!(check_type(&HeaderMap::new()).is_err());
    }
}
