//! How streams are opened, refused and bounded.

use std::{io::ErrorKind, time::Duration};

use model::DisconnectCause;
use tcpmux_proto::{
    Buffered, GreetError, LocalHost, OpenError, Refused, RefusedReason, ServiceOffer, Settings, StreamHeader,
    StreamKind,
    frame::{ACK, FrameHeader, RST, SYN},
    mux::MAX_INBOUND_FRAME,
    testing::Pair,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::{Raw, Tunnel, ended, header, hello, welcome};

const REASONS: [OpenError; 6] = [
    OpenError::UnknownService,
    OpenError::Refused,
    OpenError::Forbidden,
    OpenError::Busy,
    OpenError::TimedOut,
    OpenError::Draining,
];

#[tokio::test]
async fn the_header_leaves_in_one_frame_with_the_first_bytes() {
    let (mut raw, session, _control, _drivers) = Raw::device(Settings::default()).await;
    let mut stream = session.open(header(StreamKind::Http)).unwrap();
    // What an HTTP client does before it has something to say costs nothing.
    stream.flush().await.unwrap();
    let first_read = tokio::time::timeout(Duration::from_millis(1), stream.read_u8()).await;
    assert!(first_read.is_err(), "nothing to read yet");
    stream.write_all(b"GET /").await.unwrap();
    let (frame, payload) = raw.frame().await;
    assert_eq!((frame.stream, frame.flags), (2, SYN));
    let expected = header(StreamKind::Http).encode().unwrap();
    assert_eq!(payload, [&expected[..], b"GET /"].concat());
    assert_eq!(StreamHeader::decode(&payload[..expected.len()]).unwrap(), header(StreamKind::Http));
}

#[tokio::test]
async fn an_opened_stream_knows_what_the_device_calls_the_service() {
    let offer = |name: &str, host: Option<LocalHost>| ServiceOffer {
        name: name.parse().unwrap(),
        kind: StreamKind::Http,
        viewer_websocket: false,
        host,
    };
    let host = LocalHost { authority: "127.0.0.1:8080".parse().unwrap(), fixed: true };
    let offers = vec![offer("socket", None), offer("web", Some(host.clone()))];
    let mut drivers = tokio::task::JoinSet::new();
    let spawn = |driver| drop(drivers.spawn(driver));
    let pair = Pair::offering(offers, Settings::default(), Settings::default(), spawn).await;
    for (service, expected) in [("web", Some(&host)), ("socket", None), ("other", None)] {
        let mut header = header(StreamKind::Http);
        header.service = service.parse().unwrap();
        assert_eq!(pair.cloud.open(header).unwrap().host(), expected, "{service}");
    }
    assert_eq!(pair.cloud.open(header(StreamKind::Agent)).unwrap().host(), None);
}

#[tokio::test]
async fn a_service_that_speaks_first_is_heard() {
    let mut tunnel = Tunnel::new().await;
    let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
    let (banner, _device) = tokio::join!(
        async {
            let mut banner = [0; 7];
            cloud.read_exact(&mut banner).await.map(|_| banner)
        },
        async {
            let mut device = tunnel.accept().await;
            device.write_all(b"SSH-2.0").await.unwrap();
            device
        }
    );
    assert_eq!(&banner.unwrap(), b"SSH-2.0");
}

#[tokio::test]
async fn a_refusal_arrives_as_its_reason_both_ways_of_asking() {
    let mut tunnel = Tunnel::new().await;
    for reason in REASONS {
        for by_reading in [true, false] {
            let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Http)).unwrap();
            cloud.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            tunnel.pair.device.incoming.next().await.unwrap().reject(reason);
            if by_reading {
                let error = cloud.read(&mut [0; 10]).await.unwrap_err();
                assert_eq!(OpenError::from_io(&error), Some(reason));
                assert_eq!(OpenError::from_io(&cloud.write(b"x").await.unwrap_err()), Some(reason));
            }
            assert_eq!(cloud.accepted().await, Err(reason));
        }
    }
    // What a device cannot say is a reset.
    let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
    let (answer, ()) = tokio::join!(cloud.accepted(), async {
        tunnel.pair.device.incoming.next().await.unwrap().reject(OpenError::Offline);
    });
    assert_eq!(answer, Err(OpenError::Lost));
    assert_eq!(cloud.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_stream_that_the_device_drops_unanswered_is_lost() {
    let mut tunnel = Tunnel::new().await;
    let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
    let (answer, ()) = tokio::join!(cloud.accepted(), async {
        drop(tunnel.pair.device.incoming.next().await.unwrap());
    });
    assert_eq!(answer, Err(OpenError::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_answer_within_the_deadline_is_given_up() {
    let mut tunnel = Tunnel::new().await;
    let began = Instant::now();
    let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
    let (answer, waiting) = tokio::join!(cloud.accepted(), tunnel.pair.device.incoming.next());
    assert_eq!(answer, Err(OpenError::TimedOut));
    assert_eq!(began.elapsed().as_secs(), 5);
    drop(cloud);
    let mut late = waiting.unwrap().accept().await;
    assert_eq!(late.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    // The reader waited before there was a header, in a task of its own.
    let cloud = tunnel.pair.cloud.open(header(StreamKind::Http)).unwrap();
    let (mut reader, mut writer) = tokio::io::split(cloud);
    let mut reading = tokio::task::JoinSet::new();
    reading.spawn(async move { reader.read_u8().await });
    tokio::task::yield_now().await;
    writer.write_all(b"GET /").await.unwrap();
    let error = reading.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.kind(), OpenError::from_io(&error)), (ErrorKind::TimedOut, Some(OpenError::TimedOut)));
}

#[tokio::test]
async fn one_stream_too_many_is_busy_and_costs_nobody_else_anything() {
    let mut tunnel = Tunnel::new().await;
    let mut streams = Vec::new();
    for _ in 0..512 {
        streams.push(tunnel.stream(StreamKind::Tcp).await);
    }
    assert_eq!(tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap_err(), OpenError::Busy);
    assert_eq!(tunnel.pair.cloud.stream_count(), 512);
    for (cloud, device) in &mut streams {
        cloud.write_all(b"?").await.unwrap();
        assert_eq!(device.read_u8().await.unwrap(), b'?');
    }
    streams.pop();
    let again = tunnel.stream(StreamKind::Tcp).await;
    drop((again, streams));
    tunnel.pair.cloud.idle().await;
}

#[tokio::test]
async fn a_device_refuses_streams_over_its_own_limit_one_by_one() {
    let device = Settings { inbound_streams: 4, ..Settings::default() };
    let mut tunnel = Tunnel::with(Settings::default(), device).await;
    let mut kept = Vec::new();
    for _ in 0..4 {
        kept.push(tunnel.stream(StreamKind::Tcp).await);
    }
    for _ in 0..20 {
        let mut over = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
        assert_eq!(over.accepted().await, Err(OpenError::Lost));
    }
    for (cloud, device) in &mut kept {
        device.write_all(b"!").await.unwrap();
        assert_eq!(cloud.read_u8().await.unwrap(), b'!');
    }
}

#[tokio::test]
async fn only_the_cloud_opens_streams() {
    let (mut raw, _session, _control, drivers) = Raw::device(Settings::default()).await;
    raw.send(FrameHeader::data(3, SYN, 2), b"hi").await;
    let (frame, _) = raw.frame().await;
    assert_eq!((frame.stream, frame.flags), (3, RST));
    assert_eq!(drivers.len(), 1, "the tunnel goes on");

    let tunnel = Tunnel::new().await;
    let refused = tunnel.pair.device.handle.open(header(StreamKind::Tcp)).unwrap_err();
    assert_eq!(refused, OpenError::Forbidden);
}

#[tokio::test]
async fn a_bad_header_costs_its_stream_and_nothing_else() {
    let (mut raw, mut greeted, _drivers) = Raw::cloud(Settings::default()).await;
    for (id, bad) in [(2, &[9, 0, 80][..]), (4, &[1, 255, 255]), (6, &[1, 0, 3])] {
        raw.send(FrameHeader::data(id, SYN, bad.len() as u32), bad).await;
        let (frame, _) = raw.frame_of(id).await;
        assert_eq!(frame.flags, RST);
    }
    // A good one in three pieces.
    let good = [&header(StreamKind::Tcp).encode().unwrap()[..], b"tail"].concat();
    raw.send(FrameHeader::data(8, SYN, 1), &good[..1]).await;
    raw.send(FrameHeader::data(8, 0, 50), &good[1..51]).await;
    raw.send(FrameHeader::data(8, 0, good.len() as u32 - 51), &good[51..]).await;
    let stream = greeted.incoming.next().await.unwrap();
    assert_eq!(stream.header, header(StreamKind::Tcp));
    let mut stream = stream.accept().await;
    let mut tail = [0; 4];
    stream.read_exact(&mut tail).await.unwrap();
    assert_eq!(&tail, b"tail");
    let (frame, status) = raw.frame_of(8).await;
    assert_eq!((frame.flags, &status[..]), (ACK, &[0][..]));
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_given_up_after_ten_seconds() {
    let (mut raw, _greeted, _drivers) = Raw::cloud(Settings::default()).await;
    let began = Instant::now();
    raw.send(FrameHeader::data(2, SYN, 3), &[1, 0, 100]).await;
    let (frame, _) = raw.frame_of(2).await;
    assert_eq!((frame.flags, began.elapsed().as_secs()), (RST, 10));
}

#[tokio::test]
async fn a_status_byte_without_meaning_is_a_lost_stream() {
    let (mut raw, session, _control, _drivers) = Raw::device(Settings::default()).await;
    let mut stream = session.open(header(StreamKind::Tcp)).unwrap();
    let (answer, ()) = tokio::join!(stream.accepted(), async {
        raw.frame_of(2).await;
        raw.send(FrameHeader::data(2, ACK, 1), &[77]).await;
    });
    assert_eq!(answer, Err(OpenError::Lost));
}

#[tokio::test]
async fn what_a_stream_keeps_goes_with_the_answer_whatever_it_is() {
    let mut tunnel = Tunnel::new().await;
    let kept = std::sync::Arc::new(());
    let alive = std::sync::Arc::downgrade(&kept);
    let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap().until_answered(kept);
    let (answer, _device) = tokio::join!(cloud.accepted(), tunnel.accept());
    assert_eq!((answer, alive.strong_count()), (Ok(()), 0));

    let kept = std::sync::Arc::new(());
    let alive = std::sync::Arc::downgrade(&kept);
    let mut cloud = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap().until_answered(kept);
    cloud.flush().await.unwrap();
    let waiting = tunnel.pair.device.incoming.next().await.unwrap();
    assert_eq!(alive.strong_count(), 1, "no answer yet");
    waiting.reject(OpenError::Refused);
    assert_eq!((cloud.accepted().await, alive.strong_count()), (Err(OpenError::Refused), 0));
}

#[tokio::test]
async fn a_stream_that_crossed_the_notice_to_drain_says_so() {
    let (mut raw, session, _control, _drivers) = Raw::device(Settings::default()).await;
    let mut stream = session.open(header(StreamKind::Tcp)).unwrap();
    let (answer, ()) = tokio::join!(stream.accepted(), async {
        raw.frame_of(2).await;
        raw.send(FrameHeader::go_away(0), &[]).await;
        raw.send(FrameHeader::reset(2), &[]).await;
    });
    assert_eq!(answer, Err(OpenError::Draining));
}

#[tokio::test]
async fn streams_that_wait_are_reset_when_nobody_takes_them_any_more() {
    let tunnel = Tunnel::new().await;
    let mut waiting = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
    waiting.flush().await.unwrap();
    let answer = async {
        while tunnel.pair.device.handle.stream_count() == 0 {
            tokio::task::yield_now().await;
        }
        drop(tunnel.pair.device.incoming);
        waiting.accepted().await
    };
    assert_eq!(answer.await, Err(OpenError::Lost));
    let mut later = tunnel.pair.cloud.open(header(StreamKind::Tcp)).unwrap();
    assert_eq!(later.accepted().await, Err(OpenError::Lost));
}

#[tokio::test]
async fn a_refused_session_says_why_and_when_to_come_again() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (driver, handshake) = tcpmux_proto::cloud(Buffered::new(ours), Settings::default());
    let mut drivers = tokio::task::JoinSet::new();
    drivers.spawn(driver);
    let (driver, device) = tcpmux_proto::device(Buffered::new(theirs), Settings::default());
    drivers.spawn(driver);
    let no = Refused { reason: RefusedReason::Busy, retry_after: Some(Duration::from_millis(1500)) };
    let within = Duration::from_secs(5);
    let (greeted, ()) = tokio::join!(device.greet(hello(), within), async {
        let greeting = handshake.hello(within).await.unwrap();
        assert_eq!(greeting.hello(), &hello());
        greeting.refuse(no.clone()).await;
    });
    assert!(matches!(greeted.unwrap_err(), GreetError::Refused(refused) if refused == no));
    while let Some(ended) = drivers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_or_nonsense_does_not_get_a_session() {
    let (_raw, handshake, drivers) = Raw::silent_device(Settings::default());
    let error = handshake.hello(Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(error, GreetError::TimedOut));
    assert_eq!(ended(drivers).await.cause, DisconnectCause::Closed);

    for nonsense in [&b"\x00\x02{}"[..], b"\x00\x10{\"type\":\"pong\",\"n\":1}", b"\xff\xff", b"\x00\x03not"]
    {
        let (mut raw, handshake, _drivers) = Raw::silent_device(Settings::default());
        raw.send(FrameHeader::data(1, SYN, nonsense.len() as u32), nonsense).await;
        let error = handshake.hello(Duration::from_secs(3)).await.unwrap_err();
        assert!(
            matches!(error, GreetError::Control(_) | GreetError::Unexpected | GreetError::TimedOut),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_device_is_told_apart_from_its_headers() {
    let mut tunnel = Tunnel::new().await;
    assert_eq!(tunnel.pair.cloud.hello().boot_id, "boot");
    assert!(tunnel.pair.cloud.opens_left() > 1 << 29);
    let mut big = header(StreamKind::Tcp);
    big.assertion = Some(vec![5; 4096].into());
    big.client = "x".repeat(64);
    let mut cloud = tunnel.pair.cloud.open(big.clone()).unwrap();
    cloud.write_all(&[6; 100_000]).await.unwrap();
    let stream = tunnel.pair.device.incoming.next().await.unwrap();
    assert_eq!(stream.header, big);
    let mut got = vec![0; 100_000];
    stream.accept().await.read_exact(&mut got).await.unwrap();
    assert!(got.iter().all(|byte| *byte == 6));
    big.client.push('x');
    assert_eq!(tunnel.pair.cloud.open(big).unwrap_err(), OpenError::Forbidden);
    assert!(MAX_INBOUND_FRAME >= 16 * 1024 && welcome().limits.streams == 512);
}
