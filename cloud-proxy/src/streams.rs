//! Raw TCP over WebSocket, subprotocol `tcpmux.stream.v1`.
//!
//! - A binary message carries bytes, any number of them, at most 1 MiB; message borders mean nothing.
//! - An **empty** binary message says that its sender's direction is finished (a TCP FIN). The client may send
//!   one and go on reading; nothing but Close, Ping and Pong may follow it.
//! - `Close` 1000 from us: the device finished, every byte of it was sent before. From the client: done with both.
//! - `Close` 1011: the device's service reset the connection or the tunnel was lost; 1008: the right to this
//!   stream ended; 1003: a text message; 1002: bytes after the end; 1001: nothing was said for too long.
//!   A connection that ends without a Close is an abnormal end, too.
//! - We ping every 30 s, which keeps the path open; a client silent for five minutes is gone.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::{Code, Refusal};
use tcpmux_proto::TunnelStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    account::{self, Account, End},
    admit::Lease,
    download::with_causes,
    headers::list,
    lease,
    request::{Exchange, Shape},
    splice::Moved,
    surroundings::Surroundings,
};

/// A client's valid WebSocket handshake for a raw stream (RFC 6455 §4.2.1).
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: HeaderValue,
}

impl Handshake {
    /// Reads it, before the device is asked for anything.
    pub(crate) fn read(headers: &HeaderMap, shape: &Shape) -> Result<Self, Refusal> {
        if shape.exchange != Exchange::WebSocket {
            let detail = "a raw stream is a WebSocket with subprotocol tcpmux.stream.v1";
            return Err(Refusal::new(Code::BadRequest, detail).with_status(426));
        }
        let refuse = |why: &'static str| Err(Refusal::new(Code::BadRequest, why));
        if list(headers, &SEC_WEBSOCKET_VERSION) != ["13"] {
            return refuse("the WebSocket version has to be 13");
        }
        if !list(headers, &SEC_WEBSOCKET_PROTOCOL).iter().any(|name| name == SUBPROTOCOL) {
            return refuse("the WebSocket has to offer the subprotocol tcpmux.stream.v1");
        }
        let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let accept = match (keys.next(), keys.next()) {
            // 16 bytes in base64.
            (Some(key), None) if key.len() == 24 => {
                HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
            }
            _ => None,
        };
        match accept {
            Some(accept) => Ok(Self { accept }),
            None => refuse("the WebSocket has to have one key of 16 bytes"),
        }
    }

    /// The 101 that answers it.
    pub(crate) fn answer(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        response
    }
}

/// Carries the bytes, in a task of its own, once the client's connection has switched.
pub(crate) fn carry(
    around: &Arc<Surroundings>,
    client: OnUpgrade,
    stream: TunnelStream,
    lease: Lease,
    mut account: Account,
) {
    let tasks = around.tasks.clone();
    let around = Arc::clone(around);
    tasks.spawn(async move {
        let Ok(client) = client.await else { return };
        let client = TokioIo::new(client);
        let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(bounds())).await;
        let bytes = account.bytes();
        let end = relay(&around, socket, stream, &lease, &bytes).await;
        account.ended(end);
    });
}

