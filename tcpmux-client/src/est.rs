//! EST as a client speaks it (RFC 7030, updated by RFC 8951): HTTP/1.1 over TLS, DER in base64.
//!
//! [`Stranger`] is a connection to a server that nobody has checked: it can fetch the CA certificates and
//! nothing else. [`Verified`] is one whose certificate led to the pinned CA and named the server.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use model::{DeviceId, Passcode, Secret, Timestamp};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    CertificateFacts, DialError, Identity, Proxies, ServerAddress, TrustedTime, calendar, dial, pkcs7, trust,
};

/// A connection that may only fetch the CA certificates.
pub(crate) struct Stranger(Connection);

/// A connection to the right server.
pub(crate) struct Verified {
    connection: Connection,
    time: TrustedTime,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    server: ServerAddress,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Why an EST call failed.
#[derive(Debug, thiserror::Error)]
pub enum EstError {
    /// The server cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS did not come to stand; the text names the certificate's fault where there is one.
    #[error("TLS with {server}: {source}")]
    Tls {
        /// With whom.
        server: String,
        /// What rustls says.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {server} broke: {problem}")]
    Broken {
        /// To whom.
        server: String,
        /// How.
        problem: String,
    },
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
            Self::Dial(_) | Self::Broken { .. } => true,
            Self::Tls { source, .. } => !is_certificate_fault(source),
            Self::Refused { status, .. } => matches!(status, 202 | 408 | 429 | 500..=599),
            Self::Malformed(_) => false,
        }
    }
}

/// Whether TLS failed for the certificate, not for the network.
pub(crate) fn is_certificate_fault(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

impl Stranger {
    pub(crate) async fn connect(server: &ServerAddress, proxies: &Proxies) -> Result<Self, EstError> {
        Connection::open(server, proxies, trust::bootstrap()).await.map(Self)
    }

    /// `GET /cacerts` (RFC 7030 §4.1): certificates that nobody vouches for yet.
    pub(crate) async fn ca_certificates(self) -> Result<Vec<Vec<u8>>, EstError> {
        let answer = self.0.exchange(Method::GET, "cacerts", &[], Bytes::new()).await?;
        certificates_of(&answer)
    }
}

impl Verified {
    pub(crate) async fn connect(
        server: &ServerAddress,
        anchors: &[CertificateDer<'static>],
        identity: Option<&Identity>,
        proxies: &Proxies,
        time: &TrustedTime,
    ) -> Result<Self, EstError> {
        let config = trust::verified_http(anchors, identity, time)
            .map_err(|error| EstError::Tls { server: server.to_string(), source: io::Error::other(error) })?;
        let connection = Connection::open(server, proxies, config).await?;
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
        self,
        operation: &str,
        headers: &[(&str, &str)],
        request: &[u8],
    ) -> Result<Vec<u8>, EstError> {
        let certificate_end = self.connection.certificate_end();
        let body = BASE64_STANDARD.encode(request) + "\n";
        let headers = [&[("content-type", "application/pkcs10")], headers].concat();
        let answer = self.connection.exchange(Method::POST, operation, &headers, body.into()).await?;
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

impl Connection {
    async fn open(server: &ServerAddress, proxies: &Proxies, config: ClientConfig) -> Result<Self, EstError> {
        let stream = dial::dial(server, proxies).await?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(server.tls_name(), stream);
        let failed = |source| EstError::Tls { server: server.to_string(), source };
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        Ok(Self { stream, server: server.clone() })
    }

    /// Until when the server's certificate is valid.
    fn certificate_end(&self) -> Timestamp {
        let chain = self.stream.get_ref().1.peer_certificates().unwrap_or_default();
        let facts = chain.first().and_then(|leaf| CertificateFacts::read(leaf).ok());
        facts.map_or(Timestamp(0), |facts| facts.not_after)
    }

    async fn exchange(
        self,
        method: Method,
        operation: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, EstError> {
        let server = self.server.to_string();
        let broken = |problem: &dyn ToString| EstError::Broken {
            server: server.clone(),
            problem: problem.to_string(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/.well-known/est/{operation}"))
            .header(header::HOST, &server)
            .header(header::USER_AGENT, concat!("tcpmux-client/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| EstError::Malformed("the request could not be written"))?;
        let answering = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(self.stream)).await?;
            let exchange = async {
                let (head, body) = sender.send_request(request).await?.into_parts();
                Ok((head, Limited::new(body, LONGEST_BODY).collect().await))
            };
            tokio::pin!(exchange);
            tokio::select! {
                biased;
                answer = &mut exchange => answer,
                _ = connection => exchange.await,
            }
        };
        let answered: Result<Result<_, hyper::Error>, _> =
            tokio::time::timeout(ANSWER_LIMIT, answering).await;
        let (head, body) = answered.map_err(|_| broken(&"no answer in time"))?.map_err(|e| broken(&e))?;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn date(&self) -> Option<Timestamp> {
        self.header(header::DATE).and_then(calendar::http_date)
    }

    fn refusal(&self) -> EstError {
        let text = String::from_utf8_lossy(&self.body);
        let line: String = text.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).collect();
        EstError::Refused {
            status: self.status.as_u16(),
            text: line.chars().take(200).collect(),
            retry_after: self
                .header(header::RETRY_AFTER)
                .and_then(|seconds| seconds.parse().ok())
                .map(|seconds: u64| Duration::from_secs(seconds.min(86_400))),
        }
    }
}

fn certificates_of(answer: &Answer) -> Result<Vec<Vec<u8>>, EstError> {
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    // RFC 8951 §3.1: white space inside base64 means nothing.
    let text: Vec<u8> = answer.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64_STANDARD.decode(text).map_err(|_| EstError::Malformed("not base64"))?;
    pkcs7::certificates(&der).map_err(|_| EstError::Malformed("not a certs-only message"))
}

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const LONGEST_BODY: usize = 256 * 1024;
