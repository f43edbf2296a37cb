//! The life of passcodes and certificates, as `prov-server` drives it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use std::time::Duration;

use futures_util::future::join_all;
use model::{Actor, CertificateStatus, Fingerprint, PasscodeDigest, RevocationReason, TenantName};
use scene::{DAY, START, Scene, device};
use store::{IssuerName, Redemption, RedemptionRefusal, Renewal, RenewalRefusal, StoreError};

fn refused(redemption: &Redemption) -> RedemptionRefusal {
    match redemption {
        Redemption::Refused(refusal) => *refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn intended(renewal: Renewal) -> store::IssuanceRow {
    match renewal {
        Renewal::Intended(row) => row,
        other => panic!("not intended: {other:?}"),
    }
}

#[tokio::test]
async fn of_two_hundred_keys_at_once_one_wins() {
    let scene = Scene::new().await;
    let digest = scene.passcode(1, None).await;
    let all = join_all((0..200).map(|key| scene.redeem(digest, "cam-01", key, START))).await;
    let won = all.iter().filter(|r| matches!(r, Redemption::Intended(_))).count();
    let replays = all.iter().filter(|r| matches!(r, Redemption::Refused(RedemptionRefusal::Replay))).count();
    assert_eq!((won, replays), (1, 199));
    let rows = scene.store.audit(0, 1000).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.outcome == "otp-replay").count(), 199);
    assert_eq!(scene.store.verify_audit().await.unwrap().unwrap().rows(), rows.len() as u64);
}

#[tokio::test]
async fn two_hundred_times_the_same_key_is_one_serial_and_one_signature() {
    let scene = Scene::new().await;
    let digest = scene.passcode(1, None).await;
    let all = join_all((0..200).map(|_| async {
        match scene.redeem(digest, "cam-01", 7, START).await {
            Redemption::Intended(row) | Redemption::Repeat(row) => {
                scene.record(&row, START).await.der.unwrap()
            }
            Redemption::Refused(refusal) => panic!("{refusal:?}"),
        }
    }))
    .await;
    assert!(all.iter().all(|der| der == &all[0]));
}

#[tokio::test]
async fn a_second_signature_for_a_serial_is_dropped() {
    let scene = Scene::new().await;
    let digest = scene.passcode(1, None).await;
    let Redemption::Intended(row) = scene.redeem(digest, "cam-01", 7, START).await else { panic!() };
    let first = scene.record(&row, START).await;
    let second =
        scene.store.record_issued(row.certificate.serial, b"another".to_vec(), Fingerprint([9; 32]), START);
    assert_eq!(second.await.unwrap(), first);
}

#[tokio::test]
async fn a_repeat_gets_its_certificate_until_it_is_used_or_a_day_has_passed() {
    let scene = Scene::new().await;
    let digest = scene.passcode(1, None).await;
    let Redemption::Intended(row) = scene.redeem(digest, "cam-01", 7, START).await else { panic!() };
    let row = scene.record(&row, START).await;
    let late = START.plus(Duration::from_secs(86_399));
    assert_eq!(scene.redeem(digest, "cam-01", 7, late).await, Redemption::Repeat(row.clone()));
    assert_eq!(refused(&scene.redeem(digest, "cam-01", 7, START.plus(DAY)).await), RedemptionRefusal::Spent);
    scene.store.confirm_first_use(row.certificate.fingerprint.unwrap(), START).await.unwrap().unwrap();
    assert_eq!(refused(&scene.redeem(digest, "cam-01", 7, late).await), RedemptionRefusal::Spent);
}

