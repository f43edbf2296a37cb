//! What stands outside of this room, for its tests: a signer without secrets, a receiver that does as it is told.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::HeaderValue;
use model::{Secret, WebhookId};
use runtime::{
    Tasks,
    http::{Destinations, HttpClient, Outbound, SystemResolver},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Outlets, Push, PushSender, WebhookSigner};

/// Ways out to this machine alone.
pub(crate) fn outlets(push: Option<&Receiver>) -> Outlets {
    let loopback = Destinations::allowing(["127.0.0.0/8".parse().unwrap()]);
    Outlets {
        signer: Arc::new(Signer),
        outbound: Outbound::new(HttpClient::loopback_only(), loopback, Arc::new(SystemResolver)),
        push: push.map(|service| Push {
            sender: Arc::new(Sender),
            client: HttpClient::loopback_only(),
            url: service.url(""),
        }),
    }
}

/// Says what it was asked instead of signing.
struct Signer;

impl WebhookSigner for Signer {
    fn make(&self, webhook: &WebhookId) -> (Secret<String>, Vec<u8>) {
        let number: [u8; 4] = runtime::random::bytes();
        let word = model::hex(&number);
        (Secret::new(format!("whsec_{word}")), format!("{webhook}:{word}").into_bytes())
    }

    fn sign(
        &self,
        webhook: &str,
        sealed: &[Vec<u8>],
        message: &str,
        seconds: i64,
        body: &[u8],
    ) -> Result<String, String> {
        let one = |sealed: &Vec<u8>| {
            let sealed = String::from_utf8(sealed.clone()).unwrap();
            let (owner, word) = sealed.split_once(':').unwrap();
            if owner != webhook {
                return Err("sealed for another".to_owned());
            }
            Ok(format!("v1,{word}.{message}.{seconds}.{}", body.len()))
        };
        Ok(sealed.iter().map(one).collect::<Result<Vec<_>, _>>()?.join(" "))
    }
}

struct Sender;

impl PushSender for Sender {
    fn project(&self) -> &str {
        "demo-1"
    }

    fn authorization<'a>(
        &'a self,
        refused: Option<&'a HeaderValue>,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, String>> + Send + 'a>> {
        let token = if refused.is_some() { "Bearer second" } else { "Bearer first" };
        Box::pin(async move { Ok(HeaderValue::from_static(token)) })
    }
}

/// An HTTP server that gives the answers of its script, the last one for ever, and remembers what came.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: Tasks,
}

struct State {
    answers: Vec<String>,
    requests: Vec<String>,
}

impl Receiver {
    /// Answers as in `["500", "410", "200"]`, each with what may follow the status line.
    pub(crate) async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = answers.iter().rev().map(|&answer| answer.to_owned()).collect();
        let state = Arc::new(Mutex::new(State { answers, requests: vec![] }));
        let tasks = Tasks::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                serve(socket, &shared).await;
            }
        });
        Self { address, state, tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came, heads and bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Waits until so many requests came.
    pub(crate) async fn until(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} requests"), || async {
            let requests = self.requests();
            if requests.len() >= count { Ok(requests) } else { Err(requests) }
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

async fn serve(mut socket: TcpStream, state: &Mutex<State>) {
    let mut text = String::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = socket.read(&mut buffer).await.unwrap();
        text += std::str::from_utf8(&buffer[..count]).unwrap();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if count == 0 || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
            break;
        }
    }
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(text);
        let answers = &mut state.answers;
        if answers.len() > 1 { answers.pop() } else { answers.last().cloned() }
    };
    let (status, more) = answer
        .as_deref()
        .unwrap_or("200")
        .split_once('|')
        .unwrap_or((answer.as_deref().unwrap_or("200"), ""));
    let (headers, body) = more.split_once('|').unwrap_or((more, ""));
    let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
    let answer = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(answer.as_bytes()).await.unwrap();
}

/// Waits up to ten seconds until `look` gives `Ok`.
pub(crate) async fn eventually<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let mut last = None;
    let waiting = async {
        loop {
            match look().await {
                Ok(value) => return value,
                Err(seen) => last = Some(seen),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    outcome.unwrap_or_else(|_| panic!("{what}: not in time; last seen: {last:?}"))
}
