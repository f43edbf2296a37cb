//! The bytes that `docs/protocol.md` promises: a change here is a change of the protocol.

use std::time::Duration;

use model::{DisconnectCause, Generation, Level, RequestId};
use proptest::prelude::*;
use tcpmux_proto::{
    CloudMessage, Destination, DeviceMessage, Drain, Goodbye, HeaderError, Hello, LocalHost, MAX_ASSERTION,
    MAX_HEADER, Ping, Refused, RefusedReason, Replaced, ServiceOffer, Status, StreamHeader, StreamKind,
};

use crate::support::{header, hello, welcome};

fn unhex(text: &str) -> Vec<u8> {
    model::unhex(&text.split_whitespace().collect::<String>()).unwrap()
}

#[test]
fn a_stream_header_has_these_bytes() {
    let mut header = header(StreamKind::Tcp);
    header.assertion = Some(vec![0xaa, 0xbb].into());
    let expected = unhex(
        "01 005b 02 02 00001388
         07070707070707070707070707070707
         01010101010101010101010101010101
         0202020202020202020202020202020202020202020202020202020202020202
         03 09 0002 776562 3139322e302e322e31 aabb",
    );
    assert_eq!(header.encode().unwrap(), expected);
    assert_eq!(StreamHeader::decode(&expected).unwrap(), header);
    assert_eq!(StreamHeader::length(&expected[..3]), Ok(Some(expected.len())));
    assert_eq!(StreamHeader::length(&expected[..2]), Ok(None));
}

#[test]
fn a_header_outside_its_limits_is_refused_at_both_ends() {
    type Change = fn(&mut StreamHeader);
    let changes: [(Change, HeaderError); 8] = [
        (|h| h.deadline = Duration::ZERO, HeaderError::Deadline),
        (|h| h.deadline = Duration::from_secs(301), HeaderError::Deadline),
        (|h| h.client = "x".repeat(65), HeaderError::Client),
        (|h| h.client = "a b".into(), HeaderError::Client),
        (|h| h.client = "é".into(), HeaderError::Client),
        (|h| h.assertion = Some(vec![].into()), HeaderError::Assertion),
        (|h| h.assertion = Some(vec![0; MAX_ASSERTION + 1].into()), HeaderError::Assertion),
        (|h| h.kind = StreamKind::Agent, HeaderError::Service),
    ];
    for (change, error) in changes {
        let mut header = header(StreamKind::Http);
        change(&mut header);
        assert_eq!(header.encode().unwrap_err(), error);
    }
    let good = header(StreamKind::Http).encode().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        StreamHeader::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 2), HeaderError::Version(2));
    assert_eq!(with(2, good.len() as u8 + 1), HeaderError::Length(good.len()));
    assert_eq!(with(3, 9), HeaderError::Kind(9));
    assert_eq!(with(3, 3), HeaderError::Service, "an agent stream to a service");
    assert_eq!(with(4, 0), HeaderError::Level(0));
    assert_eq!(with(5, 1), HeaderError::Deadline);
    assert_eq!(with(73, 4), HeaderError::Length(good.len()));
    assert_eq!(with(77, b'W'), HeaderError::Service);
    assert_eq!(with(81, b'\n'), HeaderError::Client);
    assert_eq!(StreamHeader::length(&[1, 0, 77]), Err(HeaderError::Length(77)));
    assert_eq!(StreamHeader::length(&[1, 255, 255]), Err(HeaderError::Length(65535)));
}

#[test]
fn the_longest_header_fits() {
    let mut header = header(StreamKind::Http);
    header.service = Destination::Service("s".repeat(32).parse().unwrap());
    header.client = "c".repeat(64);
    header.assertion = Some(vec![1; MAX_ASSERTION].into());
    let bytes = header.encode().unwrap();
    assert_eq!(bytes.len(), MAX_HEADER);
    assert_eq!(StreamHeader::decode(&bytes).unwrap(), header);
}

