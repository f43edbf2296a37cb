//! A device of any manners, at the other end of a real tunnel.

use std::{collections::HashMap, convert::Infallible, future::Future, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming as Received, service::service_fn};
use hyper_util::rt::TokioIo;
use runtime::Tasks;
use tcpmux_proto::{
    BoxFuture, CloudControl, Greeted, IncomingStream, LocalHost, OpenError, ServiceOffer, StreamKind,
    TunnelStream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Handler = Arc<dyn Fn(IncomingStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// A device and what answers at its services.
#[derive(Default)]
pub(crate) struct Device {
    services: HashMap<String, Handler>,
    hosts: HashMap<String, LocalHost>,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A service that gets the stream before it is accepted.
    pub(crate) fn service<F>(
        mut self,
        name: &str,
        handler: impl Fn(IncomingStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.services.insert(name.into(), Arc::new(move |stream| Box::pin(handler(stream))));
        self
    }

    /// A service that is handed an accepted stream.
    pub(crate) fn raw<F>(
        self,
        name: &str,
        handler: impl Fn(TunnelStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.service(name, move |stream| {
            let handler = Arc::clone(&handler);
            async move { handler(stream.accept().await).await }
        })
    }

    /// A service at which hyper's own server answers.
    pub(crate) fn http<F>(
        self,
        name: &str,
        answer: impl Fn(Request<Received>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        self.service(name, move |stream| {
            let answer = answer.clone();
            async move {
                assert_eq!(stream.header.kind, StreamKind::Http);
                let io = TokioIo::new(stream.accept().await);
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                let served = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
                let _ = served.with_upgrades().await;
            }
        })
    }

    /// A service that reads one request head and says exactly these bytes, then does as `after` says.
    pub(crate) fn says(self, name: &str, bytes: &'static [u8], after: After) -> Self {
        self.raw(name, move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            match after {
                After::Finish => {
                    stream.shutdown().await.unwrap();
                    linger(&mut stream).await;
                }
                After::Reset => {
                    // A reset may overtake what is still queued: paused time moves on when nothing is.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    stream.reset();
                }
                After::Stay => linger(&mut stream).await,
            }
        })
    }

    /// Says what a service takes for its own name.
    pub(crate) fn called(mut self, name: &str, authority: &str, fixed: bool) -> Self {
        let host = LocalHost { authority: authority.parse().unwrap(), fixed };
        self.hosts.insert(name.into(), host);
        self
    }

    /// What its hello tells of its services.
    pub(crate) fn offers(&self) -> Vec<ServiceOffer> {
        let offer = |name: &String| ServiceOffer {
            name: name.parse().unwrap(),
            kind: StreamKind::Http,
            viewer_websocket: false,
            host: self.hosts.get(name).cloned(),
        };
        self.services.keys().map(offer).collect()
    }

    /// Serves streams for as long as the session lives.
    pub(crate) async fn run(self, greeted: Greeted, control: CloudControl, tasks: Tasks) {
        let Greeted { mut incoming, handle: _handle, control: _device_control, .. } = greeted;
        let _control = control;
        while let Some(stream) = incoming.next().await {
            match self.services.get(stream.header.service.as_str()) {
                Some(handler) => drop(tasks.spawn(handler(stream))),
                None => stream.reject(OpenError::UnknownService),
            }
        }
    }
}

/// What a device does once it has said its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Ends its direction.
    Finish,
    /// Resets the stream.
    Reset,
    /// Says nothing more.
    Stay,
}

/// Reads until the other side is gone.
pub(crate) async fn linger(stream: &mut TunnelStream) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

/// Reads up to the empty line, and no byte beyond.
pub(crate) async fn read_head(stream: &mut TunnelStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
