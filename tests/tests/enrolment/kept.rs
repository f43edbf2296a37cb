//! One connection for many requests, as bytes.

use std::time::Duration;

use tests::Door;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// A connection that is used again.
pub(super) struct Kept(TlsStream<TcpStream>);

impl Kept {
    pub(super) async fn open(door: &Door) -> Self {
        Self(door.connect().await)
    }

    /// Sends a request and reads its answer; the status.
    pub(super) async fn exchange(&mut self, request: &str) -> String {
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
        let mut said = vec![];
        loop {
            let read = timeout(Duration::from_secs(10), self.0.read_buf(&mut said)).await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&said).into_owned();
            assert!(read > 0, "ended before its answer: {text}");
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if length.is_some_and(|length: usize| body.len() >= length) {
                return head[9..12].to_owned();
            }
        }
    }

    pub(super) async fn until_closed(mut self) {
        let mut rest = vec![];
        let ended = timeout(Duration::from_secs(5), self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "the connection lives on");
    }
}
