//! FIN, reset and loss are three things, at both ends, also after one's own FIN.

use std::io::{Error, ErrorKind};

use model::DisconnectCause;
use tcpmux_proto::{CloudMessage, ControlError, Ended, Goodbye, OpenError, StreamKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Tunnel, pattern};

fn is_loss(error: &Error) -> bool {
    error.kind() == ErrorKind::ConnectionAborted && OpenError::from_io(error) == Some(OpenError::Lost)
}

fn is_reset(error: &Error) -> bool {
    error.kind() == ErrorKind::ConnectionReset && OpenError::from_io(error).is_none()
}

#[tokio::test]
async fn bytes_flow_both_ways_and_each_side_finishes_alone() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    cloud.write_all(b"question").await.unwrap();
    cloud.shutdown().await.unwrap();
    let mut asked = String::new();
    device.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "question");
    device.write_all(b"answer").await.unwrap();
    device.shutdown().await.unwrap();
    let mut answered = String::new();
    cloud.read_to_string(&mut answered).await.unwrap();
    assert_eq!(answered, "answer");
    assert_eq!(cloud.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop((cloud, device));
    tunnel.pair.cloud.idle().await;
    tunnel.pair.device.handle.idle().await;
    assert_eq!((tunnel.pair.cloud.stream_count(), tunnel.pair.device.handle.stream_count()), (0, 0));
}

#[tokio::test]
async fn a_reset_is_a_reset_also_after_our_own_fin() {
    for finish_first in [false, true] {
        let mut tunnel = Tunnel::new().await;
        let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
        if finish_first {
            cloud.shutdown().await.unwrap();
            assert_eq!(device.read(&mut [0; 8]).await.unwrap(), 0);
        }
        device.write_all(b"half a bo").await.unwrap();
        let mut got = [0; 9];
        cloud.read_exact(&mut got).await.unwrap();
        device.reset();
        assert!(is_reset(&cloud.read(&mut got).await.unwrap_err()), "own FIN: {finish_first}");
    }
}

#[tokio::test]
async fn bytes_before_a_reset_are_delivered_first() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, device) = tunnel.stream(StreamKind::Tcp).await;
    cloud.write_all(b"last words").await.unwrap();
    let mut reader = device;
    let mut first = [0; 4];
    reader.read_exact(&mut first).await.unwrap();
    cloud.reset();
    let mut rest = Vec::new();
    assert!(is_reset(&reader.read_to_end(&mut rest).await.unwrap_err()));
    assert_eq!(rest, b" words");
}

#[tokio::test]
async fn a_lost_tunnel_is_an_error_never_an_end_of_file() {
    for finish_first in [false, true] {
        let mut tunnel = Tunnel::new().await;
        let (mut cloud, mut device) = tunnel.stream(StreamKind::Http).await;
        if finish_first {
            device.shutdown().await.unwrap();
            assert_eq!(cloud.read(&mut [0; 8]).await.unwrap(), 0, "the FIN was before the loss");
        } else {
            device.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
            cloud.read_exact(&mut [0; 10]).await.unwrap();
        }
        tunnel.kill().await;
        let mut rest = Vec::new();
        if !finish_first {
            assert!(is_loss(&cloud.read_to_end(&mut rest).await.unwrap_err()));
        }
        assert!(is_loss(&cloud.write_all(&[0; 10]).await.unwrap_err()));
        assert!(is_loss(&device.read_to_end(&mut rest).await.unwrap_err()));
        assert_eq!(tunnel.pair.cloud.closed().await, DisconnectCause::Lost);
    }
}

#[tokio::test]
async fn a_lost_tunnel_wakes_readers_and_writers_that_wait() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    let flood = pattern(1, 2 << 20);
    let mut other = tunnel.stream(StreamKind::Tcp).await;
    // Nobody reads at the device: the writer fills queue and window, then waits.
    let (read, written, ()) = tokio::join!(other.0.read_u8(), cloud.write_all(&flood), async {
        device.read_u8().await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tunnel.kill().await;
    });
    assert!(is_loss(&read.unwrap_err()));
    assert!(is_loss(&written.unwrap_err()));
}

