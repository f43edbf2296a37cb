//! Killed between every two steps of an issuance: nothing is lost, nothing is doubled.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use model::CertificateStatus;
use prov_server::{Config, Step};
use runtime::FaultPoints;
use scene::{DAY, Device, Est, Scene};
use store::{CertificateRow, IssuerName};

/// A process that dies after a step: the task that got there goes no further, nobody is answered.
fn dying_after(last: Step) -> (Config, Arc<AtomicBool>) {
    let died = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&died);
    let fault_points = FaultPoints::calling(move |step| {
        if step == last {
            seen.store(true, Ordering::SeqCst);
            panic!("killed {step:?}");
        }
    });
    (Config { fault_points, ..Config::default() }, died)
}

/// Sends a request to a process that dies of it.
async fn send_and_die(scene: &Arc<Scene>, est: Est) {
    let dying = Arc::clone(scene);
    #[expect(clippy::disallowed_methods, reason = "a panic has to end somewhere")]
    let outcome = tokio::spawn(async move { dying.send(est).await.status }).await;
    assert!(!matches!(outcome, Ok(status) if status == 200), "a dead process answered");
}

async fn only_row(scene: &Scene) -> CertificateRow {
    let rows = scene.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().unwrap()
}

#[tokio::test]
async fn killed_after_any_step_of_a_first_enrolment_the_same_request_gets_the_one_certificate() {
    for step in Step::ALL {
        let (config, died) = dying_after(step);
        let scene = Arc::new(Scene::with(config).await);
        let passcode = scene.passcode("device=cam-01").await;
        let owner = Device::new();
        send_and_die(&scene, Est::enrol(&owner.request(None), "", &passcode)).await;
        assert!(died.load(Ordering::SeqCst), "{step:?} was never reached");
        let intended = scene.rows().await;
        let is_durable = !matches!(step, Step::Parsed | Step::Prepared);
        assert_eq!(intended.len(), usize::from(is_durable), "{step:?}");

        let scene = Arc::into_inner(scene).unwrap().restarted(Config::default()).await;
        assert!(scene.store.pending_issuances().await.unwrap().is_empty(), "{step:?}");
        let answer = scene.send(Est::enrol(&owner.request(None), "", &passcode)).await;
        assert_eq!(answer.status, 200, "{step:?}: {}", answer.text());
        let row = only_row(&scene).await;
        assert_eq!(row.fingerprint, Some(scene::fingerprint(&answer.leaf())), "{step:?}");
        if let Some(intended) = intended.first() {
            assert_eq!(row.serial, intended.serial, "{step:?}");
        }
        assert_eq!(scene.view(&answer.leaf()).unwrap().status, CertificateStatus::Active, "{step:?}");
        let thief = scene.send(Est::enrol(&Device::new().request(None), "", &passcode)).await;
        assert_eq!(thief.status, 401, "{step:?}");
        assert_eq!(scene.audited("certificate.issue", "ok").await, 1, "{step:?}");
    }
}

#[tokio::test]
async fn killed_after_any_step_of_a_renewal_the_same_request_gets_the_one_successor() {
    for step in Step::ALL {
        let (dying, died) = dying_after(step);
        let scene = Scene::new().await;
        let (_, parent) = scene.enrolled("cam-01").await;
        scene.clock.advance(DAY * 60);
        let scene = Arc::new(scene.restarted(dying).await);
        let next = Device::new();
        send_and_die(&scene, Est::renew(&next.request(None), &parent)).await;
        assert!(died.load(Ordering::SeqCst), "{step:?} was never reached");

        let scene = Arc::into_inner(scene).unwrap().restarted(Config::default()).await;
        let answer = scene.send(Est::renew(&next.request(None), &parent)).await;
        assert_eq!(answer.status, 200, "{step:?}: {}", answer.text());
        let serials: Vec<_> = scene.rows().await.into_iter().map(|row| row.serial).collect();
        assert_eq!(serials.len(), 2, "{step:?}: the parent and one successor");
        assert_eq!(scene.view(&answer.leaf()).unwrap().status, CertificateStatus::Active, "{step:?}");
    }
}

#[tokio::test]
async fn after_a_crash_the_bytes_that_were_intended_are_the_ones_signed() {
    let (config, _) = dying_after(Step::Signed);
    let scene = Arc::new(Scene::with(config).await);
    let passcode = scene.passcode("device=cam-01").await;
    let owner = Device::new();
    send_and_die(&scene, Est::enrol(&owner.request(None), "", &passcode)).await;
    let pending = scene.store.pending_issuances().await.unwrap().remove(0);
    let scene = Arc::into_inner(scene).unwrap().restarted(Config::default()).await;
    // The device never asks again: its certificate is there all the same.
    let row = only_row(&scene).await;
    assert_eq!((row.status, row.serial), (CertificateStatus::Active, pending.certificate.serial));
    let der = scene.store.certificate(row.fingerprint.unwrap()).await.unwrap().unwrap().der.unwrap();
    assert!(der.windows(pending.tbs.len()).any(|window| window == pending.tbs));
    assert!(scene.registry.certificates().lookup(row.fingerprint.unwrap()).is_some());
}

#[tokio::test]
async fn a_caller_who_leaves_leaves_nothing_half_done() {
    let scene = Scene::new().await;
    let passcode = scene.passcode("device=cam-01").await;
    let owner = Device::new();
    let request = owner.request(None);
    let mut sending = Box::pin(scene.send(Est::enrol(&request, "", &passcode)));
    // Polled until the intent is durable, then dropped as hyper drops it when the client goes.
    loop {
        if let std::task::Poll::Ready(answer) = futures_util::poll!(&mut sending) {
            panic!("answered before it could be dropped: {answer:?}");
        }
        if !scene.rows().await.is_empty() {
            break;
        }
    }
    drop(sending);
    let is_active = |row: &CertificateRow| row.status == CertificateStatus::Active;
    scene::until("the row", async || only_row(&scene).await, is_active).await;
}

#[tokio::test]
async fn a_doors_unfinished_certificate_is_given_up_and_revoked() {
    let (config, _) = dying_after(Step::DoorSigned);
    let scene = Arc::new(Scene::with(config).await);
    let dying = Arc::clone(&scene);
    #[expect(clippy::disallowed_methods, reason = "a panic has to end somewhere")]
    let outcome = tokio::spawn(async move {
        dying.room.issue_door_certificate(&["cloud.example.com".into()], &[]).await.map(drop)
    });
    assert!(outcome.await.is_err());
    let serial = scene.store.pending_issuances().await.unwrap()[0].certificate.serial;
    let scene = Arc::into_inner(scene).unwrap().restarted(Config::default()).await;
    assert!(scene.store.pending_issuances().await.unwrap().is_empty());
    let revoked = scene.store.revoked(IssuerName::Services, scene.time.now()).await.unwrap();
    assert_eq!(revoked.iter().map(|row| row.serial).collect::<Vec<_>>(), [serial]);
}
