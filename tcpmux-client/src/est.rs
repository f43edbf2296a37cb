//! EST as a client speaks it (RFC 7030, updated by RFC 8951): HTTP/1.1 over TLS, DER in base64.
//!
//! [`Stranger`] is a connection to a server that nobody has checked: it can fetch the CA certificates and
//! nothing else. [`Verified`] is one whose certificate led to the pinned CA and named the server.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use model::{DeviceId, Passcode, Secret};
use rustls_pki_types::CertificateDer;

use crate::{
    HttpsError, Identity, ServerAddress, TrustedTime, WayOut,
    https::{Answer, Connection},
    pkcs7, trust,
};

/// A connection that may only fetch the CA certificates.
pub(crate) struct Stranger(Connection);

/// A connection to the right server.
pub(crate) struct Verified {
    connection: Connection,
    time: TrustedTime,
}

/// Why an EST call failed.
#[derive(Debug, thiserror::Error)]
pub enum EstError {
    /// There was no connection, or no answer.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The server says no.
    #[error("the server answered {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The first line of its answer, without control characters.
        text: String,
        /// When to ask again, if the server says so.
        retry_after: Option<Duration>,
    },
    /// The answer is not EST.
    #[error("the server's answer is not what EST prescribes: {0}")]
    Malformed(&'static str),
}

impl EstError {
    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Https(error) => error.is_passing(),
            Self::Refused { status, .. } => matches!(status, 202 | 408 | 429 | 500..=599),
            Self::Malformed(_) => false,
        }
    }
}

impl Stranger {
    pub(crate) async fn connect(server: &ServerAddress, way_out: &WayOut) -> Result<Self, EstError> {
        Ok(Self(Connection::open(server, way_out, Ok(trust::bootstrap())).await?))
    }

    /// `GET /cacerts` (RFC 7030 §4.1): certificates that nobody vouches for yet.
    pub(crate) async fn ca_certificates(mut self) -> Result<Vec<Vec<u8>>, EstError> {
        let answer = exchange(&mut self.0, Method::GET, "cacerts", &[], Bytes::new()).await?;
        certificates_of(&answer)
    }
}

impl Verified {
    pub(crate) async fn connect(
        server: &ServerAddress,
        anchors: &[CertificateDer<'static>],
        identity: Option<&Identity>,
        way_out: &WayOut,
        time: &TrustedTime,
    ) -> Result<Self, EstError> {
        let config = trust::verified_http(anchors, identity, time);
        let connection = Connection::open(server, way_out, config).await?;
        Ok(Self { connection, time: time.clone() })
    }

    /// `POST /simpleenroll` (RFC 7030 §4.2.1) with the passcode as password.
    pub(crate) async fn enrol(
        self,
        user: Option<&DeviceId>,
        passcode: &Passcode,
        request: &[u8],
    ) -> Result<Vec<u8>, EstError> {
        let user = user.map_or("", DeviceId::as_str);
        let pair = Secret::new(format!("{user}:{}", passcode.reveal()));
        let basic = Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())));
        self.request_certificate("simpleenroll", &[(header::AUTHORIZATION.as_str(), basic.expose())], request)
            .await
    }

    /// `POST /simplereenroll` (RFC 7030 §4.2.2): the connection shows the current certificate.
    pub(crate) async fn renew(self, request: &[u8]) -> Result<Vec<u8>, EstError> {
        self.request_certificate("simplereenroll", &[], request).await
    }

    async fn request_certificate(
        mut self,
        operation: &str,
        headers: &[(&str, &str)],
        request: &[u8],
    ) -> Result<Vec<u8>, EstError> {
        let certificate_end = self.connection.certificate_end();
        let body = BASE64_STANDARD.encode(request) + "\n";
        let headers = [&[("content-type", "application/pkcs10")], headers].concat();
        let answer = exchange(&mut self.connection, Method::POST, operation, &headers, body.into()).await?;
        // A cloud whose clock went astray must not take its devices with it.
        if let Some(date) = answer.date().filter(|date| *date <= certificate_end) {
            self.time.prove(date);
        }
        let mut certificates = certificates_of(&answer)?;
        // RFC 7030 §4.2.3: the certificate issued, and nothing beside it.
        match certificates.pop() {
            Some(certificate) if certificates.is_empty() => Ok(certificate),
            _ => Err(EstError::Malformed("expected exactly one certificate")),
        }
    }
}

async fn exchange(
    connection: &mut Connection,
    method: Method,
    operation: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, EstError> {
    let mut request = Request::builder().method(method).uri(format!("/.well-known/est/{operation}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body));
    let request = request.map_err(|_| EstError::Malformed("the request could not be written"))?;
    Ok(connection.exchange(request).await?)
}

fn refusal(answer: &Answer) -> EstError {
    EstError::Refused {
        status: answer.status.as_u16(),
        text: answer.first_line(),
        retry_after: answer.retry_after(),
    }
}

fn certificates_of(answer: &Answer) -> Result<Vec<Vec<u8>>, EstError> {
    if answer.status != StatusCode::OK {
        return Err(refusal(answer));
    }
    // RFC 8951 §3.1: white space inside base64 means nothing.
    let text: Vec<u8> = answer.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64_STANDARD.decode(text).map_err(|_| EstError::Malformed("not base64"))?;
    pkcs7::certificates(&der).map_err(|_| EstError::Malformed("not a certs-only message"))
}
