//! A proxy with a device behind it and a clock that stands.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use cloud_proxy::{Config, Cors, Hosts, Issuer, IssuerKeys, IssuerRule, Proxy, Timeouts, Tokens};
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::{DeviceRef, NodeId, Target, TenantName, Timestamp, UserId};
use registry::Registry;
use runtime::{
    Clock, ManualClock, Tasks,
    http::{ConnectionInfo, ServeOptions, serve_connection},
    jose::{KeySet, SigningKey},
};
use serde_json::{Value, json};
use tcpmux_proto::{
    BoxFuture, Dialer, OpenError, SessionHandle, Settings, StreamHeader, TunnelStream, testing::Pair,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use crate::device::Device;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const ISSUER: &str = "https://cloud.example.com";
pub(crate) const OPERATOR: &str = "https://authz.example.com";
pub(crate) const HOST: &str = "cloud.example.com";

/// A cloud of one proxy and the devices that were connected to it.
pub(crate) struct House {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) registry: Registry,
    pub(crate) clock: ManualClock,
    pub(crate) tasks: Tasks,
    /// Drives tunnels, devices and clients; no drain ends these.
    pub(crate) outside: Tasks,
    pub(crate) key: SigningKey,
    pub(crate) operator: SigningKey,
}

/// Opens streams on the sessions in this process, and counts.
#[derive(Default)]
pub(crate) struct Sessions {
    held: Mutex<HashMap<DeviceRef, SessionHandle>>,
    opened: AtomicUsize,
}

impl Dialer for Sessions {
    fn open<'a>(
        &'a self,
        target: &'a Target,
        header: StreamHeader,
    ) -> BoxFuture<'a, Result<TunnelStream, OpenError>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let session = self.held.lock().unwrap().get(&target.device).cloned();
        Box::pin(async move { session.ok_or(OpenError::Offline)?.open(header) })
    }
}

impl Sessions {
    /// Streams that the proxy asked for.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// The session of a device.
    pub(crate) fn of(&self, device: &str) -> SessionHandle {
        self.held.lock().unwrap()[&device_ref(device)].clone()
    }
}

pub(crate) fn device_ref(device: &str) -> DeviceRef {
    DeviceRef::new(TenantName::default(), device.parse().unwrap())
}

pub(crate) fn user() -> UserId {
    UserId::from_random([3; 16])
}

impl House {
    /// A house with the device `cam` in it.
    pub(crate) async fn with(device: Device) -> Self {
        let house = Self::empty();
        house.connect("cam", device).await;
        house
    }

    pub(crate) fn empty() -> Self {
        Self::with_timeouts(Timeouts::default())
    }

    pub(crate) fn with_timeouts(timeouts: Timeouts) -> Self {
        let (key, operator) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let issuer = |name: &str, key: &SigningKey, rule| Issuer {
            name: name.into(),
            keys: IssuerKeys::Held(Arc::new(KeySet::new(vec![key.verifying_key()]))),
            rule,
        };
        let tokens = Tokens::new(vec![
            issuer(ISSUER, &key, IssuerRule::Authorizer),
            issuer(OPERATOR, &operator, IssuerRule::Operator(TenantName::default())),
        ]);
        let config = Config {
            hosts: Hosts { cloud: vec![HOST.into()], device_domain: Some("dev.example.com".into()) },
            cors: Cors::new(vec!["https://app.example.com".into()]),
            timeouts,
            sign_in: None,
        };
        let (clock, hand) = Clock::manual(NOW);
        let tasks = Tasks::new();
        let sessions = Arc::new(Sessions::default());
        let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
        let dialer: Arc<dyn Dialer> = sessions.clone();
        let proxy = Proxy::new(config, dialer, Arc::new(tokens), registry.clone(), clock, tasks.clone());
        Self { proxy, sessions, registry, clock: hand, tasks, outside: Tasks::new(), key, operator }
    }

