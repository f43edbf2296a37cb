//! A cloud for tests: a device door that writes down what it is told and hands over its sessions.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use model::{Generation, SessionId};
use rustls::{ServerConfig, server::danger::ClientCertVerifier};
use rustls_pki_types::CertificateDer;
use tcpmux_proto::{Buffered, CloudControl, SessionHandle, SessionLimits, Settings, Welcome};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex as AsyncMutex, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{
    ServerAddress, pkcs7,
    test_pki::{ALWAYS, Pki, Validity},
};

/// What the server heard: one request.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) client: Option<CertificateDer<'static>>,
}

/// How the server answers a request; `None` hangs up without a word.
pub(crate) type Answers = Box<dyn Fn(&Heard) -> Option<(u16, Vec<u8>)> + Send + Sync>;

pub(crate) struct FakeCloud {
    pub(crate) pki: Arc<Pki>,
    pub(crate) address: ServerAddress,
    heard: Arc<Mutex<Vec<Heard>>>,
    sessions: AsyncMutex<mpsc::UnboundedReceiver<CloudSession>>,
    tasks: runtime::Tasks,
}

/// A device that said hello and was welcomed.
pub(crate) struct CloudSession {
    pub(crate) handle: SessionHandle,
    pub(crate) control: CloudControl,
    pub(crate) client: CertificateDer<'static>,
}

impl Drop for FakeCloud {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

impl FakeCloud {
    /// A cloud whose certificate names `localhost` and which issues to whoever asks.
    pub(crate) async fn start() -> Self {
        let pki = Arc::new(Pki::new());
        Self::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, issuing(Arc::clone(&pki))).await
    }

    /// A cloud that shows a certificate of `shown` with these names and answers like this.
    pub(crate) async fn with(
        pki: Arc<Pki>,
        shown: &Pki,
        names: &[&str],
        validity: Validity,
        answers: Answers,
    ) -> Self {
        let heard = Arc::new(Mutex::new(vec![]));
        let tasks = runtime::Tasks::new();
        let (list, answers) = (Arc::clone(&heard), Arc::new(answers));
        let config = server_config(shown, names, validity, &[tcpmux_proto::ALPN, b"http/1.1"]);
        let (sender, sessions) = mpsc::unbounded_channel();
        let all = tasks.clone();
        let address = serve_tls(&tasks, config, move |stream| {
            let (list, answers) = (Arc::clone(&list), Arc::clone(&answers));
            let (sender, tasks) = (sender.clone(), all.clone());
            async move {
                if stream.get_ref().1.alpn_protocol() == Some(tcpmux_proto::ALPN) {
                    sender.send(welcome(stream, &tasks).await).ok();
                } else {
                    serve_http(stream, &list, &answers).await;
                }
            }
        })
        .await;
        Self { pki, address, heard, sessions: AsyncMutex::new(sessions), tasks }
    }

    /// The next session that a device makes.
    pub(crate) async fn next_session(&self) -> CloudSession {
        self.sessions.lock().await.recv().await.unwrap()
    }

    /// Whether a device made a session that nobody took yet.
    pub(crate) async fn has_session(&self) -> bool {
        !self.sessions.lock().await.is_empty()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.heard().into_iter().map(|heard| heard.line).collect()
    }
}

/// Serves every TLS connection of a new listener on `localhost`.
pub(crate) async fn serve_tls<F>(
    tasks: &runtime::Tasks,
    config: ServerConfig,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> ServerAddress
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, serve, all) = (TlsAcceptor::from(Arc::new(config)), Arc::new(serve), tasks.clone());
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            all.spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream).await;
                }
            });
        }
    });
    format!("localhost:{port}").parse().unwrap()
}

/// A server that asks for a device certificate and takes any, or none.
pub(crate) fn server_config(pki: &Pki, names: &[&str], validity: Validity, alpn: &[&[u8]]) -> ServerConfig {
    let (chain, key) = pki.server(names, validity);
    let cell = runtime::tls::CertificateCell::new(chain, key).unwrap();
    runtime::tls::server_config(cell, runtime::tls::Clients::Certified(Arc::new(AnyClient)), false, alpn)
}

/// Answers `cacerts` with the root and the devices' intermediate, and signs every request.
pub(crate) fn issuing(pki: Arc<Pki>) -> Answers {
    Box::new(move |heard| {
        let body = match heard.line.as_str() {
            "GET /.well-known/est/cacerts" => pkcs7::certs_only(&[&pki.devices_der(), &pki.root_der()]),
            "POST /.well-known/est/simpleenroll" | "POST /.well-known/est/simplereenroll" => {
                pkcs7::certs_only(&[&issue(&pki, &heard.body)])
            }
            _ => return Some((404, b"no such thing".into())),
        };
        Some((200, (BASE64_STANDARD.encode(body) + "\n").into()))
    })
}

/// A certificate for the body of an enrolment; `nameless` where it names nobody.
pub(crate) fn issue(pki: &Pki, body: &[u8]) -> Vec<u8> {
    let der = BASE64_STANDARD.decode(body.trim_ascii()).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    request.verify_signature().unwrap();
    let info = &request.certification_request_info;
    let name = info.subject.iter_common_name().next().map_or("nameless", |name| name.as_str().unwrap());
    pki.device_certificate(name, info.subject_pki.raw)
}

async fn welcome(stream: TlsStream<TcpStream>, tasks: &runtime::Tasks) -> CloudSession {
    let client = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let (driver, handshake) = tcpmux_proto::cloud(Buffered::new(stream), Settings::default());
    tasks.spawn(driver);
    let greeting = handshake.hello(Duration::from_secs(5)).await.unwrap();
    let welcome = Welcome {
        session: SessionId::from_random(runtime::random::bytes()),
        generation: Generation(1),
        features: vec![],
        heartbeat: Duration::from_secs(20),
        limits: SessionLimits::default(),
    };
    let (handle, control) = greeting.welcome(welcome).await.unwrap();
    CloudSession { handle, control, client }
}

async fn serve_http(mut stream: TlsStream<TcpStream>, list: &Mutex<Vec<Heard>>, answers: &Answers) {
    let client = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
    let Some(heard) = hear(&mut stream, client).await else { return };
    list.lock().unwrap().push(heard.clone());
    let Some((status, body)) = answers(&heard) else { return };
    answer(&mut stream, status, &body).await;
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), status: u16, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nDate: Sat, 21 Nov 2026 23:59:59 GMT\r\nRetry-After: 1\r\n\r\n",
        body.len()
    );
    drop(stream.write_all(&[head.as_bytes(), body].concat()).await);
    drop(stream.shutdown().await);
}

async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    client: Option<CertificateDer<'static>>,
) -> Option<Heard> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let found = head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(field, _)| field.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; field("content-length").map_or(0, |text| text.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    let line = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
    Some(Heard { line, authorization: field("authorization"), body, client })
}

#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("the server speaks TLS 1.3")
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &runtime::tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        runtime::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
