//! WebSockets at a door, opened as a program does: with headers of its own and no page around it.

use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::Door;

/// An open WebSocket.
pub type WebSocket = WebSocketStream<TlsStream<TcpStream>>;

impl Door {
    /// Opens a WebSocket, or tells the status that refused it.
    ///
    /// # Errors
    /// That status.
    ///
    /// # Panics
    /// If there is no answer of HTTP.
    pub async fn websocket(&self, path: &str, headers: &[(&str, &str)]) -> Result<WebSocket, u16> {
        self.websocket_on(self.connect().await, path, headers).await
    }

    /// The same on a connection that stands.
    ///
    /// # Errors
    /// The status that refused it.
    ///
    /// # Panics
    /// If there is no answer of HTTP.
    pub async fn websocket_on(
        &self,
        connection: TlsStream<TcpStream>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<WebSocket, u16> {
        let mut request = self.url(path).replacen("https", "wss", 1).into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            request.headers_mut().insert(name, HeaderValue::try_from(*value).unwrap());
        }
        match client_async(request, connection).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("{path}: {other}"),
        }
    }

    /// Opens a raw stream of bytes to a TCP service of a device.
    ///
    /// # Errors
    /// The status that refused it.
    ///
    /// # Panics
    /// If there is no answer of HTTP.
    pub async fn raw_stream(&self, device: &str, service: &str, token: &str) -> Result<WebSocket, u16> {
        let path = format!("/v1/devices/{device}/streams/{service}");
        let bearer = format!("Bearer {token}");
        let protocol = ("sec-websocket-protocol", "tcpmux.stream.v1");
        self.websocket(&path, &[("authorization", &bearer), protocol]).await
    }
}

/// The next event of a topic, or the code of its close.
///
/// # Errors
/// That code.
///
/// # Panics
/// If neither comes within twenty seconds.
pub async fn next_event(socket: &mut WebSocket) -> Result<Value, u16> {
    loop {
        let message = timeout(Duration::from_secs(20), socket.next()).await.expect("an event or a close");
        match message.expect("a close before the end").unwrap() {
            Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => return Err(frame.map_or(1005, |frame| frame.code.into())),
            _ => {}
        }
    }
}