#[tokio::test]
async fn what_a_passcode_is_not_for_is_refused_and_does_not_burn_it() {
    let scene = Scene::new().await;
    let bound = scene.passcode(1, Some("cam-01")).await;
    let free = scene.passcode(2, None).await;
    let unknown = PasscodeDigest([99; 32]);
    assert_eq!(refused(&scene.redeem(unknown, "cam-01", 7, START).await), RedemptionRefusal::Unknown);
    assert_eq!(refused(&scene.redeem(bound, "cam-02", 7, START).await), RedemptionRefusal::OtherDevice);
    let end = START.plus(Duration::from_secs(3600));
    assert_eq!(refused(&scene.redeem(bound, "cam-01", 7, end).await), RedemptionRefusal::Expired);
    assert!(matches!(scene.redeem(bound, "cam-01", 7, START).await, Redemption::Intended(_)));
    assert_eq!(refused(&scene.redeem(free, "cam-01", 8, START).await), RedemptionRefusal::DeviceExists);
    assert_eq!(refused(&scene.redeem(free, "cam-02", 7, START).await), RedemptionRefusal::KeyBlocked);
    assert!(matches!(scene.redeem(free, "cam-02", 8, START).await, Redemption::Intended(_)));
    let tenant = TenantName::default();
    scene.store.remove_passcode(&tenant, "pc_2", &Actor::System, START).await.unwrap();
    assert_eq!(refused(&scene.redeem(free, "cam-02", 8, START).await), RedemptionRefusal::Unknown);
    let rows = scene.store.passcodes(&tenant, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].redeemed_at, rows[0].pinned_spki), (Some(START), Some([7; 32])));
}

#[tokio::test]
async fn an_intent_survives_a_kill() {
    let scene = Scene::new().await;
    let digest = scene.passcode(1, None).await;
    let Redemption::Intended(row) = scene.redeem(digest, "cam-01", 7, START).await else { panic!() };
    let store = scene.reopened().await;
    assert_eq!(store.pending_issuances().await.unwrap(), vec![row.clone()]);
    assert_eq!(store.last_issuance_at().await.unwrap(), Some(START));
    scene.record(&row, START).await;
    assert_eq!(store.pending_issuances().await.unwrap(), []);
}

#[tokio::test]
async fn a_successors_first_use_retires_its_predecessors_once() {
    let scene = Scene::new().await;
    let parent = scene.enrol("cam-01", 1).await;
    let lost = scene.record(&intended(scene.renew("cam-01", parent, 2, START).await), START).await;
    let kept = scene.record(&intended(scene.renew("cam-01", parent, 3, START).await), START).await;
    let kept = kept.certificate.fingerprint.unwrap();
    let mut first = scene.store.confirm_first_use(kept, START).await.unwrap().unwrap();
    let mut expected = vec![parent, lost.certificate.fingerprint.unwrap()];
    expected.sort();
    first.retired.sort();
    assert_eq!((first.device, first.retired), (device("cam-01"), expected));
    assert_eq!(scene.store.confirm_first_use(kept, START).await.unwrap(), None);
    let refusal = Renewal::Refused(RenewalRefusal::Status(CertificateStatus::Retired));
    assert_eq!(scene.renew("cam-01", parent, 4, START).await, refusal);
    let row = scene.store.certificate_of_device(&device("cam-01")).await.unwrap().unwrap();
    assert_eq!(row.fingerprint, Some(kept));
}

#[tokio::test]
async fn renewals_are_counted_and_the_same_key_gets_the_same_successor() {
    let scene = Scene::new().await;
    let parent = scene.enrol("cam-01", 1).await;
    let first = intended(scene.renew("cam-01", parent, 2, START).await);
    assert_eq!(scene.renew("cam-01", parent, 2, START).await, Renewal::Repeat(first.clone()));
    intended(scene.renew("cam-01", parent, 3, START).await);
    intended(scene.renew("cam-01", parent, 4, START).await);
    let many = Renewal::Refused(RenewalRefusal::TooMany);
    assert_eq!(scene.renew("cam-01", parent, 5, START).await, many);
    assert_eq!(scene.renew("cam-01", parent, 2, START).await, Renewal::Repeat(first.clone()));
    let next_day = START.plus(DAY);
    let anew = intended(scene.renew("cam-01", parent, 2, next_day).await);
    assert_ne!(anew.certificate.serial, first.certificate.serial);
}

