//! A small HTTP client for calls that must stay small: one connection a call, no redirects, no
//! cookies, a bound on time and on the answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::tls::provider;

/// Calls HTTPS addresses that these roots vouch for, and plain HTTP on loopback alone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    tls: Arc<ClientConfig>,
    time: Duration,
    most: usize,
    is_for_the_head: bool,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be called.
    #[error("cannot call {0}: only https, or http to a loopback address")]
    Address(String),
    /// No connection.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The TLS handshake failed; mostly a certificate that the roots do not vouch for.
    #[error("no TLS connection with {host}: {source}")]
    Tls {
        /// Host and port.
        host: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The connection broke, or the answer is no HTTP.
    #[error("the call to {host} failed: {source}")]
    Http {
        /// Host and port.
        host: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No complete answer in time.
    #[error("{0} did not answer in time")]
    TimedOut(String),
}

impl HttpClient {
    /// A client that trusts these roots. Answers up to 256 KiB, ten seconds a call.
    ///
    /// # Errors
    /// If there is no root.
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::client::VerifierBuilderError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has cipher suites for the default versions")
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            time: Duration::from_secs(10),
            most: 256 * 1024,
            is_for_the_head: false,
        })
    }

    /// A client that trusts no root: only plain HTTP on loopback gets an answer. For systems without CA certificates.
    pub fn loopback_only() -> Self {
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has cipher suites for the default versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: Arc::new(tls), time: Duration::from_secs(10), most: 256 * 1024, is_for_the_head: false }
    }

    /// The same with another bound on time.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// The same with another bound on the answer's body.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
    }

    /// The same for calls of which only the answer's head counts: its body is thrown away, one that is too long
    /// or breaks off is no error.
    #[must_use]
    pub fn for_the_head(mut self) -> Self {
        self.is_for_the_head = true;
        self
    }

    /// Sends a request with an absolute URI and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError`], which names the host.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let host = authority(&request);
        match tokio::time::timeout(self.time, self.call_unbounded(request, &host)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut(host)),
        }
    }

    async fn call_unbounded(
        &self,
        request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<Bytes>, ClientError> {
        let uri = request.uri().clone();
        let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&name) => false,
            _ => return Err(ClientError::Address(uri.to_string())),
        };
        let connect = |source| ClientError::Connect { host: host.to_owned(), source };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let socket = TcpStream::connect((name.as_str(), port)).await.map_err(connect)?;
        self.speak(socket, is_https, name, request, host).await
    }

    /// Sends a request to one of these addresses, whatever its URI's host resolves to; that host is who has to be
    /// proven by TLS. Whether the URI may be called is the caller's to know.
    ///
    /// # Errors
    /// As for [`HttpClient::call`].
    pub(super) async fn call_at(
        &self,
        addresses: &[SocketAddr],
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        let host = authority(&request);
        let connect = |source| ClientError::Connect { host: host.clone(), source };
        let calling = async {
            let socket = TcpStream::connect(addresses).await.map_err(connect)?;
            let is_https = request.uri().scheme_str() != Some("http");
            let name = request.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            self.speak(socket, is_https, name, request, &host).await
        };
        match tokio::time::timeout(self.time, calling).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut(host.clone())),
        }
    }

    async fn speak(
        &self,
        socket: TcpStream,
        is_https: bool,
        name: String,
        request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<Bytes>, ClientError> {
        socket.set_nodelay(true).map_err(|source| ClientError::Connect { host: host.to_owned(), source })?;
        if !is_https {
            return self.exchange(socket, request, host).await;
        }
        let tls = |source| ClientError::Tls { host: host.to_owned(), source };
        let server = ServerName::try_from(name).map_err(|error| tls(std::io::Error::other(error)))?;
        let socket = TlsConnector::from(Arc::clone(&self.tls)).connect(server, socket).await.map_err(tls)?;
        self.exchange(socket, request, host).await
    }

    async fn exchange<I>(
        &self,
        io: I,
        mut request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<Bytes>, ClientError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Http {
            host: host.to_owned(),
            source,
        };
        if let Ok(value) = HeaderValue::try_from(host) {
            request.headers_mut().insert(HOST, value);
        }
        *request.uri_mut() = request
            .uri()
            .path_and_query()
            .map_or_else(|| "/".into(), ToString::to_string)
            .parse()
            .map_err(|error: ::http::uri::InvalidUri| broken(error.into()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(|error| broken(error.into()))?;
        let answer = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = match Limited::new(body, self.most).collect().await {
                Ok(body) if !self.is_for_the_head => body.to_bytes(),
                Err(error) if !self.is_for_the_head => return Err(error),
                _ => Bytes::new(),
            };
            Ok(Response::from_parts(parts, body))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        // The connection is driven here, so that nothing of it outlives the call.
        tokio::select! {
            answer = &mut answer => answer.map_err(broken),
            ended = &mut connection => match ended {
                Ok(()) => answer.await.map_err(broken),
                Err(error) => Err(broken(error.into())),
            },
        }
    }
}

/// Whether a host name means this machine alone.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authority<T>(request: &Request<T>) -> String {
    request.uri().authority().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> HttpClient {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_roots());
        HttpClient::new(roots).unwrap()
    }

    fn rustls_native_roots() -> Vec<rustls_pki_types::CertificateDer<'static>> {
        // Any parsable root will do: these tests never get as far as a chain.
        vec![rustls_pki_types::CertificateDer::from(include_bytes!("../../tests/any-root.der").to_vec())]
    }

    fn get(uri: &str) -> Request<Full<Bytes>> {
        Request::get(uri).body(Full::default()).unwrap()
    }

    #[tokio::test]
    async fn plain_http_goes_to_loopback_alone() {
        for uri in ["http://example.com/", "ftp://127.0.0.1/", "http://127.0.0.1.example.com/"] {
            assert!(matches!(client().call(get(uri)).await, Err(ClientError::Address(_))), "{uri}");
        }
    }

    #[tokio::test]
    async fn an_answer_over_the_bound_and_one_that_never_comes_are_errors() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let serve = async {
            let mut held = vec![];
            for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", ""] {
                for _ in 0..2 {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    let mut head = [0; 1024];
                    assert!(socket.read(&mut head).await.unwrap() > 0);
                    socket.write_all(answer.as_bytes()).await.unwrap();
                    held.push(socket);
                }
            }
            std::future::pending::<()>().await;
        };
        let calls = async {
            assert_eq!(client().call(get(&uri)).await.unwrap().into_body(), "hello");
            assert!(matches!(client().at_most(4).call(get(&uri)).await, Err(ClientError::Http { .. })));
            let short = client().within(Duration::from_millis(50));
            assert!(matches!(short.call(get(&uri)).await, Err(ClientError::TimedOut(_))));
        };
        tokio::select! { () = serve => {}, () = calls => {} }
    }
}
