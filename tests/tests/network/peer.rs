//! A device that is spoken by hand over real TLS, frame by frame.

use std::{collections::HashMap, io, time::Duration};

use model::RequestId;
use tcpmux_proto::{
    ALPN, CloudMessage,
    agent::AgentRequest,
    frame::{ACK, FIN, FrameHeader, FrameKind, HEADER_LEN, RST, SYN},
};
use tests::{Cloud, Identity};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink, split},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// One connection of such a device.
pub(crate) struct Peer {
    stream: TlsStream<TcpStream>,
}

/// How an attempt to get a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Greeted {
    Welcome,
    Refused(String),
    /// The connection ended without a word of the protocol.
    Closed,
}

impl Peer {
    /// Connects and shakes hands; with TLS 1.3 a server's no comes with the first read.
    pub(crate) async fn dial(cloud: &Cloud, identity: &Identity) -> io::Result<Self> {
        let tls = cloud.device().tls().clone().with_identity(identity.clone()).with_alpn(&[ALPN]);
        Ok(Self { stream: tls.connect(cloud.device_address()).await? })
    }

    /// A session that stands and was talked on. The boot id is always the same: one device that comes again.
    pub(super) async fn welcomed(cloud: &Cloud, identity: &Identity) -> Self {
        let mut peer = Self::dial(cloud, identity).await.unwrap();
        assert_eq!(peer.greet("by-hand").await, Greeted::Welcome);
        peer.send(&frame(1, 0, &message(br#"{"type":"ping","n":7}"#))).await;
        while let Some((header, payload)) = peer.frame().await {
            if header.kind == FrameKind::Data && String::from_utf8_lossy(&payload).contains("pong") {
                return peer;
            }
        }
        panic!("the session ended")
    }

    /// Says hello and waits for the answer.
    pub(crate) async fn greet(&mut self, boot_id: &str) -> Greeted {
        if !self.send(&hello(boot_id)).await {
            return Greeted::Closed;
        }
        while let Some((header, payload)) = self.frame().await {
            if header.kind != FrameKind::Data || payload.len() < 2 {
                continue;
            }
            return match serde_json::from_slice(&payload[2..]).unwrap() {
                CloudMessage::Welcome(_) => Greeted::Welcome,
                CloudMessage::Refused(refused) => Greeted::Refused(
                    serde_json::to_value(refused.reason).unwrap().as_str().unwrap().to_owned(),
                ),
                other => panic!("instead of an answer to the hello: {other:?}"),
            };
        }
        Greeted::Closed
    }

    /// Sends bytes as they are; whether the other side still took them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The next frame; `None` at the end of the connection, which has to come within ten seconds otherwise.
    pub(super) async fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        let read = async {
            let mut header = [0; HEADER_LEN];
            self.stream.read_exact(&mut header).await.ok()?;
            let header = FrameHeader::decode(header).unwrap();
            let length = if header.kind == FrameKind::Data { header.length } else { 0 };
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((header, payload))
        };
        timeout(Duration::from_secs(10), read).await.expect("a frame or the end")
    }

    /// The next stream that the cloud opens to a service: its id and its first bytes. Calls to the daemon itself are
    /// reset.
    pub(super) async fn opened(&mut self) -> Option<(u32, Vec<u8>)> {
        loop {
            let (header, payload) = self.frame().await?;
            if header.kind == FrameKind::Ping && header.has(SYN) {
                self.send(&FrameHeader::ping(ACK, header.length).encode()).await;
            } else if header.has(SYN) && payload.get(3) == Some(&TO_THE_DAEMON) {
                self.send(&frame(header.stream, ACK | RST, b"")).await;
            } else if header.has(SYN) {
                return Some((header.stream, payload));
            }
        }
    }

    /// The device token that the cloud hands to the daemon once the session stands. It is acknowledged; other calls
    /// are reset.
    pub(crate) async fn device_token(&mut self) -> String {
        let mut calls: HashMap<u32, Vec<u8>> = HashMap::new();
        loop {
            let (header, payload) = self.frame().await.expect("a session that stands");
            if header.kind == FrameKind::Ping && header.has(SYN) {
                self.send(&FrameHeader::ping(ACK, header.length).encode()).await;
            }
            if header.kind != FrameKind::Data || header.stream % 2 == 1 {
                continue;
            }
            let call = calls.entry(header.stream).or_default();
            call.extend(payload);
            let Some(text) = text_of_call(call) else { continue };
            let request: AgentRequest = serde_json::from_slice(text).unwrap();
            let done = [&[ACCEPTED][..], &message(br#"{"type":"done"}"#)].concat();
            match request {
                AgentRequest::DeviceToken { token, .. } => {
                    self.send(&frame(header.stream, ACK | FIN, &done)).await;
                    return token.expose().clone();
                }
                _ => self.send(&frame(header.stream, ACK | RST, b"")).await,
            };
        }
    }

    /// Sends all of this and waits for the end of the connection; whether it comes in time. Someone who
    /// does not read begins to do so only when all is sent, or can be sent no more.
    pub(super) async fn attack(self, bytes: &[u8], reads: bool, within: Duration) -> bool {
        let (mut read, mut write) = split(self.stream);
        let mut nowhere = sink();
        let talk = async {
            // The victim may well be gone before all is said.
            let _ = write.write_all(bytes).await;
            let _ = write.flush().await;
        };
        // Whether with TLS's goodbye or without: it is the end.
        let listen = copy(&mut read, &mut nowhere);
        let whole = async {
            if reads {
                let _ = tokio::join!(talk, listen);
            } else {
                talk.await;
                let _ = listen.await;
            }
        };
        timeout(within, whole).await.is_ok()
    }

    /// Waits for the end of the connection without a word; whether it comes in time.
    pub(super) async fn ends(self, within: Duration) -> bool {
        self.attack(&[], true, within).await
    }
}

/// The text of a call to the daemon, behind the header of its stream, once it is whole.
fn text_of_call(bytes: &[u8]) -> Option<&[u8]> {
    let length = |at: usize| Some(usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let header = length(1)?;
    bytes.get(header + 2..header + 2 + length(header)?)
}

/// The bytes of the control stream's opening with a hello.
pub(super) fn hello(boot_id: &str) -> Vec<u8> {
    let text = serde_json::json!({
        "type": "hello", "agent_version": "1.0", "boot_id": boot_id, "slot": 0,
        "services": [{"name": "web", "kind": "http"}],
    });
    frame(1, SYN, &message(text.to_string().as_bytes()))
}

/// A control message: its length, its text.
pub(super) fn message(text: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes
}

/// A data frame.
pub(super) fn frame(stream: u32, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = FrameHeader::data(stream, flags, length).encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Bytes without any order, always the same.
pub(super) fn garbage(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A stream header of the cloud, as it stands on the wire (docs/protocol.md §3).
pub(super) fn stream_header(kind: u8, service: &str) -> Vec<u8> {
    let id = RequestId::from_random([7; 16]).to_string();
    let id = model::unhex(id.trim_start_matches("req_")).unwrap();
    let mut bytes = vec![1, 0, 0, kind, 2, 0, 0, 0x13, 0x88];
    bytes.extend(id);
    bytes.extend([1; 16]);
    bytes.extend([2; 32]);
    bytes.extend([u8::try_from(service.len()).unwrap(), 0, 0, 0]);
    bytes.extend(service.bytes());
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    bytes[1..3].copy_from_slice(&length);
    bytes
}

/// The status byte of a stream that is taken.
const ACCEPTED: u8 = 0;
/// The kind of a stream that is a call to the daemon, in its header.
const TO_THE_DAEMON: u8 = 3;