#[tokio::test]
async fn a_renewal_needs_an_active_certificate_of_that_device_and_a_free_key() {
    let scene = Scene::new().await;
    let parent = scene.enrol("cam-01", 1).await;
    let other = scene.enrol("cam-02", 2).await;
    let refusal = |renewal| match renewal {
        Renewal::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let unknown = Fingerprint([200; 32]);
    assert_eq!(refusal(scene.renew("cam-01", unknown, 5, START).await), RenewalRefusal::Unknown);
    assert_eq!(refusal(scene.renew("cam-01", other, 5, START).await), RenewalRefusal::OtherDevice);
    assert_eq!(refusal(scene.renew("cam-01", parent, 2, START).await), RenewalRefusal::KeyBlocked);
    let reason = RevocationReason::KeyCompromise;
    scene.store.revoke_certificate(parent, reason, &Actor::System, START).await.unwrap();
    let status = RenewalRefusal::Status(CertificateStatus::Revoked);
    assert_eq!(refusal(scene.renew("cam-01", parent, 5, START).await), status);
}

#[tokio::test]
async fn a_revocation_takes_every_certificate_of_the_device_finished_or_not() {
    let scene = Scene::new().await;
    let parent = scene.enrol("cam-01", 1).await;
    let bystander = scene.enrol("cam-02", 9).await;
    let pending = intended(scene.renew("cam-01", parent, 2, START).await);
    let reason = RevocationReason::KeyCompromise;
    let act = scene.store.revoke_certificate(parent, reason, &Actor::System, START).await.unwrap();
    assert_eq!((act.sequence, act.fresh, act.certificates.clone()), (1, 2, vec![parent]));
    let late =
        scene.store.record_issued(pending.certificate.serial, vec![1], Fingerprint([8; 32]), START).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let listed = scene.store.revoked(IssuerName::Devices, START).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|row| row.reason == reason && row.at == START));
    assert!(scene.store.revoked(IssuerName::Services, START).await.unwrap().is_empty());
    assert!(scene.store.revoked(IssuerName::Devices, START.plus(DAY * 91)).await.unwrap().is_empty());

    let again = scene.store.revoke_device(&device("cam-01"), reason, &Actor::System, START).await.unwrap();
    assert_eq!((again.sequence, again.fresh, again.certificates), (2, 0, vec![parent]));
    let untouched = scene.store.certificate(bystander).await.unwrap().unwrap();
    assert_eq!(untouched.certificate.status, CertificateStatus::Active);
    let nobody = scene.store.revoke_device(&device("nobody"), reason, &Actor::System, START).await;
    assert!(matches!(nobody, Err(StoreError::NotFound("device"))));
}

#[tokio::test]
async fn the_registry_is_listed_by_page_and_by_tenant() {
    let scene = Scene::new().await;
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        scene.enrol(name, number as u8 + 1).await;
    }
    let tenant = TenantName::default();
    let page = scene.store.certificates(&tenant, 0, 2).await.unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(scene.store.certificates(&tenant, page[1].id, 2).await.unwrap().len(), 1);
    assert!(scene.store.certificates(&"acme".parse().unwrap(), 0, 2).await.unwrap().is_empty());
    assert_eq!(scene.store.door_certificates(START, 0, 10).await.unwrap().len(), 3);
    assert!(scene.store.door_certificates(START.plus(DAY * 90), 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_abandoned_serial_is_listed_as_revoked_and_never_recorded() {
    let scene = Scene::new().await;
    let digest = scene.passcode(1, None).await;
    let Redemption::Intended(row) = scene.redeem(digest, "cam-01", 7, START).await else { panic!() };
    let serial = row.certificate.serial;
    scene.store.abandon_issuance(serial, START).await.unwrap();
    let listed = scene.store.revoked(IssuerName::Devices, START).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.serial).collect::<Vec<_>>(), [serial]);
    assert!(scene.store.record_issued(serial, vec![1], Fingerprint([8; 32]), START).await.is_err());
    assert!(scene.store.abandon_issuance(serial, START).await.is_err());
}

#[tokio::test]
async fn passcodes_are_listed_newest_first_and_by_page() {
    let scene = Scene::new().await;
    for number in 1..=3 {
        scene.passcode(number, None).await;
    }
    let tenant = TenantName::default();
    let page = scene.store.passcodes(&tenant, None, 2).await.unwrap();
    assert_eq!(page.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["pc_3", "pc_2"]);
    let after = Some((page[1].created_at, page[1].id.clone()));
    assert_eq!(scene.store.passcodes(&tenant, after, 2).await.unwrap()[0].id, "pc_1");
}
