//! Tunnels in memory, and a peer that says whatever a test wants.

use std::time::Duration;

use bytes::Bytes;
use model::{Generation, SessionId};
use tcpmux_proto::{
    Buffered, CloudControl, CloudHandshake, CloudMessage, Destination, DeviceMessage, Driver, Ended, Greeted,
    Hello, SessionHandle, Settings, StreamHeader, StreamKind, TunnelStream, Welcome, cloud, device,
    frame::{ACK, FrameHeader, FrameKind, HEADER_LEN, SYN},
    testing::{self, Pair},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinSet,
};

/// Both ends of a tunnel, and the tasks of its drivers.
pub(crate) struct Tunnel {
    pub(crate) pair: Pair,
    pub(crate) drivers: JoinSet<Ended>,
}

impl Tunnel {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default(), Settings::default()).await
    }

    pub(crate) async fn with(cloud: Settings, device: Settings) -> Self {
        let mut drivers = JoinSet::new();
        let pair = Pair::with(cloud, device, |driver| drop(drivers.spawn(driver))).await;
        Self { pair, drivers }
    }

    /// One accepted stream: the cloud's end and the device's.
    pub(crate) async fn stream(&mut self, kind: StreamKind) -> (TunnelStream, TunnelStream) {
        let mut cloud = self.pair.cloud.open(header(kind)).unwrap();
        let (accepted, device) = tokio::join!(cloud.accepted(), self.accept());
        accepted.unwrap();
        (cloud, device)
    }

    pub(crate) async fn accept(&mut self) -> TunnelStream {
        self.pair.device.incoming.next().await.unwrap().accept().await
    }

    /// Ends the drivers as a lost connection does, without a word to the peer.
    pub(crate) async fn kill(&mut self) {
        self.drivers.shutdown().await;
    }
}

pub(crate) fn header(kind: StreamKind) -> StreamHeader {
    let header = testing::header("web", kind);
    match kind {
        StreamKind::Agent => StreamHeader { service: Destination::Agent, ..header },
        _ => header,
    }
}

pub(crate) fn hello() -> Hello {
    Hello {
        agent_version: "1.0".into(),
        boot_id: "b1".into(),
        slot: 0,
        features: vec!["x".into()],
        claim_digest: Some([9; 32]),
        services: Vec::new(),
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        session: SessionId::from_random([3; 16]),
        generation: Generation(4),
        features: Vec::new(),
        heartbeat: Duration::from_secs(20),
        limits: Default::default(),
    }
}

/// Bytes that betray loss, doubling and disorder.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed.wrapping_mul(97)) as u8).collect()
}

/// A peer that is spoken by hand, frame by frame.
pub(crate) struct Raw {
    pub(crate) io: DuplexStream,
}

impl Raw {
    /// A cloud under test and a device spoken by hand, greeted.
    pub(crate) async fn device(settings: Settings) -> (Self, SessionHandle, CloudControl, JoinSet<Ended>) {
        let (mut raw, handshake, drivers) = Self::silent_device(settings);
        let text = serde_json::to_vec(&DeviceMessage::Hello(hello())).unwrap();
        raw.send(FrameHeader::data(1, SYN, 2 + text.len() as u32), &prefixed(&text)).await;
        let greeting = handshake.hello(Duration::from_secs(5)).await.unwrap();
        let (session, control) = greeting.welcome(welcome()).await.unwrap();
        let (header, answer) = raw.frame_of(1).await;
        assert!(header.has(ACK), "the stream is acknowledged with the first frame");
        assert!(matches!(serde_json::from_slice(&answer[2..]).unwrap(), CloudMessage::Welcome(_)));
        (raw, session, control, drivers)
    }

    /// A cloud under test and a device that has not said a word.
    pub(crate) fn silent_device(settings: Settings) -> (Self, CloudHandshake, JoinSet<Ended>) {
        let (ours, theirs) = duplex(PIPE);
        let (driver, handshake) = cloud(Buffered::new(theirs), settings);
        (Self { io: ours }, handshake, spawned(driver))
    }

    /// A device under test and a cloud spoken by hand, greeted.
    pub(crate) async fn cloud(settings: Settings) -> (Self, Greeted, JoinSet<Ended>) {
        let (ours, theirs) = duplex(PIPE);
        let (driver, handshake) = device(Buffered::new(theirs), settings);
        let drivers = spawned(driver);
        let mut raw = Self { io: ours };
        let (greeted, ()) = tokio::join!(handshake.greet(hello(), Duration::from_secs(5)), async {
            let (header, text) = raw.frame_of(1).await;
            assert!(header.has(SYN));
            let said: DeviceMessage = serde_json::from_slice(&text[2..]).unwrap();
            assert_eq!(said, DeviceMessage::Hello(hello()));
            let text = serde_json::to_vec(&CloudMessage::Welcome(welcome())).unwrap();
            raw.send(FrameHeader::data(1, ACK, 2 + text.len() as u32), &prefixed(&text)).await;
        });
        (raw, greeted.unwrap(), drivers)
    }

    pub(crate) async fn send(&mut self, header: FrameHeader, payload: &[u8]) {
        self.io.write_all(&header.encode()).await.unwrap();
        self.io.write_all(payload).await.unwrap();
    }

    /// The next frame; pings are answered and not shown.
    pub(crate) async fn frame(&mut self) -> (FrameHeader, Bytes) {
        loop {
            let mut header = [0; HEADER_LEN];
            self.io.read_exact(&mut header).await.unwrap();
            let header = FrameHeader::decode(header).unwrap();
            if header.kind == FrameKind::Ping {
                if header.has(SYN) {
                    self.send(FrameHeader::ping(ACK, header.length), &[]).await;
                }
                continue;
            }
            let mut payload =
                vec![0; if header.kind == FrameKind::Data { header.length as usize } else { 0 }];
            self.io.read_exact(&mut payload).await.unwrap();
            return (header, payload.into());
        }
    }

    /// The next frame about this stream.
    pub(crate) async fn frame_of(&mut self, stream: u32) -> (FrameHeader, Bytes) {
        loop {
            let (header, payload) = self.frame().await;
            if header.stream == stream {
                return (header, payload);
            }
        }
    }
}

/// How the only driver ended.
pub(crate) async fn ended(mut drivers: JoinSet<Ended>) -> Ended {
    drivers.join_next().await.unwrap().unwrap()
}

fn spawned(driver: Driver<Buffered<DuplexStream>>) -> JoinSet<Ended> {
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    drivers
}

fn prefixed(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text].concat()
}

const PIPE: usize = 64 * 1024;
