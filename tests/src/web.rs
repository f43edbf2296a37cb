//! A well-behaved web service: what a device's own program would do with each kind of request.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

use crate::Service;

type Outgoing = UnsyncBoxBody<Bytes, Infallible>;

/// Starts the service. Paths, after any prefix:
/// `/echo` says the body back as it comes · `/count` how many bytes the body had · `/method` in the
/// header `x-method` · `/bytes/N` so many bytes with their length · `/chunks/N` so many without ·
/// `/trailers` the request's trailers as text, with a trailer of its own · `/status/N` · `/ws` a
/// WebSocket that says everything back.
pub async fn web() -> Service {
    Service::start(|conversation| async move {
        let socket = TokioIo::new(conversation.into_socket());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(
                socket,
                service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) }),
            )
            .with_upgrades();
        // A client that went away is the other side's affair.
        drop(connection.await);
    })
    .await
}

async fn answer(request: Request<Incoming>) -> Response<Outgoing> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    match parts.next().unwrap_or_default() {
        "echo" => {
            let kind = request.headers().get("content-type").cloned();
            let mut response = Response::new(UnsyncBoxBody::new(Quiet(request.into_body())));
            if let Some(kind) = kind {
                response.headers_mut().insert("content-type", kind);
            }
            response
        }
        "count" => text(count(request.into_body()).await.to_string()),
        "method" => {
            let method = HeaderValue::from_str(request.method().as_str()).unwrap();
            let mut response = text("method");
            response.headers_mut().insert("x-method", method);
            response
        }
        "bytes" => {
            let mut response = Response::new(zeros(number(parts.next())));
            let length = number(path.rsplit('/').next());
            response.headers_mut().insert("content-length", HeaderValue::from(length));
            response
        }
        "chunks" => Response::new(zeros(number(parts.next()))),
        "trailers" => trailers(request).await,
        "status" => {
            let mut response = text("as asked");
            *response.status_mut() = StatusCode::from_u16(number(parts.next()) as u16).unwrap();
            response
        }
        "ws" => websocket(request),
        _ => {
            let mut response = text("nothing here");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn text(text: impl Into<Bytes>) -> Response<Outgoing> {
    Response::new(UnsyncBoxBody::new(Full::new(text.into())))
}

async fn count(mut body: Incoming) -> usize {
    let mut count = 0;
    while let Some(Ok(frame)) = body.frame().await {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
    count
}

fn zeros(count: usize) -> Outgoing {
    let block = Bytes::from(vec![0; BLOCK]);
    let pieces = stream::unfold(count, move |left| {
        let piece = block.slice(..left.min(BLOCK));
        async move { (left > 0).then(|| (Ok::<_, Infallible>(Frame::data(piece)), left.saturating_sub(BLOCK))) }
    });
    UnsyncBoxBody::new(StreamBody::new(pieces))
}

async fn trailers(request: Request<Incoming>) -> Response<Outgoing> {
    let wanted = request.headers().get("te").cloned();
    let collected = request.into_body().collect().await;
    let received = collected.ok().and_then(|collected| collected.trailers().cloned()).unwrap_or_default();
    let told: String =
        received.iter().map(|(name, value)| format!("{name}={}\n", value.to_str().unwrap_or("?"))).collect();
    let mut own = HeaderMap::new();
    own.insert("x-checksum", HeaderValue::from_static("abc123"));
    let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from(told))), Ok(Frame::trailers(own))];
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(stream::iter(frames))));
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
    if let Some(te) = wanted {
        response.headers_mut().insert("x-te", te);
    }
    response
}

fn websocket(mut request: Request<Incoming>) -> Response<Outgoing> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        let mut response = text("this is a WebSocket");
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    let accept = derive_accept_key(key.as_bytes());
    let protocol = request.headers().get("sec-websocket-protocol").cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    let mut sockets = JoinSet::new();
    sockets.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default();
        let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(
            TokioIo::new(upgraded),
            Role::Server,
            Some(config),
        )
        .await;
        while let Some(Ok(message)) = socket.next().await {
            let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
            if is_data && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    sockets.detach_all();
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept);
    if let Some(protocol) = protocol {
        response = response.header("sec-websocket-protocol", protocol);
    }
    response.body(UnsyncBoxBody::new(Full::default())).unwrap()
}

/// A body of requests that ends quietly where it is cut: the connection is gone then anyway.
struct Quiet<B>(B);

impl<B, E> hyper::body::Body for Quiet<B>
where
    B: hyper::body::Body<Data = Bytes, Error = E> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context).map(|frame| frame.and_then(Result::ok).map(Ok))
    }
}

const BLOCK: usize = 64 * 1024;
