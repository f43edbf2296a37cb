//! Devices in wrong hands: their tunnel dies, the process and the neighbours do not.

use std::time::Duration;

use model::DisconnectCause;
use tcpmux_proto::{CloudMessage, DeviceMessage, Hello, Ping, RefusedReason, ServiceOffer, StreamKind};
use tcpmux_server::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use crate::support::{Cloud, hello, reason, told, until};

/// A frame as the wire has it: version, type, flags, stream, length.
fn frame(kind: u8, flags: u16, stream: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes
}

fn data(flags: u16, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(DATA, flags, stream, payload.len());
    bytes.extend(payload);
    bytes
}

fn message(text: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

fn hello_message() -> Vec<u8> {
    message(br#"{"type":"hello","agent_version":"0","boot_id":"boot"}"#)
}

const DATA: u8 = 0;
const SYN: u16 = 1;

/// Reads until the server hangs up; fails if it never does.
async fn until_hung_up(connection: &mut DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(120), connection.read_to_end(&mut all)).await;
    assert!(read.is_ok(), "the server keeps the connection");
    all
}

#[tokio::test(start_paused = true)]
async fn who_says_no_hello_is_let_go_after_ten_seconds_and_its_seat_is_free() {
    let cloud = Cloud::start_with(Config { max_sessions: 1, ..Config::default() });
    let (mute, camera) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let begin = Instant::now();
    let mut connection = cloud.dial(&mute.der);
    assert_eq!(reason(cloud.try_connect(&camera, "boot").await), RefusedReason::Busy);
    until_hung_up(&mut connection).await;
    assert!((9..=12).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    until("a free seat", async || cloud.try_connect(&camera, "boot").await.is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn a_dribbled_hello_has_the_same_deadline() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let begin = Instant::now();
    let mut connection = cloud.dial(&camera.der);
    let all = data(SYN, 1, &hello_message());
    for byte in &all[..all.len() - 1] {
        if connection.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    until_hung_up(&mut connection).await;
    assert!(begin.elapsed() >= Duration::from_secs(9), "{:?}", begin.elapsed());
    assert_eq!(cloud.registry.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_hello_end_the_connection_at_once_and_leave_no_trace() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let neighbour = cloud.enrolled("cam-02");
    let _neighbour = cloud.connect(&neighbour, "boot").await;
    let mut oversized = 0x4001_u16.to_be_bytes().to_vec();
    oversized.extend([b' '; 0x4001]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: tunnel.example.com\r\n\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("noise", (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("an oversized hello", data(SYN, 1, &oversized)),
        ("a hello that is no JSON", data(SYN, 1, &message(b"hello"))),
        ("a hello without its fields", data(SYN, 1, &message(br#"{"type":"hello"}"#))),
        ("another message first", data(SYN, 1, &message(br#"{"type":"ping","n":1}"#))),
        ("a stream of the cloud's parity", data(SYN, 2, &hello_message())),
    ];
    for (what, bytes) in cases {
        let begin = Instant::now();
        let mut connection = cloud.dial(&camera.der);
        // The server may hang up before it has read everything.
        let _ = connection.write_all(&bytes).await;
        until_hung_up(&mut connection).await;
        assert!(begin.elapsed() <= Duration::from_secs(11), "{what}: {:?}", begin.elapsed());
        assert_eq!(cloud.registry.lookup(&camera.device).await, None, "{what}");
    }
    assert!(cloud.open(&neighbour.device, "web").await.is_ok(), "the neighbour lives");
    cloud.connect(&camera, "boot").await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_with_too_much_in_it_is_refused() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let offer = |n: usize| ServiceOffer {
        name: format!("s{n}").parse().unwrap(),
        kind: StreamKind::Http,
        viewer_websocket: false,
        host: None,
    };
    let cases = [
        ("no boot id", Hello { boot_id: String::new(), ..hello("") }),
        ("a long boot id", hello(&"x".repeat(65))),
        ("control characters", hello("a\u{1b}[2J")),
        ("a long version", Hello { agent_version: "x".repeat(65), ..hello("boot") }),
        ("many services", Hello { services: (0..65).map(offer).collect(), ..hello("boot") }),
    ];
    for (what, said) in cases {
        let result = cloud.device(&camera.der).greet(said, Duration::from_secs(60)).await;
        assert_eq!(reason(result), RefusedReason::BadHello, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_a_device_opens_gets_nowhere() {
    let cloud = Cloud::start();
    let (bad, good) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let _neighbour = cloud.connect(&good, "boot").await;
    let mut connection = cloud.dial(&bad.der);
    connection.write_all(&data(SYN, 1, &hello_message())).await.unwrap();
    until("connected", async || cloud.registry.lookup(&bad.device).await.is_some()).await;
    // A second control stream, and a stream to another device.
    for stream in [3_u32, 5] {
        let _ = connection.write_all(&data(SYN, stream, &hello_message())).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Whether they were reset or the session ended: no second session, nothing open.
    assert_eq!(cloud.server.stream_count(), 0);
    assert!(cloud.registry.session_count() <= 2);
    assert!(cloud.open(&good.device, "web").await.is_ok(), "the neighbour lives");
}

#[tokio::test(start_paused = true)]
async fn a_second_hello_is_a_breach() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    // The end may come before the last byte of this was taken.
    let _ = device.control.send(&DeviceMessage::Hello(hello("boot"))).await;
    assert_eq!(cloud.ended(device.welcome.generation).await, DisconnectCause::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_control_messages_is_a_breach_and_the_usual_ones_are_not() {
    let cloud = Cloud::start();
    let (loud, quiet) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let mut device = cloud.connect(&quiet, "boot").await;
    for n in 0..600 {
        device.control.send(&DeviceMessage::Ping(Ping { n })).await.unwrap();
        assert_eq!(told(&mut device).await, CloudMessage::Pong(Ping { n }));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut device = cloud.connect(&loud, "boot").await;
    for n in 0..1000 {
        if device.control.send(&DeviceMessage::Ping(Ping { n })).await.is_err() {
            break;
        }
    }
    assert_eq!(cloud.ended(device.welcome.generation).await, DisconnectCause::Protocol);
    assert!(cloud.registry.lookup(&quiet.device).await.is_some());
}
