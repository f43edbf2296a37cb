//! Taking certificates back, and telling everybody.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use std::time::Duration;

use model::{Actor, CertificateStatus, Event, RevocationReason, Serial};
use prov_server::{Config, RevokeError};
use scene::{DAY, Device, Est, HOUR, Scene, device, fingerprint};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

async fn list(scene: &Scene, issuer: &str) -> (u64, Vec<Serial>) {
    let answer = scene.get(&format!("/crl/{issuer}.crl")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/pkix-crl"));
    let (rest, list) = CertificateRevocationList::from_der(&answer.body).unwrap();
    assert!(rest.is_empty());
    let number = list.crl_number().unwrap().to_string().parse().unwrap();
    let serials = list.iter_revoked_certificates().map(|entry| {
        let octets = entry.raw_serial();
        Serial(octets.try_into().unwrap())
    });
    (number, serials.collect())
}

#[tokio::test]
async fn one_call_ends_every_certificate_of_the_device_and_tells_what_it_did() {
    let scene = Scene::new().await;
    let (_, old) = scene.enrolled("cam-01").await;
    scene.enrolled("cam-02").await;
    scene.clock.advance(DAY * 60);
    let new = scene.send(Est::renew(&Device::new().request(None), &old)).await.leaf();
    let mut orders = scene.registry.revocation_orders();
    let mut events = scene.registry.subscribe();
    let node = async {
        let order = orders.recv().await.unwrap();
        let mut expected = vec![fingerprint(&old), fingerprint(&new)];
        let mut told = order.notice.certificates.clone();
        expected.sort();
        told.sort();
        assert_eq!((order.notice.device, told), (device("cam-01"), expected));
        order.done.send(1).unwrap();
    };
    let uri = format!("/admin/api/certificates/{}/revoke", fingerprint(&old));
    let ((status, receipt), ()) =
        tokio::join!(scene.json("POST", &uri, r#"{"reason":"keyCompromise"}"#), node);
    assert_eq!(status, 200);
    assert_eq!(receipt["seq"], 1);
    assert_eq!(
        (&receipt["nodes"], &receipt["nodes_acked"], &receipt["tunnels_closed"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert!(receipt["ms"].as_u64().unwrap() < 3000);
    for leaf in [&old, &new] {
        assert_eq!(scene.view(leaf).unwrap().status, CertificateStatus::Revoked);
        let Ok(Event::CertificateRevoked { sequence: 1, device: named, .. }) = events.recv().await else {
            panic!("no event")
        };
        assert_eq!(named, device("cam-01"));
    }
    let rows = scene.audit().await;
    let row = rows.iter().find(|row| row.action == "certificate.revoke").unwrap();
    assert_eq!((&*row.actor, &*row.object), ("admin@127.0.0.1", "device:default/cam-01"));
    let (_, serials) = list(&scene, "devices").await;
    assert_eq!(serials.len(), 2);
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_told_as_such_after_three_seconds() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    let _silent = scene.registry.revocation_orders();
    let reason = RevocationReason::Unspecified;
    let receipt = scene.room.revoke_certificate(fingerprint(&leaf), reason, &Actor::System).await.unwrap();
    assert_eq!((receipt.nodes, receipt.nodes_acked), (1, 0));
    assert!(receipt.ms >= 3000, "{receipt:?}");
    assert_eq!(scene.view(&leaf).unwrap().status, CertificateStatus::Revoked);
}

#[tokio::test]
async fn a_revocation_holds_across_a_restart_and_can_be_repeated() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    let reason = RevocationReason::CessationOfOperation;
    let first = scene.room.revoke_device(&device("cam-01"), reason, &Actor::System).await.unwrap();
    let again = scene.room.revoke_device(&device("cam-01"), reason, &Actor::System).await.unwrap();
    assert!(again.seq > first.seq);
    let nobody = scene.room.revoke_device(&device("nobody"), reason, &Actor::System).await;
    assert!(matches!(nobody, Err(RevokeError::NotFound("device"))));
    let scene = scene.restarted(Config::default()).await;
    assert_eq!(scene.view(&leaf).unwrap().status, CertificateStatus::Revoked);
    assert_eq!(list(&scene, "devices").await.1.len(), 1);
    // With another passcode and another key the device may come back; its revoked key may not.
    let passcode = scene.passcode("device=cam-01").await;
    assert_eq!(scene.send(Est::enrol(&Device::new().request(None), "", &passcode)).await.status, 200);
}

#[tokio::test]
async fn a_revoked_devices_key_and_unfinished_repeats_get_nothing() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let owner = Device::new();
    scene.send(Est::enrol(&owner.request(None), "", &passcode)).await.leaf();
    scene
        .room
        .revoke_device(&device("cam-01"), RevocationReason::KeyCompromise, &Actor::System)
        .await
        .unwrap();
    assert_eq!(scene.send(Est::enrol(&owner.request(None), "", &passcode)).await.status, 401);
    let fresh = scene.passcode("device=cam-01").await;
    let answer = scene.send(Est::enrol(&owner.request(None), "", &fresh)).await;
    assert_eq!((answer.status.as_u16(), &*answer.word()), (400, "key-blocked"));
}

#[tokio::test]
async fn what_cannot_be_revoked_is_said_clearly() {
    let scene = Scene::new().await;
    let (_, leaf) = scene.enrolled("cam-01").await;
    let unknown = "0".repeat(64);
    let known = fingerprint(&leaf).to_string();
    for (fingerprint, body, status) in [
        (&unknown, "", 404),
        (&known[..10].to_owned(), "", 400),
        (&known.to_uppercase(), "", 400),
        (&known, r#"{"reason":"boredom"}"#, 400),
        (&known, r#"{"raison":"keyCompromise"}"#, 400),
    ] {
        let uri = format!("/admin/api/certificates/{fingerprint}/revoke");
        assert_eq!(scene.admin("POST", &uri, "*/*", body).await.status, status, "{fingerprint} {body}");
    }
    assert_eq!(scene.view(&leaf).unwrap().status, CertificateStatus::Active);
}

/// Row 70.
#[tokio::test]
async fn lists_are_renewed_in_time_and_their_numbers_only_grow_even_from_an_old_backup() {
    let scene = Scene::new().await;
    let (first, none) = list(&scene, "devices").await;
    assert!(none.is_empty());
    assert_eq!(list(&scene, "devices").await.0, first, "nothing happened, nothing is signed");
    std::fs::copy(scene.folder.path().join("tcpmux.db"), scene.folder.path().join("backup.db")).unwrap();
    scene.clock.advance(HOUR * 12);
    let (second, _) = list(&scene, "devices").await;
    assert!(second > first);
    let (_, leaf) = scene.enrolled("cam-01").await;
    let reason = RevocationReason::KeyCompromise;
    scene.room.revoke_certificate(fingerprint(&leaf), reason, &Actor::System).await.unwrap();
    let (third, serials) = list(&scene, "devices").await;
    assert!(third > second);
    assert_eq!(serials.len(), 1);
    scene.clock.advance(Duration::from_secs(60));
    scene.store.close().await;
    let path = scene.folder.path().to_owned();
    for name in ["tcpmux.db-wal", "tcpmux.db-shm"] {
        let _ = std::fs::remove_file(path.join(name));
    }
    std::fs::copy(path.join("backup.db"), path.join("tcpmux.db")).unwrap();
    let restored = scene.restarted(Config::default()).await;
    assert!(list(&restored, "devices").await.0 > third);
}

#[tokio::test]
async fn a_doors_certificate_can_be_revoked_too() {
    let scene = Scene::new().await;
    let door = scene.room.issue_door_certificate(&["cloud.example.com".into()], &[]).await.unwrap();
    let reason = RevocationReason::KeyCompromise;
    let receipt = scene.room.revoke_certificate(door.fingerprint, reason, &Actor::System).await.unwrap();
    assert_eq!(receipt.nodes, 0);
    assert_eq!(list(&scene, "services").await.1.len(), 1);
    assert!(list(&scene, "devices").await.1.is_empty());
}

#[tokio::test]
async fn what_the_doors_refuse_leaves_an_audit_row() {
    let scene = Scene::new().await;
    let device = model::DeviceRef::new(model::TenantName::default(), "cam-09".parse().unwrap());
    scene.registry.publish(Event::DeviceRefused {
        device: device.clone(),
        certificate: model::Fingerprint([9; 32]),
        reason: "the certificate is not in the registry".into(),
        at: scene::START,
    });
    scene.registry.publish(Event::CloneSuspected { device, at: scene::START });
    let both = async {
        while scene.audited("device.connect", "refused").await
            + scene.audited("device.connect", "clone-suspected").await
            < 2
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("both alarms are audited");
    let row = scene.audit().await.into_iter().find(|row| row.outcome == "refused").unwrap();
    assert!(row.object.ends_with("cam-09") && row.detail.contains("not in the registry"), "{row:?}");
}