#[test]
fn messages_look_like_this() {
    let device = [
        (
            DeviceMessage::Hello(Hello {
                services: vec![
                    ServiceOffer {
                        name: "web".parse().unwrap(),
                        kind: StreamKind::Http,
                        viewer_websocket: true,
                        host: Some(LocalHost { authority: "127.0.0.1:8080".parse().unwrap(), fixed: false }),
                    },
                    ServiceOffer {
                        name: "ssh".parse().unwrap(),
                        kind: StreamKind::Tcp,
                        viewer_websocket: false,
                        host: None,
                    },
                ],
                claim_digest: None,
                ..hello()
            }),
            r#"{"type":"hello","agent_version":"1.0","boot_id":"b1","slot":0,"features":["x"],"services":[{"name":"web","kind":"http","viewer_websocket":true,"host":{"authority":"127.0.0.1:8080"}},{"name":"ssh","kind":"tcp"}]}"#,
        ),
        (DeviceMessage::Ping(Ping { n: 7 }), r#"{"type":"ping","n":7}"#),
        (DeviceMessage::Pong(Ping { n: 7 }), r#"{"type":"pong","n":7}"#),
        (DeviceMessage::StatusQuery, r#"{"type":"status_query"}"#),
        (
            DeviceMessage::Goodbye(Goodbye { cause: DisconnectCause::Closed }),
            r#"{"type":"goodbye","cause":"closed"}"#,
        ),
    ];
    for (message, text) in device {
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        assert_eq!(serde_json::from_str::<DeviceMessage>(text).unwrap(), message);
    }
    let cloud = [
        (
            CloudMessage::Welcome(welcome()),
            r#"{"type":"welcome","session":"ses_03030303030303030303030303030303","generation":4,"features":[],"heartbeat":20000,"limits":{"streams":512}}"#,
        ),
        (
            CloudMessage::Refused(Refused { reason: RefusedReason::CloneSuspected, retry_after: None }),
            r#"{"type":"refused","reason":"clone_suspected"}"#,
        ),
        (
            CloudMessage::Refused(Refused {
                reason: RefusedReason::Busy,
                retry_after: Some(Duration::from_secs(2)),
            }),
            r#"{"type":"refused","reason":"busy","retry_after_ms":2000}"#,
        ),
        (
            CloudMessage::Drain(Drain { deadline: Duration::from_secs(30), delay: Duration::from_millis(5) }),
            r#"{"type":"drain","deadline_ms":30000,"delay_ms":5}"#,
        ),
        (
            CloudMessage::Replaced(Replaced { generation: Generation(5) }),
            r#"{"type":"replaced","generation":5}"#,
        ),
        (
            CloudMessage::Status(Status { registered: true, generation: Some(Generation(4)) }),
            r#"{"type":"status","registered":true,"generation":4}"#,
        ),
        (CloudMessage::Ping(Ping { n: 1 }), r#"{"type":"ping","n":1}"#),
    ];
    for (message, text) in cloud {
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        assert_eq!(serde_json::from_str::<CloudMessage>(text).unwrap(), message);
    }
}

#[test]
fn what_newer_peers_say_is_ignored_and_what_is_wrong_is_refused() {
    let device = |text: &str| serde_json::from_str::<DeviceMessage>(text);
    assert_eq!(device(r#"{"type":"telepathy","range":9}"#).unwrap(), DeviceMessage::Unknown);
    assert_eq!(device(r#"{"type":"ping","n":1,"more":[1]}"#).unwrap(), DeviceMessage::Ping(Ping { n: 1 }));
    let goodbye = device(r#"{"type":"goodbye","cause":"eclipse"}"#).unwrap();
    assert_eq!(goodbye, DeviceMessage::Goodbye(Goodbye { cause: DisconnectCause::Closed }));
    let minimal = device(r#"{"type":"hello","agent_version":"2","boot_id":"b"}"#).unwrap();
    assert!(matches!(minimal, DeviceMessage::Hello(Hello { slot: 0, claim_digest: None, .. })));
    let digest = format!(
        r#"{{"type":"hello","agent_version":"2","boot_id":"b","claim_digest":"{}"}}"#,
        "0a".repeat(32)
    );
    assert!(matches!(device(&digest).unwrap(), DeviceMessage::Hello(h) if h.claim_digest == Some([10; 32])));
    let refused: CloudMessage = serde_json::from_str(r#"{"type":"refused","reason":"astrology"}"#).unwrap();
    assert!(matches!(refused, CloudMessage::Refused(Refused { reason: RefusedReason::Other, .. })));
    for wrong in [
        "{}",
        "[]",
        r#"{"type":"ping"}"#,
        r#"{"type":"ping","n":-1}"#,
        r#"{"type":"hello","agent_version":"2"}"#,
        r#"{"type":"hello","agent_version":"2","boot_id":"b","claim_digest":"0a"}"#,
        r#"{"type":"hello","agent_version":"2","boot_id":"b","services":[{"name":"../x","kind":"tcp"}]}"#,
    ] {
        assert!(device(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn every_good_header_survives_its_bytes_and_no_bytes_are_read_otherwise(
        kind in 0..3_usize,
        service in "[a-z0-9]{1,16}(-[a-z0-9]{1,7})?",
        deadline in 1..300_000_u64,
        ids in any::<([u8; 16], [u8; 16], [u8; 32])>(),
        client in "[!-~]{0,64}",
        level in 0..3_usize,
        assertion in prop::option::of(prop::collection::vec(any::<u8>(), 1..200)),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let kind = [StreamKind::Http, StreamKind::Tcp, StreamKind::Agent][kind];
        let header = StreamHeader {
            kind,
            service: if kind == StreamKind::Agent { Destination::Agent } else { service.parse().unwrap() },
            deadline: Duration::from_millis(deadline),
            request_id: RequestId::from_random(ids.0),
            trace_id: ids.1,
            principal: ids.2,
            client,
            level: [Level::Viewer, Level::Operator, Level::Owner][level],
            assertion: assertion.map(Into::into),
        };
        let bytes = header.encode().unwrap();
        prop_assert_eq!(StreamHeader::decode(&bytes).unwrap(), header);
        let mut bent = bytes.to_vec();
        bent[flip.0.index(bytes.len())] ^= flip.1;
        if let Ok(read) = StreamHeader::decode(&bent) {
            prop_assert_eq!(&read.encode().unwrap()[..], &bent[..], "one text for one header");
        }
    }
}