async fn relay<S>(
    around: &Surroundings,
    socket: WebSocketStream<S>,
    stream: TunnelStream,
    lease: &Lease,
    bytes: &account::Bytes,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    let (mut device_read, mut device_write) = split(stream);
    let (heard, moved) = (Moved::now(), Moved::now());
    let verdict = {
        let up = upward(&mut source, &mut device_write, &heard, &moved, bytes);
        let down = downward(&mut device_read, &mut sink, &moved, bytes);
        tokio::select! {
            verdict = up => verdict,
            verdict = down => verdict,
            () = heard.idle_for(SILENCE) => Verdict::Gone,
            () = moved.idle_for(around.timeouts.idle) => Verdict::Close(CloseCode::Away, "nothing was said for too long"),
            end = lease::ended(lease, &around.registry, &around.clock) => Verdict::Close(CloseCode::Policy, end.as_str()),
        }
    };
    match verdict {
        Verdict::Gone => End::ClientGone,
        Verdict::ClientClosed => {
            // What the client sent has to arrive before the reset that dropping the stream is.
            let _ = device_write.shutdown().await;
            let _ = timeout(LINGER, discard(&mut device_read)).await;
            End::Complete
        }
        Verdict::DeviceFinished => {
            close(&mut sink, CloseCode::Normal, "").await;
            // The client's answer to the Close, and what it still had to say.
            let _ = timeout(LINGER, upward(&mut source, &mut device_write, &heard, &moved, bytes)).await;
            End::Complete
        }
        Verdict::DeviceBroke(error) => {
            close(&mut sink, CloseCode::Error, "the device's service or its tunnel broke the connection")
                .await;
            End::Broken(error)
        }
        Verdict::Close(code, reason) => {
            close(&mut sink, code, reason).await;
            End::Cut(reason)
        }
    }
}

/// How a raw stream comes to its end.
enum Verdict {
    /// The client sent a Close.
    ClientClosed,
    /// The client's connection broke, or nothing was heard of it.
    Gone,
    /// The device's service finished.
    DeviceFinished,
    /// The device's service reset, or the tunnel was lost.
    DeviceBroke(String),
    /// We end it, with this code and reason.
    Close(CloseCode, &'static str),
}

/// Client to device, until there is a reason to end.
async fn upward(
    source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    device: &mut (impl AsyncWrite + Unpin),
    heard: &Moved,
    moved: &Moved,
    bytes: &account::Bytes,
) -> Verdict {
    let mut is_finished = false;
    loop {
        let message = match source.next().await {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => {
                return Verdict::Close(CloseCode::Size, "a message has at most 1 MiB");
            }
            Some(Err(Error::Protocol(_) | Error::Utf8(_))) => {
                return Verdict::Close(CloseCode::Protocol, "not a WebSocket");
            }
            Some(Err(_)) | None => return Verdict::Gone,
        };
        heard.note();
        let data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return Verdict::ClientClosed,
            Message::Text(_) => {
                return Verdict::Close(CloseCode::Unsupported, "only binary messages carry bytes");
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        moved.note();
        let written = if is_finished {
            return Verdict::Close(CloseCode::Protocol, "bytes after the end");
        } else if data.is_empty() {
            is_finished = true;
            device.shutdown().await
        } else {
            match device.write_all(&data).await {
                Ok(()) => device.flush().await,
                Err(error) => Err(error),
            }
        };
        if let Err(error) = written {
            return Verdict::DeviceBroke(with_causes(&error));
        }
        bytes.up(data.len());
        moved.note();
        heard.note();
    }
}

/// Device to client, with pings in between, until there is a reason to end.
async fn downward(
    device: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    moved: &Moved,
    bytes: &account::Bytes,
) -> Verdict {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut buffer = vec![0; CHUNK];
    loop {
        let message = tokio::select! {
            read = device.read(&mut buffer) => match read {
                Ok(0) => return Verdict::DeviceFinished,
                Ok(count) => {
                    moved.note();
                    bytes.down(count);
                    Message::Binary(Bytes::copy_from_slice(&buffer[..count]))
                }
                Err(error) => return Verdict::DeviceBroke(with_causes(&error)),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return Verdict::Gone;
        }
    }
}

async fn discard(device: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while matches!(device.read(&mut buffer).await, Ok(1..)) {}
}

async fn close(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    code: CloseCode,
    reason: &'static str,
) {
    let frame = CloseFrame { code, reason: reason.into() };
    // A client that is gone need not be told.
    let _ = timeout(LINGER, sink.send(Message::Close(Some(frame)))).await;
}

fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(CHUNK)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE)
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE))
}

/// The subprotocol of raw streams.
pub const SUBPROTOCOL: &str = "tcpmux.stream.v1";
const MESSAGE: usize = 1024 * 1024;
const CHUNK: usize = 16 * 1024;
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(300);
/// For what may still come after one side is done.
const LINGER: Duration = Duration::from_secs(5);
