//! A certificate that ends ends its session, at once.

use std::time::Duration;

use model::{CertificateStatus, DisconnectCause};
use registry::RevocationNotice;
use tcpmux_proto::{CloudMessage, OpenError, RefusedReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Cloud, reason, told};

#[tokio::test(start_paused = true)]
async fn a_revoked_device_loses_its_session_and_all_its_streams_and_the_order_is_acknowledged() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = cloud.open(&camera.device, "web").await.unwrap();
        let (accepted, remote) =
            tokio::join!(stream.accepted(), async { device.incoming.next().await.unwrap().accept().await });
        accepted.unwrap();
        streams.push((stream, remote));
    }
    assert_eq!(cloud.server.stream_count(), 20);

    let receipt = cloud.revoke(&camera).await;
    assert_eq!((receipt.nodes, receipt.nodes_acked, receipt.tunnels_closed), (1, 1, 1));
    assert!(receipt.elapsed < Duration::from_secs(1), "{:?}", receipt.elapsed);
    assert_eq!(cloud.registry.lookup(&camera.device).await, None);
    assert_eq!(cloud.open(&camera.device, "web").await.unwrap_err(), OpenError::Offline);
    for (mut stream, mut remote) in streams {
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(stream.write_all(b"x").await.is_err());
        assert_eq!(remote.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    }
    assert_eq!(cloud.ended(device.welcome.generation).await, DisconnectCause::Revoked);
    assert_eq!(reason(cloud.try_connect(&camera, "boot").await), RefusedReason::NotAdmitted);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_device_is_told_the_cause() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let (_, last_word) = tokio::join!(cloud.revoke(&camera), told(&mut device));
    let CloudMessage::Goodbye(goodbye) = last_word else { panic!() };
    assert_eq!(goodbye.cause, DisconnectCause::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_of_one_device_leaves_others_alone() {
    let cloud = Cloud::start();
    let (one, two) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let _stays = cloud.connect(&two, "boot").await;
    let receipt = cloud.revoke(&one).await;
    assert_eq!((receipt.nodes_acked, receipt.tunnels_closed), (1, 0));
    assert!(cloud.open(&two.device, "web").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_on_a_new_certificate_survives_the_revocation_of_an_old_one() {
    let cloud = Cloud::start();
    let (old, new) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-01"));
    let _device = cloud.connect(&new, "boot").await;
    assert_eq!(cloud.revoke(&old).await.tunnels_closed, 0);
    assert!(cloud.open(&new.device, "web").await.is_ok());
    // Unless what it stands on is not admitted any more either, whatever the notice lists.
    cloud.registry.certificates().set_status(new.fingerprint(), CertificateStatus::Revoked);
    let notice = RevocationNotice { sequence: 2, device: new.device.clone(), certificates: vec![] };
    assert_eq!(cloud.registry.revoke(notice, Duration::from_secs(3)).await.tunnels_closed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_read_is_closed_all_the_same() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let device = cloud.connect(&camera, "boot").await;
    let mut stream = cloud.open(&camera.device, "web").await.unwrap();
    // Fills the window, the pipe and every queue, so that no last word can leave.
    let filling = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            if stream.write_all(&[0; 16 * 1024]).await.is_err() {
                break;
            }
        }
    });
    assert!(filling.await.is_err(), "it took everything");
    let receipt = cloud.revoke(&camera).await;
    assert_eq!((receipt.nodes_acked, receipt.tunnels_closed), (1, 1));
    assert!(receipt.elapsed <= Duration::from_secs(1), "{:?}", receipt.elapsed);
    assert_eq!(cloud.ended(device.welcome.generation).await, DisconnectCause::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_certificate() {
    let cloud = Cloud::start();
    let camera = cloud.authority.issue_for("cam-01", Duration::from_secs(3600));
    cloud.register(&camera);
    let mut device = cloud.connect(&camera, "boot").await;
    cloud.hand.advance(Duration::from_secs(3599));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cloud.server.session_count(), 1, "one second is left");

    cloud.hand.advance(Duration::from_secs(1));
    let (cause, last_word) = tokio::join!(cloud.ended(device.welcome.generation), told(&mut device));
    assert_eq!(cause, DisconnectCause::Expired);
    let CloudMessage::Goodbye(goodbye) = last_word else { panic!() };
    assert_eq!(goodbye.cause, DisconnectCause::Expired);
    assert_eq!(reason(cloud.try_connect(&camera, "boot").await), RefusedReason::NotAdmitted);
}
