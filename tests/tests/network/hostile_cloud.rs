//! A server in the cloud's place: with the right certificate and bad manners, or with a wrong certificate.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tcpmux_proto::{
    ALPN,
    frame::{ACK, FIN, FrameHeader, FrameKind, HEADER_LEN, SYN},
};
use tests::{Cloud, Device, Identity, Service, web};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink, split},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    forger::{Forger, Leaf},
    peer::{frame, garbage, message, stream_header},
    vitals::{descriptors, tell},
};

#[tokio::test]
async fn a_daemon_survives_a_hostile_cloud_and_comes_back_to_the_good_one() {
    let web = web().await;
    let mut cloud = Cloud::start().await;
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let token = cloud.token("cam-01", "operator").await;
    let right = Forger::with_stolen_key(&cloud, "services").await.sign_server(&Leaf::of_server("localhost"));
    let address = cloud.device_address();
    let before = (device.process().resident_kib(), descriptors(device.process_id()));
    cloud.kill();

    let hostile = FakeDoor::open(address, &right, &[ALPN]).await;
    for attack in attacks() {
        let mut session = hostile.next_session().await;
        if attack.is_welcomed {
            session.send(&welcome()).await;
        }
        session.send(&attack.bytes).await;
        assert!(session.ends().await, "{}: the daemon stays; {}", attack.what, device.log());
        assert!(device.process().ended().is_none(), "{}: {}", attack.what, device.log());
    }
    // Streams that no honest cloud would open cost those streams alone.
    let mut session = hostile.next_session().await;
    session.send(&welcome()).await;
    for (nth, opening) in bad_openings().into_iter().enumerate() {
        let stream = 2 * u32::try_from(nth).unwrap() + 2;
        session.send(&frame(stream, SYN, &opening)).await;
        assert!(session.is_turned_down(stream).await, "opening {nth}");
    }
    assert_eq!(web.connections(), 0, "nothing of all this came as far as the service");
    drop((session, hostile));

    cloud.start_again().await;
    cloud.until_online("cam-01", true, Duration::from_secs(30)).await;
    let answer = cloud.user().get("/d/cam-01/web/method").bearer(&token).send().await.expect(200).await;
    assert_eq!(answer.header("x-method"), "GET");
    let grown = device.process().resident_kib().saturating_sub(before.0);
    tell(format!("the daemon's resident memory grew by {grown} KiB"));
    assert!(grown < 32 * 1024, "{grown} KiB more than before");
    super::vitals::until_descriptors(device.process_id(), before.1).await;
}

#[tokio::test]
async fn a_daemon_says_nothing_to_a_server_whose_certificate_is_not_the_clouds() {
    let mut cloud = Cloud::start().await;
    let other = Cloud::start().await;
    let service = Service::echo().await;
    let own = Forger::with_stolen_key(&cloud, "services").await;
    let of = Leaf::of_server;
    let shown = [
        ("another authority's", Forger::self_made(&cloud, "services").await.sign_server(&of("localhost"))),
        (
            "another deployment's",
            Forger::with_stolen_key(&other, "services").await.sign_server(&of("localhost")),
        ),
        (
            "for another name",
            own.sign_server(&Leaf { dns_names: vec!["cloud.example.com".into()], ..of("x") }),
        ),
        ("expired", own.sign_server(&Leaf { end_year: 2021, ..of("localhost") })),
        ("of a year to come", own.sign_server(&Leaf { first_year: 2039, ..of("localhost") })),
        (
            "a device's",
            Forger::with_stolen_key(&cloud, "devices").await.sign_server(&Leaf {
                dns_names: of("localhost").dns_names,
                ..Leaf::of_device(&cloud, "cam-01").await
            }),
        ),
        (
            "for clients",
            own.sign_server(&Leaf {
                purposes: vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth],
                ..of("localhost")
            }),
        ),
    ];
    let right = own.sign_server(&of("localhost"));
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", service.url("http"))]).await;
    let address = cloud.device_address();
    cloud.kill();
    for (what, identity) in shown {
        let door = FakeDoor::open(address, &identity, &[ALPN]).await;
        let heard = door.next_words().await;
        assert_eq!(heard, Words::None, "{what}");
        drop(door);
        // Beginning anew spares the waits that grow with each failure; the certificate is judged alike.
        device.kill();
        device.start_again();
    }
    let silent = FakeDoor::open(address, &right, &[b"h2"]).await;
    assert_eq!(silent.next_words().await, Words::None, "a server that speaks something else");
    drop(silent);
    device.kill();
    device.start_again();
    // Control: with the right certificate the daemon says hello.
    let door = FakeDoor::open(address, &right, &[ALPN]).await;
    assert!(matches!(door.next_words().await, Words::Some(count) if count > HEADER_LEN));
    assert_eq!(service.connections(), 0);
}

