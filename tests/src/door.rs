//! Calling a door: one connection a call, either version of HTTP, or bytes as they are.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::{Identity, TlsClient};

/// An address where a cloud answers, and how to speak to it.
#[derive(Debug, Clone)]
pub struct Door {
    address: SocketAddr,
    tls: TlsClient,
}

/// A call that is being put together.
#[derive(Debug)]
#[must_use = "a call that is not sent does nothing"]
pub struct Call {
    door: Door,
    request: Request<()>,
    body: UnsyncBoxBody<Bytes, Infallible>,
    is_http2: bool,
}

/// One HTTP/2 connection, for many calls at once.
#[derive(Debug)]
pub struct Multiplexed {
    sender: hyper::client::conn::http2::SendRequest<UnsyncBoxBody<Bytes, Infallible>>,
    _connection: JoinSet<()>,
}

impl Multiplexed {
    /// Whether it can carry no more calls.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// An answer whose body may still be on its way. Dropping it ends the connection.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Door {
    /// A door at this address.
    pub fn new(address: SocketAddr, tls: TlsClient) -> Self {
        Self { address, tls }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://localhost:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority())
    }

    /// `localhost:PORT`.
    pub fn authority(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The same door, approached with a client certificate.
    pub fn showing(&self, identity: &Identity) -> Self {
        Self { address: self.address, tls: self.tls.clone().with_identity(identity.clone()) }
    }

    /// The same door, approached from another address of loopback.
    pub fn from_source(&self, source: IpAddr) -> Self {
        Self { address: self.address, tls: self.tls.clone().from_source(source) }
    }

    /// How handshakes are made here.
    pub fn tls(&self) -> &TlsClient {
        &self.tls
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    /// A call with any method.
    ///
    /// # Panics
    /// If the path is not one that an HTTP library would send; such go through [`Door::exchange`].
    pub fn call(&self, method: Method, path: &str) -> Call {
        let request = Request::builder().method(method).uri(self.url(path)).body(()).unwrap();
        assert_eq!(request.uri().path_and_query().map(|whole| whole.as_str()), Some(path));
        Call { door: self.clone(), request, body: UnsyncBoxBody::new(Full::default()), is_http2: false }
    }

    /// A TLS connection that offers HTTP/1.1.
    ///
    /// # Panics
    /// If there is none.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.tls.clone().with_alpn(&[b"http/1.1"]).connect(self.address).await.unwrap()
    }

    /// An HTTP/2 connection.
    ///
    /// # Panics
    /// If there is none.
    pub async fn multiplexed(&self) -> Multiplexed {
        self.try_multiplexed().await.unwrap()
    }

    /// The same, where there may be nobody.
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn try_multiplexed(&self) -> Result<Multiplexed, Box<dyn std::error::Error + Send + Sync>> {
        let stream = self.tls.clone().with_alpn(&[b"h2"]).connect(self.address).await?;
        let executor = TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Ok(Multiplexed { sender, _connection: tasks })
    }

    /// Sends bytes as they are, then reads to the end of the connection, ten seconds at most.
    ///
    /// # Panics
    /// If there is no connection.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // A door may refuse and close before it has read all.
        let _ = stream.write_all(bytes.as_ref()).await;
        let _ = stream.flush().await;
        let mut answer = vec![];
        // An end without TLS's own goodbye is read like one with it: what counts is what was said.
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Call {
    /// Adds a header.
    ///
    /// # Panics
    /// If it cannot be one.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.request.headers_mut().append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// Shows a bearer token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Shows the admin key.
    pub fn admin(self, key: &str) -> Self {
        self.header("authorization", format!("PROV-ADMIN {key}"))
    }

    /// Shows a user and a password.
    pub fn basic(self, user: &str, password: &str) -> Self {
        self.header(
            "authorization",
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
        )
    }

    /// Sends JSON.
    pub fn json(self, value: &Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }

    /// Sends a body with its length.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = UnsyncBoxBody::new(Full::new(body.into()));
        self
    }

    /// Sends a body piece by piece: chunked, unless a `content-length` header is given.
    pub fn stream(mut self, body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static) -> Self {
        self.body = UnsyncBoxBody::new(body);
        self
    }

    /// Speaks HTTP/2.
    pub fn http2(mut self) -> Self {
        self.is_http2 = true;
        self
    }

    /// Sends it.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(self) -> Answer {
        let shown = format!("{} {}", self.request.method(), self.request.uri());
        self.try_send().await.unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    /// Sends it on a connection that is there already, which has to outlive the answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send_on(self, connection: &mut Multiplexed) -> Answer {
        let request = self.request.map(|()| self.body);
        let (parts, body) = connection.sender.send_request(request).await.unwrap().into_parts();
        Answer { status: parts.status, headers: parts.headers, body, _connection: JoinSet::new() }
    }