#[tokio::test]
async fn a_cancelled_download_fails_the_writer_at_the_other_end() {
    let mut tunnel = Tunnel::new().await;
    for kind in [StreamKind::Http, StreamKind::Tcp] {
        for finish_first in [false, true] {
            let (mut cloud, mut device) = tunnel.stream(kind).await;
            cloud.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            if finish_first {
                // On HTTP streams this only flushes: hyper does it when a request is cancelled.
                cloud.shutdown().await.unwrap();
            }
            let body = pattern(2, 4 << 20);
            let (written, ()) = tokio::join!(device.write_all(&body), async {
                cloud.read_exact(&mut [0; 100_000]).await.unwrap();
                drop(cloud);
            });
            assert!(is_reset(&written.unwrap_err()), "{kind:?}, shut down first: {finish_first}");
        }
    }
    tunnel.pair.cloud.idle().await;
    tunnel.pair.device.handle.idle().await;
}

#[tokio::test]
async fn a_shutdown_on_an_http_stream_is_not_an_end_of_file_for_the_device() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Http).await;
    cloud.write_all(b"x").await.unwrap();
    cloud.shutdown().await.unwrap();
    cloud.write_all(b"y").await.unwrap();
    let mut got = [0; 2];
    device.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"xy");
    drop(cloud);
    assert!(is_reset(&device.read(&mut got).await.unwrap_err()));
}

#[tokio::test]
async fn what_was_written_before_a_shutdown_arrives_although_the_stream_is_dropped_at_once() {
    let mut tunnel = Tunnel::new().await;
    let (cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    let sent = pattern(3, 100_000);
    device.write_all(&sent).await.unwrap();
    device.shutdown().await.unwrap();
    drop(device);
    let mut reader = cloud;
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    assert!(got == sent, "all of it, and a clean end");
    // The word that nobody reads follows the end.
    let error = loop {
        if let Err(error) = reader.write_all(b"nobody reads this").await {
            break error;
        }
    };
    assert!(is_reset(&error));
}

#[tokio::test]
async fn a_closed_session_ends_every_stream_and_both_drivers() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    device.write_all(b"not read yet").await.unwrap();
    tunnel
        .pair
        .cloud_control
        .send(&CloudMessage::Goodbye(Goodbye { cause: DisconnectCause::Revoked }))
        .await
        .unwrap();
    tunnel.pair.cloud.close(DisconnectCause::Revoked);
    tunnel.pair.cloud.close(DisconnectCause::Lost);
    assert_eq!(tunnel.pair.cloud.closed().await, DisconnectCause::Revoked, "the first cause counts");
    assert!(is_loss(&cloud.read(&mut [0; 4]).await.unwrap_err()));
    assert!(is_loss(&device.read(&mut [0; 4]).await.unwrap_err()));
    let last = tunnel.pair.device.control.receive().await.unwrap();
    assert_eq!(
        last,
        CloudMessage::Goodbye(Goodbye { cause: DisconnectCause::Revoked }),
        "said before the end"
    );
    assert!(matches!(tunnel.pair.device.control.receive().await, Err(ControlError::Stream(_))));
    assert!(tunnel.pair.device.incoming.next().await.is_none());
    let mut causes = Vec::new();
    while let Some(ended) = tunnel.drivers.join_next().await {
        causes.push(ended.unwrap().cause);
    }
    causes.sort_by_key(|cause| cause.as_str());
    assert_eq!(causes, [DisconnectCause::Closed, DisconnectCause::Revoked]);
}

#[tokio::test]
async fn a_session_nobody_holds_ends() {
    let mut tunnel = Tunnel::new().await;
    drop(tunnel.pair);
    while let Some(ended) = tunnel.drivers.join_next().await {
        let Ended { cause, .. } = ended.unwrap();
        assert!(matches!(cause, DisconnectCause::Closed | DisconnectCause::Lost), "{cause:?}");
    }
}

#[tokio::test]
async fn draining_refuses_new_streams_and_lets_live_ones_finish() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    tunnel.pair.device.handle.drain();
    device.write_all(b"still").await.unwrap();
    let mut got = [0; 5];
    cloud.read_exact(&mut got).await.unwrap();
    assert!(tunnel.pair.cloud.is_draining());
    let refused = tunnel.pair.cloud.open(crate::support::header(StreamKind::Tcp)).unwrap_err();
    assert_eq!(refused, OpenError::Draining);
    cloud.write_all(b"here").await.unwrap();
    device.read_exact(&mut got[..4]).await.unwrap();
    assert_eq!(&got[..4], b"here");
    let ((), ()) = tokio::join!(async { drop((cloud, device)) }, tunnel.pair.cloud.idle());
    assert_eq!(tunnel.pair.cloud.stream_count(), 0);
}
