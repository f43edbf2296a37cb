//! Services behind a device: plain TCP on loopback, every byte in the test's hand.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A service that runs until it is dropped, and remembers what came.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    _accepting: JoinSet<()>,
}

/// One connection to a service. What is read through it is remembered.
#[derive(Debug)]
pub struct Conversation {
    socket: TcpStream,
    pending: Vec<u8>,
    number: usize,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Service {
    /// Starts a service that holds every connection like this.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(Conversation) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(vec![]));
        let mut accepting = JoinSet::new();
        let remembered = Arc::clone(&seen);
        accepting.spawn(async move {
            let mut conversations = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((socket, _)) = accepted else { return };
                        let _ = socket.set_nodelay(true);
                        let number = {
                            let mut all = remembered.lock().unwrap();
                            all.push(vec![]);
                            all.len() - 1
                        };
                        let seen = Arc::clone(&remembered);
                        conversations.spawn(serve(Conversation { socket, pending: vec![], number, seen }));
                    }
                    Some(_) = conversations.join_next() => {}
                }
            }
        });
        Self { address, seen, _accepting: accepting }
    }

    /// An HTTP service that answers 200 to everything, with the very bytes of the request as its body.
    pub async fn mirror() -> Self {
        Self::start(|mut conversation| async move {
            while let Some(request) = conversation.request().await {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                    request.len()
                );
                conversation.write(head).await;
                conversation.write(request).await;
            }
        })
        .await
    }

    /// An HTTP service that answers everything with the same bytes, then closes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut conversation| {
            let bytes = bytes.clone();
            async move {
                if conversation.request().await.is_some() {
                    conversation.write(bytes).await;
                }
            }
        })
        .await
    }

    /// A TCP service that says the same to everybody and ends.
    pub async fn answering_at_once(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut conversation| {
            let bytes = bytes.clone();
            async move {
                conversation.write(bytes).await;
            }
        })
        .await
    }

    /// A TCP service that says everything back.
    pub async fn echo() -> Self {
        Self::start(|conversation| async move {
            let (mut read, mut write) = split(conversation.into_socket());
            let _ = copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for `--service`, as in `http://127.0.0.1:8080`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What was read from each connection, in the order of their coming.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Conversation {
    /// Reads until this is among what was read; all up to its end. `None` if the connection ends first.
    pub async fn read_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.pending.windows(mark.len()).position(|window| window == mark) {
                let rest = self.pending.split_off(at + mark.len());
                return Some(std::mem::replace(&mut self.pending, rest));
            }
            self.more().await?;
        }
    }

    /// Reads a whole request, head and body, as it is on the wire.
    pub async fn request(&mut self) -> Option<Vec<u8>> {
        let mut request = self.read_until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
        if field("transfer-encoding:") == Some("chunked") {
            loop {
                let line = self.read_until(b"\r\n").await?;
                let size = String::from_utf8_lossy(&line);
                let size =
                    usize::from_str_radix(size.trim().split(';').next().unwrap(), 16).expect("a chunk size");
                request.extend(line);
                if size > 0 {
                    request.extend(self.exactly(size + 2).await?);
                    continue;
                }
                loop {
                    let trailer = self.read_until(b"\r\n").await?;
                    request.extend(&trailer);
                    if trailer == b"\r\n" {
                        return Some(request);
                    }
                }
            }
        }
        let length = field("content-length:").map_or(0, |text| text.parse().expect("a length"));
        request.extend(self.exactly(length).await?);
        Some(request)
    }

    /// Reads this many bytes.
    pub async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.pending.len() < count {
            self.more().await?;
        }
        let rest = self.pending.split_off(count);
        Some(std::mem::replace(&mut self.pending, rest))
    }

    /// Reads whatever comes next; `None` at the end of the connection.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        if self.pending.is_empty() {
            self.more().await?;
        }
        Some(std::mem::take(&mut self.pending))
    }

    /// Writes; whether the other side still took it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Waits until the other side has closed or reset the connection.
    pub async fn until_gone(&mut self) {
        while self.more().await.is_some() {}
    }

    /// Ends the connection with a reset instead of a goodbye.
    pub fn reset(self) {
        // Zero is the value that makes a close a reset, and it does not block.
        let _ = self.socket.set_zero_linger();
    }

    /// The bare socket, for services that only copy.
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }

    async fn more(&mut self) -> Option<()> {
        let before = self.pending.len();
        match self.socket.read_buf(&mut self.pending).await {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                let mut seen = self.seen.lock().unwrap();
                let kept = &mut seen[self.number];
                let room = MOST_SEEN.saturating_sub(kept.len());
                kept.extend(self.pending[before..].iter().take(room));
                Some(())
            }
        }
    }
}

/// How much of a connection is remembered.
const MOST_SEEN: usize = 1024 * 1024;