    /// Sends it on this connection, which may have ended; gives the status once the whole answer is there.
    ///
    /// # Errors
    /// If there is no answer, or only a part of one.
    pub async fn try_send_on(
        self,
        connection: &Multiplexed,
    ) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
        let request = self.request.map(|()| self.body);
        let answer = connection.sender.clone().send_request(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        Ok(status)
    }

    /// Sends it; there may be no answer.
    ///
    /// # Errors
    /// If there is no connection, or it ends before the head of the answer.
    pub async fn try_send(self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let Self { door, request, body, is_http2 } = self;
        let protocol: &[u8] = if is_http2 { b"h2" } else { b"http/1.1" };
        let stream = door.tls.clone().with_alpn(&[protocol]).connect(door.address).await?;
        let mut request = request.map(|()| body);
        let mut tasks = JoinSet::new();
        let response = if is_http2 {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "the door speaks HTTP/2");
            let executor = TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await?;
            tasks.spawn(async move { drop(connection.await) });
            sender.send_request(request).await?
        } else {
            if !request.headers().contains_key(header::HOST) {
                request.headers_mut().insert(header::HOST, HeaderValue::try_from(door.authority())?);
            }
            *request.uri_mut() =
                request.uri().path_and_query().expect("asserted when made").as_str().parse()?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tasks.spawn(async move { drop(connection.await) });
            sender.send_request(request).await?
        };
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body, _connection: tasks })
    }
}

impl Answer {
    /// A header's text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap_or("(not ASCII)")).unwrap_or_default()
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it ends before its end.
    pub async fn bytes(self) -> Result<Bytes, hyper::Error> {
        Ok(self.body.collect().await?.to_bytes())
    }

    /// The whole body as text.
    ///
    /// # Panics
    /// If it ends before its end.
    pub async fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes().await.unwrap()).into_owned()
    }

    /// The whole body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Status and `code` of a problem, as in `503 TMX-3001`; the code is `-` where there is none.
    pub async fn problem(self) -> String {
        let status = self.status.as_u16();
        let is_problem = self.header("content-type").starts_with("application/problem+json");
        let text = self.text().await;
        let value: Value =
            if is_problem { serde_json::from_str(&text).unwrap_or_default() } else { Value::Null };
        format!("{status} {}", value["code"].as_str().unwrap_or("-"))
    }

    /// The next piece of the body; `None` at its true end. Trailers and empty pieces are left out.
    ///
    /// # Errors
    /// If the body is cut.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The whole body and the trailers after it.
    ///
    /// # Errors
    /// If the body is cut.
    pub async fn with_trailers(self) -> Result<(Bytes, HeaderMap), hyper::Error> {
        let collected = self.body.collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Ok((collected.to_bytes(), trailers))
    }

    /// Asserts the status, showing the body otherwise; then the answer itself.
    ///
    /// # Panics
    /// If it is another.
    pub async fn expect(self, status: u16) -> Self {
        if self.status.as_u16() == status {
            return self;
        }
        let got = self.status;
        panic!("expected {status}, got {got}: {}", self.text().await);
    }
}

/// A body that is fed piece by piece, and ends when the sender is dropped.
pub fn pieces() -> (mpsc::Sender<Bytes>, impl Body<Data = Bytes, Error = Infallible> + Send + 'static) {
    let (feed, mut pieces) = mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context))
        .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    (feed, StreamBody::new(frames))
}