    /// Connects a device in the tenant `default`.
    pub(crate) async fn connect(&self, id: &str, device: Device) {
        let outside = self.outside.clone();
        let spawn = |driver| drop(outside.spawn(driver));
        let settings = Settings::default;
        let pair = Pair::offering(device.offers(), settings(), settings(), spawn).await;
        self.sessions.held.lock().unwrap().insert(device_ref(id), pair.cloud);
        self.outside.spawn(device.run(pair.device, pair.cloud_control, self.outside.clone()));
    }

    /// What our authorizer says of the user, for all devices in these tests: operator on `cam`.
    pub(crate) fn token_body(&self) -> Value {
        json!({
            "iss": ISSUER, "aud": "tcpmux:proxy", "sub": user().as_str(), "tenant": "default", "gv": 7,
            "iat": NOW.secs(), "exp": NOW.secs() + 300, "until": NOW.secs() + 3600, "jti": "x",
            "devices": {"cam": {"level": "operator"}},
        })
    }

    pub(crate) fn sign(&self, body: &Value) -> String {
        self.key.sign("at+jwt", body).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        self.sign(&self.token_body())
    }

    pub(crate) fn token_of_level(&self, level: &str) -> String {
        let mut body = self.token_body();
        body["devices"]["cam"]["level"] = level.into();
        self.sign(&body)
    }

    /// The client's end of a connection to the proxy; `alpn` chooses the protocol.
    pub(crate) fn connection(&self, alpn: &[u8]) -> DuplexStream {
        self.watched_connection(alpn).0
    }

    /// The same, and whether the proxy ended it properly: over TLS, with a `close_notify`.
    pub(crate) fn watched_connection(&self, alpn: &[u8]) -> (DuplexStream, Arc<AtomicBool>) {
        let (client, server) = duplex(64 * 1024);
        let ended = Arc::new(AtomicBool::new(false));
        let server = Watched { io: server, ended: Arc::clone(&ended) };
        let info = ConnectionInfo {
            peer: "192.0.2.7:4711".parse().unwrap(),
            certificates: Arc::new([]),
            alpn: Some(alpn.into()),
        };
        let (proxy, tasks) = (Arc::clone(&self.proxy), self.tasks.clone());
        self.outside.spawn(async move {
            let serve = move |request| {
                let proxy = Arc::clone(&proxy);
                async move { proxy.handle(request).await }
            };
            serve_connection(server, info, ServeOptions::default(), &tasks, serve).await;
        });
        (client, ended)
    }

    /// An HTTP/1.1 client on a connection of its own.
    pub(crate) async fn client(&self) -> SendRequest<Body> {
        let io = TokioIo::new(self.connection(b"http/1.1"));
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        self.outside.spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 client on a connection of its own.
    pub(crate) async fn client_h2(&self) -> hyper::client::conn::http2::SendRequest<Body> {
        let io = TokioIo::new(self.connection(b"h2"));
        let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = connected.unwrap();
        self.outside.spawn(connection);
        sender
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        self.client().await.send_request(request).await.unwrap()
    }

    /// A request of the good user to the service `web` of `cam`; `uri` is what follows.
    pub(crate) fn request(&self, method: &str, uri: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("/d/cam/web{uri}"))
            .header("host", HOST)
            .header(AUTHORIZATION, format!("Bearer {}", self.token()))
    }

    pub(crate) async fn get(&self, uri: &str) -> Response<Incoming> {
        self.send(self.request("GET", uri).body(Body::empty()).unwrap()).await
    }

    /// Writes these bytes and reads until the proxy closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut connection = self.connection(b"http/1.1");
        // The proxy may close before it has read everything.
        let _ = connection.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(120), connection.read_to_end(&mut answer)).await;
        answer
    }
}

/// A connection that remembers whether it was shut down rather than dropped.
struct Watched {
    io: DuplexStream,
    ended: Arc<AtomicBool>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended.store(true, Ordering::SeqCst);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Status and code of a refusal.
pub(crate) async fn refusal(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