/// A listener where a daemon looks for its cloud.
struct FakeDoor {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// A connection of a daemon that has said hello.
struct Session {
    stream: TlsStream<TcpStream>,
}

/// What a daemon said inside TLS before it left.
#[derive(Debug, PartialEq)]
enum Words {
    None,
    Some(usize),
}

/// What a hostile cloud says to a daemon that has just said hello.
struct Attack {
    what: &'static str,
    is_welcomed: bool,
    bytes: Vec<u8>,
}

impl FakeDoor {
    async fn open(address: SocketAddr, identity: &Identity, alpn: &[&[u8]]) -> Self {
        let (chain, key) = identity.clone().into_parts();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let listener = tests::eventually("the port is free again", || TcpListener::bind(address)).await;
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// The next connection that gets through its handshake and says hello. The daemon waits longer from
    /// failure to failure.
    async fn next_session(&self) -> Session {
        let next = async {
            loop {
                let (socket, _) = self.listener.accept().await.unwrap();
                let Ok(stream) = self.acceptor.accept(socket).await else { continue };
                let mut session = Session { stream };
                while let Some((header, payload)) = session.frame().await {
                    if header.stream == 1 && String::from_utf8_lossy(&payload).contains("\"hello\"") {
                        return session;
                    }
                }
            }
        };
        timeout(Duration::from_secs(40), next).await.expect("the daemon comes again and again")
    }

    /// What the next connection says inside TLS until it ends or two seconds passed.
    async fn next_words(&self) -> Words {
        let (socket, _) = timeout(Duration::from_secs(20), self.listener.accept())
            .await
            .expect("the daemon comes")
            .unwrap();
        let Ok(mut stream) = self.acceptor.accept(socket).await else { return Words::None };
        let mut heard = vec![0; 16 * 1024];
        match timeout(Duration::from_secs(2), stream.read(&mut heard)).await {
            Ok(Ok(count @ 1..)) => Words::Some(count),
            _ => Words::None,
        }
    }
}

impl Session {
    async fn send(&mut self, bytes: &[u8]) {
        // A daemon that has heard enough hangs up in the middle.
        let (mut read, mut write) = split(&mut self.stream);
        let mut nowhere = sink();
        tokio::select! {
            _ = async { let _ = write.write_all(bytes).await; let _ = write.flush().await; } => {}
            _ = copy(&mut read, &mut nowhere) => {}
        }
    }

    async fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        let mut header = [0; HEADER_LEN];
        self.stream.read_exact(&mut header).await.ok()?;
        let header = FrameHeader::decode(header).ok()?;
        let length = if header.kind == FrameKind::Data { header.length } else { 0 };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((header, payload))
    }

    /// Whether the daemon ends the connection soon.
    async fn ends(mut self) -> bool {
        let mut nowhere = sink();
        timeout(Duration::from_secs(15), copy(&mut self.stream, &mut nowhere)).await.is_ok()
    }

    /// Whether the daemon resets this stream, or answers with another byte than 0, and stays.
    async fn is_turned_down(&mut self, stream: u32) -> bool {
        let wait = async {
            while let Some((header, payload)) = self.frame().await {
                let is_this = header.stream == stream && header.kind == FrameKind::Data;
                if is_this && header.has(tcpmux_proto::frame::RST) {
                    return true;
                }
                if is_this && !payload.is_empty() {
                    return payload[0] != 0;
                }
            }
            false
        };
        timeout(Duration::from_secs(15), wait).await.unwrap_or(false)
    }
}

fn attacks() -> Vec<Attack> {
    let before = |what, bytes: Vec<u8>| Attack { what, is_welcomed: false, bytes };
    let after = |what, bytes: Vec<u8>| Attack { what, is_welcomed: true, bytes };
    let control = |text: &[u8]| frame(1, 0, &message(text));
    let flood = |count: u32, header: &dyn Fn(u32) -> FrameHeader| -> Vec<u8> {
        (0..count).flat_map(|n| header(n).encode()).collect()
    };
    let open = |stream: u32| frame(stream, SYN, &stream_header(1, "web")[..40]);
    // Those before the welcome make the daemon wait longer; a welcome lets it begin anew.
    vec![
        after("an oversize frame", FrameHeader::data(2, SYN, (1 << 20) + 1).encode().to_vec()),
        before("garbage instead of a welcome", garbage(64 * 1024)),
        after("more than the window", FrameHeader::data(2, SYN, 512 * 1024).encode().to_vec()),
        before("HTTP instead of a welcome", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        after("an id used again", [open(2), open(2)].concat()),
        before("a welcome that is none", control(br#"{"type":"welcome","session":7}"#)),
        after("the device's own parity", open(3)),
        before("a message that is too long", frame(1, ACK, &[0xff, 0xff])),
        after("overflowing credit", FrameHeader::window_update(1, 0, u32::MAX).encode().to_vec()),
        before("a heartbeat of nothing", welcome_with_heartbeat(0)),
        after("a flood of pings", flood(200_000, &|n| FrameHeader::ping(SYN, n))),
        after("a flood of streams", flood(200_000, &|n| FrameHeader::data(2 + 2 * n, SYN, 0))),
        after("a flood of resets", [open(2), flood(200_000, &|_| FrameHeader::reset(2))].concat()),
        after("garbage", garbage(1 << 20)),
        after("a control message that is none", control(b"{")),
        after("the end of the control stream", frame(1, FIN, b"")),
    ]
}

/// Headers of streams that the daemon must not serve.
fn bad_openings() -> Vec<Vec<u8>> {
    let good = stream_header(1, "web");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    vec![
        with(&|bytes| bytes[0] = 9),
        with(&|bytes| bytes[1..3].copy_from_slice(&[0xff, 0xff])),
        with(&|bytes| bytes[3] = 200),
        with(&|bytes| bytes[4] = 0),
        with(&|bytes| bytes[73] = 0),
        stream_header(1, "ssh"),
        stream_header(1, "tcpmux.agent"),
        stream_header(1, "../web"),
        garbage(100),
    ]
}

fn welcome() -> Vec<u8> {
    welcome_with_heartbeat(20_000)
}

fn welcome_with_heartbeat(milliseconds: u32) -> Vec<u8> {
    let session = model::SessionId::from_random([5; 16]);
    let text = format!(
        r#"{{"type":"welcome","session":"{session}","generation":1,"features":[],"heartbeat":{milliseconds},"limits":{{"streams":512}}}}"#
    );
    frame(1, ACK, &message(text.as_bytes()))
}
