//! A receiver of webhooks that nobody here needs to trust: HTTPS with a certificate of a CA of its own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Authority, Service, eventually_within};

/// A receiver that runs until it is dropped, answers as it is told, and remembers what came.
#[derive(Debug)]
pub struct Receiver {
    service: Service,
    authority: Authority,
    state: Arc<Mutex<State>>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

#[derive(Debug)]
struct State {
    status: u16,
    received: Vec<Received>,
}

impl Receiver {
    /// Starts it; it answers 204.
    ///
    /// # Panics
    /// If there is no port or no randomness.
    pub async fn start() -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor();
        let state = Arc::new(Mutex::new(State { status: 204, received: vec![] }));
        let shared = Arc::clone(&state);
        let service = Service::start(move |conversation| {
            let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
            async move {
                let Ok(mut stream) = acceptor.accept(conversation.into_socket()).await else { return };
                let Some(received) = read(&mut stream).await else { return };
                let status = {
                    let mut state = state.lock().unwrap();
                    state.received.push(received);
                    state.status
                };
                let answer =
                    format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                // A caller that has gone does not want it.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await;
        Self { service, authority, state }
    }

    /// What a cloud has to be told so that it calls this one.
    pub fn config(&self) -> String {
        format!("[webhooks]\nallow = [\"127.0.0.0/8\"]\nca = {:?}\n", self.root().display().to_string())
    }

    /// The root of its certificate.
    pub fn root(&self) -> PathBuf {
        self.authority.root()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/hook", self.address().port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.state.lock().unwrap().status = status;
    }

    /// What came.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// Waits until one came that fits.
    ///
    /// # Panics
    /// If none comes in a minute.
    pub async fn until(&self, what: &str, fits: impl Fn(&Received) -> bool) -> Received {
        eventually_within(std::time::Duration::from_secs(60), what, || async {
            let received = self.received();
            received.iter().rev().find(|one| fits(one)).cloned().ok_or(received)
        })
        .await
    }
}

impl Received {
    /// A header field; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Received> {
    let mut bytes = vec![];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let headers: Vec<(String, String)> = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, value)| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                return Some(Received { headers, body });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
