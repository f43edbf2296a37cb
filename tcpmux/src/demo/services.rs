//! What the demo's devices serve on their own loopback: small programs that know nothing of tunnels.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Response, header},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use runtime::{Tasks, listen};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio_tungstenite::tungstenite::Message;

/// A web service: `/` a page, `/api/status`, `/api/echo` (POST), `/api/headers`, `/api/clock` (SSE).
///
/// # Errors
/// If there is no port.
pub(super) async fn web(name: &'static str, tasks: &Tasks) -> anyhow::Result<SocketAddr> {
    let router = Router::new()
        .route("/", get(page))
        .route("/api/status", get(status))
        .route("/api/headers", get(headers))
        .route("/api/echo", post(echo))
        .route("/api/clock", get(clock))
        .with_state(name);
    let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let accepting = tasks.clone();
    tasks.spawn(async move {
        listen::accept(listener, &accepting, |socket, _| {
            let service = TowerToHyperService::new(router.clone());
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            accepting.spawn(connection);
        })
        .await;
    });
    Ok(address)
}

/// A WebSocket service that says everything back.
///
/// # Errors
/// If there is no port.
pub(super) async fn websocket_echo(tasks: &Tasks) -> anyhow::Result<SocketAddr> {
    let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let accepting = tasks.clone();
    tasks.spawn(async move {
        listen::accept(listener, &accepting, |socket, _| {
            accepting.spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(socket).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if matches!(message, Message::Text(_) | Message::Binary(_))
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        })
        .await;
    });
    Ok(address)
}

/// A TCP service that speaks first, then says everything back.
///
/// # Errors
/// If there is no port.
pub(super) async fn greeting_echo(tasks: &Tasks) -> anyhow::Result<SocketAddr> {
    let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let accepting = tasks.clone();
    tasks.spawn(async move {
        listen::accept(listener, &accepting, |mut socket, _| {
            accepting.spawn(async move {
                socket.write_all(GREETING.as_bytes()).await?;
                let (mut read, mut write) = split(socket);
                copy(&mut read, &mut write).await?;
                write.shutdown().await
            });
        })
        .await;
    });
    Ok(address)
}

async fn page(State(name): State<&'static str>) -> ([(header::HeaderName, &'static str); 1], String) {
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        format!("<!doctype html><title>{name}</title><h1>{name}</h1>\n"),
    )
}

async fn status(State(name): State<&'static str>) -> Json<Value> {
    Json(json!({"device": name, "state": "ok"}))
}

async fn headers(headers: HeaderMap) -> Json<Value> {
    let all: Vec<Value> = headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    Json(Value::Array(all))
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn clock() -> Response<Body> {
    let ticks = stream::unfold(0_u64, |count| async move {
        if count > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Some((Ok::<_, Infallible>(format!("id: {count}\ndata: tick {count}\n\n")), count + 1))
    });
    let mut response = Response::new(Body::from_stream(ticks));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    response
}

/// What [`greeting_echo`] says first.
pub(super) const GREETING: &str = "hello from the device\n";
