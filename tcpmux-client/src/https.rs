//! HTTPS to the device door: one connection, one request after the other.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::Timestamp;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{CertificateFacts, DialError, ServerAddress, WayOut, calendar, dial};

/// A connection that stands.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Moves the bytes, while a request is under way; between requests nothing has to move.
    driver: Pin<Box<Driver>>,
    /// The driver has come to its end and must not be asked again.
    is_over: bool,
    server: ServerAddress,
    certificate_end: Timestamp,
}

type Driver = http1::Connection<TokioIo<TlsStream<TcpStream>>, Full<Bytes>>;

/// An answer that is here as a whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
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
}

impl HttpsError {
    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Dial(_) | Self::Broken { .. } => true,
            Self::Tls { source, .. } => !is_certificate_fault(source),
        }
    }
}

/// Whether TLS failed for the certificate, not for the network.
pub(crate) fn is_certificate_fault(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

impl Connection {
    pub(crate) async fn open(
        server: &ServerAddress,
        way_out: &WayOut,
        config: Result<ClientConfig, rustls::Error>,
    ) -> Result<Self, HttpsError> {
        let failed = |source| HttpsError::Tls { server: server.to_string(), source };
        let config = config.map_err(|error| failed(io::Error::other(error)))?;
        let stream = dial::dial(server, way_out).await?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(server.tls_name(), stream);
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let facts = chain.first().and_then(|leaf| CertificateFacts::read(leaf).ok());
        let certificate_end = facts.map_or(Timestamp(0), |facts| facts.not_after);
        let broken = |error: hyper::Error| broken(server, &error);
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        Ok(Self { sender, driver: Box::pin(driver), is_over: false, server: server.clone(), certificate_end })
    }

    /// Until when the server's certificate is valid.
    pub(crate) fn certificate_end(&self) -> Timestamp {
        self.certificate_end
    }

    /// Sends a request whose URI is a path; `Host` and `User-Agent` are set here.
    pub(crate) async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, HttpsError> {
        let server = &self.server;
        if self.is_over {
            return Err(broken(server, &"it was closed"));
        }
        let headers = request.headers_mut();
        let host = HeaderValue::try_from(server.to_string());
        headers.insert(header::HOST, host.map_err(|error| broken(server, &error))?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let (sender, driver, is_over) = (&mut self.sender, &mut self.driver, &mut self.is_over);
        let exchange = async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head, Limited::new(body, LONGEST_BODY).collect().await))
        };
        let answering = async {
            tokio::pin!(exchange);
            tokio::select! {
                biased;
                answer = &mut exchange => answer,
                _ = driver => {
                    *is_over = true;
                    exchange.await
                }
            }
        };
        let answered = tokio::time::timeout(ANSWER_LIMIT, answering).await;
        let (head, body) = answered
            .map_err(|_| broken(server, &"no answer in time"))?
            .map_err(|error| broken(server, &error))?;
        let body = body.map_err(|error| broken(server, &error))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Answer {
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When it was made, as the server says.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        self.header(header::DATE).and_then(calendar::http_date)
    }

    /// When to ask again, as the server says; a day at most.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header(header::RETRY_AFTER)?.parse().ok();
        seconds.map(|seconds: u64| Duration::from_secs(seconds.min(86_400)))
    }

    /// The first line of the body without control characters, for people.
    pub(crate) fn first_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect()
    }
}

fn broken(server: &ServerAddress, problem: &dyn ToString) -> HttpsError {
    HttpsError::Broken { server: server.to_string(), problem: problem.to_string() }
}

const USER_AGENT: &str = concat!("tcpmux-client/", env!("CARGO_PKG_VERSION"));
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const LONGEST_BODY: usize = 256 * 1024;
