//! Who is alive, and what idle costs, by a clock that tests move.

use std::time::Duration;

use model::DisconnectCause;
use tcpmux_proto::{
    CloudMessage, DeviceMessage, Drain, Ping, Settings, StreamKind,
    frame::{ACK, FrameHeader, FrameKind, HEADER_LEN, SYN},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

use crate::support::{Raw, Tunnel, ended, header};

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_lives_on_pings_alone() {
    let mut tunnel = Tunnel::new().await;
    sleep(Duration::from_secs(3600)).await;
    assert!(tunnel.drivers.try_join_next().is_none());
    assert!(tunnel.pair.cloud.last_heard().elapsed() <= Duration::from_secs(20));
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    cloud.write_all(b"x").await.unwrap();
    assert_eq!(device.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_dead_after_28_seconds_at_both_ends() {
    let (_raw, session, _control, drivers) = Raw::device(Settings::default()).await;
    let began = Instant::now();
    assert_eq!(session.closed().await, DisconnectCause::Silent);
    assert_eq!(began.elapsed().as_secs(), 28);
    assert_eq!(ended(drivers).await.detail.as_deref(), Some("nothing was heard from the peer"));

    let (_raw, greeted, _drivers) = Raw::cloud(Settings::default()).await;
    let began = Instant::now();
    assert_eq!(greeted.handle.closed().await, DisconnectCause::Silent);
    assert_eq!(began.elapsed().as_secs(), 28);
}

#[tokio::test(start_paused = true)]
async fn any_byte_is_life_even_where_pings_are_never_answered() {
    let (mut raw, session, _control, mut drivers) = Raw::device(Settings::default()).await;
    for _ in 0..20 {
        sleep(Duration::from_secs(25)).await;
        // An answer that nobody asked for.
        raw.io.write_all(&FrameHeader::ping(ACK, 99).encode()).await.unwrap();
    }
    assert!(drivers.try_join_next().is_none());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(session.last_heard().elapsed().as_secs(), 1);
    assert_eq!(session.closed().await, DisconnectCause::Silent);
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_of_the_welcome_rules_both_ends() {
    let quick = Settings { heartbeat: Duration::from_secs(5), ..Settings::default() };
    let mut tunnel = Tunnel::with(quick, Settings::default()).await;
    sleep(Duration::from_secs(60)).await;
    assert!(tunnel.pair.device.handle.last_heard().elapsed() <= Duration::from_secs(5));
    assert!(tunnel.drivers.try_join_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_after_20_seconds_without_progress() {
    let (mut raw, session, _control, drivers) = Raw::device(Settings::default()).await;
    let mut streams = Vec::new();
    // More than the pipe holds, within the windows.
    for _ in 0..2 {
        let mut stream = session.open(header(StreamKind::Tcp)).unwrap();
        stream.write_all(&[0; 100_000]).await.unwrap();
        streams.push(stream);
    }
    let began = Instant::now();
    let life = async {
        loop {
            raw.io.write_all(&FrameHeader::ping(ACK, 0).encode()).await.unwrap();
            sleep(Duration::from_secs(2)).await;
        }
    };
    let cause = tokio::select! {
        cause = session.closed() => cause,
        () = life => unreachable!(),
    };
    assert_eq!((cause, began.elapsed().as_secs()), (DisconnectCause::Silent, 20));
    let detail = ended(drivers).await.detail.unwrap();
    assert!(detail.contains("took no byte"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_is_measured_at_the_beginning() {
    let (mut raw, session, _control, _drivers) = Raw::device(Settings::default()).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(session.round_trip(), Some(Duration::ZERO), "the peer by hand answered in no time");
    // The next question comes when it is quiet; an answer that nobody asked for changes nothing.
    raw.send(FrameHeader::ping(ACK, 12345), &[]).await;
    let mut question = [0; HEADER_LEN];
    raw.io.read_exact(&mut question).await.unwrap();
    let question = FrameHeader::decode(question).unwrap();
    assert_eq!((question.kind, question.flags), (FrameKind::Ping, SYN));
    sleep(Duration::from_millis(300)).await;
    raw.send(FrameHeader::ping(ACK, question.length), &[]).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(session.round_trip(), Some(Duration::ZERO), "the smallest counts");
}

#[tokio::test]
async fn control_messages_pass_both_ways_and_unknown_ones_are_skipped() {
    let mut tunnel = Tunnel::new().await;
    let drain =
        CloudMessage::Drain(Drain { deadline: Duration::from_secs(30), delay: Duration::from_millis(250) });
    tunnel.pair.cloud_control.send(&CloudMessage::Unknown).await.unwrap();
    tunnel.pair.cloud_control.send(&drain).await.unwrap();
    assert_eq!(tunnel.pair.device.control.receive().await.unwrap(), drain);
    for n in 0..100 {
        tunnel.pair.device.control.send(&DeviceMessage::Ping(Ping { n })).await.unwrap();
    }
    for n in 0..100 {
        let heard = tunnel.pair.cloud_control.receive().await.unwrap();
        assert_eq!(heard, DeviceMessage::Ping(Ping { n }));
    }
}

#[tokio::test]
async fn a_receive_that_is_cancelled_loses_nothing() {
    let mut tunnel = Tunnel::new().await;
    let (control, cloud_control) = (&mut tunnel.pair.device.control, &mut tunnel.pair.cloud_control);
    for n in 0..50 {
        // Polled once and dropped, at every stage of arrival.
        let cancelled = tokio::select! {
            biased;
            message = control.receive() => Some(message.unwrap()),
            () = tokio::task::yield_now() => None,
        };
        assert_eq!(cancelled, None);
        cloud_control.send(&CloudMessage::Ping(Ping { n })).await.unwrap();
        assert_eq!(control.receive().await.unwrap(), CloudMessage::Ping(Ping { n }));
    }
}
