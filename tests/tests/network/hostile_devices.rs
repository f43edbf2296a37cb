//! Devices with a real certificate that break the rules of the tunnel: that tunnel dies, nothing else does.

use std::time::Duration;

use tcpmux_proto::frame::{ACK, FIN, FrameHeader, RST, SYN};
use tests::{Cloud, EnrolledDevice, eventually};

use super::{
    neighbour::Neighbour,
    peer::{Greeted, Peer, frame, garbage, hello, message},
    vitals::tell,
};

/// Something that a device does once its session stands.
struct Attack {
    bytes: Vec<u8>,
    /// Whether it reads what the cloud says to it.
    reads: bool,
    /// What the log says of it; of two, whichever comes first.
    named: &'static str,
    or: &'static str,
}

#[tokio::test]
async fn a_tunnel_that_breaks_the_rules_dies_and_its_neighbour_notices_nothing() {
    let mut cloud = Cloud::start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let evil = EnrolledDevice::enrol(&cloud, "evil").await.identity();
    let traffic = neighbour.ask_all_the_time();
    // The first sessions warm up what is kept between sessions.
    for _ in 0..3 {
        drop(Peer::welcomed(&cloud, &evil).await);
    }
    let before = cloud.process().resident_kib();
    for attack in attacks() {
        let named = |log: &str| log.matches(attack.named).count() + log.matches(attack.or).count();
        let seen = named(&cloud.log());
        let peer = Peer::welcomed(&cloud, &evil).await;
        let died = peer.attack(&attack.bytes, attack.reads, WITHIN).await;
        assert!(died, "{}: the tunnel still stands; {}", attack.named, tail(&cloud.log()));
        eventually(attack.named, || async {
            let log = cloud.log();
            if named(&log) > seen { Ok(()) } else { Err(tail(&log)) }
        })
        .await;
    }
    let grown = cloud.process().resident_kib().saturating_sub(before);
    tell(format!("resident memory grew by {grown} KiB over {} attacks", attacks().len()));
    assert!(grown < 48 * 1024, "{grown} KiB more than before");
    traffic.was_undisturbed().await;
    cloud.admin().get("/livez").send().await.expect(200).await;
    // The attacker's own device is as welcome as before: what died was the tunnel.
    drop(Peer::welcomed(&cloud, &evil).await);
    cloud.until_online(neighbour.device.id(), true, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_hello_that_is_none_gets_no_session() {
    let cloud = Cloud::start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let evil = EnrolledDevice::enrol(&cloud, "evil").await.identity();
    let silent = Peer::dial(&cloud, &evil).await.unwrap();
    let mut dribbling = Peer::dial(&cloud, &evil).await.unwrap();
    dribbling.send(&hello("by-hand")[..20]).await;
    let mut too_long = frame(1, SYN, &[0xff, 0xff]);
    too_long.extend(frame(1, 0, &vec![b' '; 70_000]));
    let words = |text: &str| frame(1, SYN, &message(text.as_bytes()));
    let many: Vec<String> = (0..100).map(|n| format!(r#"{{"name":"s{n}","kind":"http"}}"#)).collect();
    let many =
        format!(r#"{{"type":"hello","agent_version":"1","boot_id":"b","services":[{}]}}"#, many.join(","));
    let hellos = [
        ("too long", too_long),
        ("garbage", garbage(4096)),
        ("no JSON", words("hello")),
        ("not a hello", words(r#"{"type":"status_query"}"#)),
        ("no boot id", words(r#"{"type":"hello","agent_version":"1","boot_id":""}"#)),
        ("another slot", words(r#"{"type":"hello","agent_version":"1","boot_id":"b","slot":7}"#)),
        ("too many services", words(&many)),
        ("on a stream that is not the control stream", frame(3, SYN, &message(b"{}"))),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in hellos {
        let peer = Peer::dial(&cloud, &evil).await.unwrap();
        assert!(peer.attack(&bytes, true, Duration::from_secs(15)).await, "{what}: not let go");
        assert!(!is_online(&cloud).await, "{what}");
    }
    // No hello at all, or one that never ends: ten seconds.
    let (silent, dribbling) =
        tokio::join!(silent.ends(Duration::from_secs(15)), dribbling.ends(Duration::from_secs(15)));
    assert!(silent && dribbling, "silent {silent}, dribbling {dribbling}");
    assert!(cloud.log().contains("no_hello"), "{}", tail(&cloud.log()));
    neighbour.is_served().await;
    // Control: the same certificate with a proper hello.
    let mut proper = Peer::dial(&cloud, &evil).await.unwrap();
    assert_eq!(proper.greet("by-hand").await, Greeted::Welcome);
    assert!(is_online(&cloud).await);
}

#[tokio::test]
async fn whatever_a_device_answers_on_a_stream_is_the_callers_502_or_504_and_nobody_elses() {
    let mut cloud = Cloud::start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let evil = EnrolledDevice::enrol(&cloud, "evil").await.identity();
    let token = cloud.token("evil", "operator").await;
    let mut peer = Peer::welcomed(&cloud, &evil).await;
    cloud.until_online("evil", true, Duration::from_secs(5)).await;
    let before = cloud.process().resident_kib();
    let endless_head = [b"\0HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more\r\n".repeat(20_000)].concat();
    let answers: [(&str, Vec<u8>, u16); 7] = [
        ("a status byte of no meaning", vec![0xee], FIN),
        ("garbage instead of a head", [vec![0], garbage(2000)].concat(), FIN),
        ("a head without an end", endless_head[..200_000].to_vec(), 0),
        ("an end before the head", vec![0], FIN),
        ("a reset", vec![], RST),
        ("a length that is none", b"\0HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec(), FIN),
        (
            "two lengths",
            b"\0HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
            FIN,
        ),
    ];
    for (what, bytes, end) in answers {
        let call = cloud.user().get("/d/evil/web/").bearer(&token);
        let answered = async {
            let (stream, _) = peer.opened().await.expect("the cloud opens a stream");
            for (nth, piece) in bytes.chunks(16_000).enumerate() {
                let flags = if nth == 0 { ACK } else { 0 };
                peer.send(&frame(stream, flags, piece)).await;
            }
            peer.send(&frame(stream, if bytes.is_empty() { ACK | end } else { end }, b"")).await;
        };
        let (answer, ()) = tokio::join!(call.send(), answered);
        let problem = answer.problem().await;
        assert!(["502 TMX-3002", "502 TMX-3004"].contains(&&*problem), "{what}: {problem}");
    }
    // No answer at all.
    let call = cloud.user().get("/d/evil/web/").bearer(&token);
    let (answer, _) = tokio::join!(call.send(), peer.opened());
    assert_eq!(answer.problem().await, "504 TMX-3005");
    neighbour.is_served().await;
    let grown = cloud.process().resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more than before");
}

fn attacks() -> Vec<Attack> {
    let attack = |named, bytes: Vec<u8>| Attack { bytes, reads: true, named, or: NOTHING };
    // Who sends so fast may be faster than its reader, too.
    let flooding =
        |reads, named, bytes: Vec<u8>| Attack { bytes, reads, named, or: "asks faster than it reads" };
    let header = |header: FrameHeader| header.encode().to_vec();
    let mut version = header(FrameHeader::data(1, 0, 0));
    version[0] = 7;
    let mut kind = header(FrameHeader::data(1, 0, 0));
    kind[1] = 9;
    let mut flags = header(FrameHeader::data(1, 0, 0));
    flags[2] = 0x40;
    let control = |text: &[u8]| frame(1, 0, &message(text));
    vec![
        attack("frame version 7 is not 0", version),
        attack("frame type 9 is not known", kind),
        attack("are not known", flags),
        attack("a data frame of 1048577 bytes", header(FrameHeader::data(1, 0, (1 << 20) + 1))),
        attack("a data frame of 4294967295 bytes", header(FrameHeader::data(1, 0, u32::MAX))),
        attack("exceed its window", header(FrameHeader::data(1, 0, 512 * 1024))),
        attack("the credit of stream 1 overflows", header(FrameHeader::window_update(1, 0, u32::MAX))),
        attack("stream id 1 was used before", frame(1, SYN, b"again")),
        attack("stream 2 was opened with an id of the wrong parity", frame(2, SYN, b"mine")),
        attack("stream 77 was never opened", frame(77, 0, b"x")),
        attack("stream 1 was acknowledged without need", header(FrameHeader::window_update(1, ACK, 1))),
        attack("stream 1 went on after its end", {
            let mut bytes = frame(1, FIN, b"");
            bytes.extend(frame(1, FIN, b""));
            bytes
        }),
        flooding(true, "too many pings", flood(200_000, |n| FrameHeader::ping(SYN, n))),
        flooding(true, "too many refused streams", flood(200_000, |n| FrameHeader::data(3 + 2 * n, SYN, 0))),
        flooding(
            true,
            "too many refused streams",
            [frame(3, SYN, b""), flood(200_000, |_| FrameHeader::reset(3))].concat(),
        ),
        flooding(
            false,
            "too many refused streams",
            flood(200_000, |n| FrameHeader::window_update(3 + 2 * n, SYN, 1)),
        ),
        attack("is not 0", garbage(1 << 20)),
        attack("a control message of 65535 bytes", frame(1, 0, &[0xff, 0xff])),
        attack("a control message could not be read", control(b"{\"type\":")),
        attack("a control message could not be read", control(&b"[".repeat(10_000))),
        attack("a second hello", control(br#"{"type":"hello","agent_version":"1","boot_id":"b"}"#)),
        attack("too many control messages", control(br#"{"type":"status_query"}"#).repeat(2000)),
        attack("the peer ended the control stream", frame(1, FIN, b"")),
        attack("\"cause\":\"protocol\"", header(FrameHeader::go_away(1))),
        attack("\"cause\":\"lost\"", header(FrameHeader::reset(1))),
    ]
}

fn flood(count: u32, header: impl Fn(u32) -> FrameHeader) -> Vec<u8> {
    (0..count).flat_map(|n| header(n).encode()).collect()
}

async fn is_online(cloud: &Cloud) -> bool {
    cloud.device_record("evil").await["online"] == true
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("evil")).collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

const NOTHING: &str = "(in no log)";
const WITHIN: Duration = Duration::from_secs(10);
