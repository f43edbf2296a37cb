//! Row 55 with real processes: killed between every two steps, and at any moment. Debug builds alone have the steps.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tests::{Cloud, Door, cloud_program, eventually_within, run};
use tokio::{task::JoinSet, time::sleep};

use super::applicant::{Applicant, certificates_of, enrolled, fingerprint, refusal, registry};

const STEPS: [&str; 6] =
    ["after-parsed", "after-prepared", "after-intended", "after-signed", "after-recorded", "after-admitted"];

/// Starts the cloud so that it dies after a step, lets a call do that, and starts it as it should be.
async fn die_of(cloud: &mut Cloud, step: &str, call: tests::Call) {
    cloud.kill();
    cloud.start_again_with(&[("TCPMUX_FAULT_POINT", step)]).await;
    let answer = call.try_send().await;
    assert!(answer.is_err(), "{step}: answered {:?}", answer.map(|answer| answer.status));
    let code = cloud.process().exit_code(Duration::from_secs(10)).await;
    assert_eq!(code, 128 + 6, "{step}: it aborted");
    cloud.start_again().await;
}

#[tokio::test]
async fn killed_after_any_step_of_a_first_enrolment_the_same_request_gets_the_one_certificate() {
    let mut cloud = Cloud::start().await;
    let mut serials = BTreeSet::new();
    for step in STEPS {
        let (owner, passcode) = (Applicant::new(), cloud.passcode(step).await);
        let call = owner.enrolment(&cloud.device(), step, &passcode);
        die_of(&mut cloud, step, call).await;
        // What was intended is finished before a door opens, whether or not the device comes back.
        let waiting = certificates_of(&cloud, step).await;
        let is_durable = !["after-parsed", "after-prepared"].contains(&step);
        assert_eq!(waiting.len(), usize::from(is_durable), "{step}: {waiting:?}");
        // Nobody else gets in where the owner was first; the owner gets in anyhow.
        if is_durable {
            let thief = Applicant::new().enrolment(&cloud.device(), step, &passcode).send().await;
            assert_eq!(refusal(thief).await, "401 passcode-invalid", "{step}");
        }
        let answer = owner.enrolment(&cloud.device(), step, &passcode).send().await;
        let certificate = answer.expect(200).await.text().await;
        let rows = certificates_of(&cloud, step).await;
        assert_eq!(rows.len(), 1, "{step}: {rows:?}");
        assert_eq!(rows[0]["fingerprint"], fingerprint(&certificate), "{step}");
        assert_eq!(rows[0]["status"], "active", "{step}");
        if let Some(before) = waiting.first() {
            assert_eq!(before["serial"], rows[0]["serial"], "{step}");
        }
        assert!(serials.insert(rows[0]["serial"].to_string()), "{step}: a serial came twice");
        let thief = Applicant::new().enrolment(&cloud.device(), step, &passcode).send().await;
        assert_eq!(refusal(thief).await, "401 passcode-invalid", "{step}");
    }
    assert_eq!(registry(&cloud).await.len(), STEPS.len());
}

#[tokio::test]
async fn killed_after_any_step_of_a_renewal_the_same_request_gets_the_one_successor() {
    let mut cloud = Cloud::start().await;
    for step in STEPS {
        let (device, certificate) = enrolled(&cloud, step).await;
        let next = Applicant::new();
        let shown = |door: Door| door.showing(&device.identity(&certificate));
        let call = next.renewal(&shown(cloud.device()));
        die_of(&mut cloud, step, call).await;
        let successor = next.renewal(&shown(cloud.device())).send().await.expect(200).await.text().await;
        let rows = certificates_of(&cloud, step).await;
        let serials: BTreeSet<_> = rows.iter().map(|row| row["serial"].to_string()).collect();
        assert_eq!((rows.len(), serials.len()), (2, 2), "{step}: {rows:?}");
        let row = rows.iter().find(|row| row["fingerprint"] == fingerprint(&successor)).unwrap();
        assert_eq!((&row["status"], &row["parent"]), (&"active".into(), &fingerprint(&certificate).into()));
        // Both work until the new one is used; then the old one has ended.
        let again = next.renewal(&shown(cloud.device())).send().await.expect(200).await.text().await;
        assert_eq!(again, successor, "{step}");
        let as_successor = cloud.device().showing(&next.identity(&successor));
        next.renewal(&as_successor).send().await.expect(200).await;
        let late = Applicant::new().renewal(&shown(cloud.device())).send().await;
        assert_eq!(refusal(late).await, "401 certificate-invalid", "{step}");
    }
}

/// A door's certificate is made at every start: killed there, the next start makes another.
#[tokio::test]
async fn killed_while_the_doors_own_certificate_is_made_the_next_start_is_whole() {
    let mut cloud = Cloud::start().await;
    cloud.kill();
    let (program, data) = (cloud_program().display().to_string(), cloud.data().display().to_string());
    let mut words = vec!["TCPMUX_FAULT_POINT=after-door-signed", &program, "up", "--data", &data];
    for door in ["--user-listen", "--device-listen", "--admin-listen"] {
        words.extend([door, "127.0.0.1:0"]);
    }
    for _ in 0..2 {
        let ended = run("env", &words, b"").await;
        assert_eq!(ended.code, 128 + 6, "{}", ended.stderr);
    }
    cloud.start_again().await;
    enrolled(&cloud, "cam-01").await;
}

/// A hundred devices enrol at once while the cloud is killed again and again at moments that nobody chose.
#[tokio::test]
async fn killed_at_any_moment_every_device_ends_with_exactly_one_certificate() {
    const DEVICES: usize = 100;
    let mut cloud = Cloud::start().await;
    let mut passcodes = vec![];
    for number in 0..DEVICES {
        passcodes.push(cloud.passcode(&format!("unit-{number}")).await);
    }
    let (done, tries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut devices = JoinSet::new();
    for (number, passcode) in passcodes.iter().cloned().enumerate() {
        let (door, done, tries) = (cloud.device(), Arc::clone(&done), Arc::clone(&tries));
        devices.spawn(async move {
            let device = Applicant::new();
            sleep(up_to(Duration::from_secs(1))).await;
            loop {
                tries.fetch_add(1, Ordering::Relaxed);
                let answer = device.enrolment(&door, "", &passcode).try_send().await;
                let status = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
                // 503 is a cloud that ends; an error is one that has ended.
                assert!([0, 200, 503].contains(&status), "unit-{number} was answered {status}");
                if let (200, Ok(answer)) = (status, answer)
                    && let Ok(certificate) = answer.bytes().await
                {
                    done.fetch_add(1, Ordering::Relaxed);
                    return (number, device, String::from_utf8(certificate.to_vec()).unwrap());
                }
                sleep(up_to(Duration::from_millis(200))).await;
            }
        });
    }
    let mut kills = 0;
    while done.load(Ordering::Relaxed) < DEVICES && kills < 12 {
        // Until something was got since the last start, and then a moment more or less.
        let before = done.load(Ordering::Relaxed);
        eventually_within(Duration::from_secs(20), "an enrolment after a start", || {
            let now = done.load(Ordering::Relaxed);
            async move { if now > before { Ok(()) } else { Err(now) } }
        })
        .await;
        sleep(up_to(Duration::from_millis(30))).await;
        cloud.kill();
        kills += 1;
        cloud.start_again().await;
    }
    let mut got = devices.join_all().await;
    assert!(kills >= 3, "only {kills} kills while {DEVICES} devices enrolled");
    assert!(tries.load(Ordering::Relaxed) > DEVICES, "control: the kills were felt");
    let rows = registry(&cloud).await;
    let serials: BTreeSet<String> = rows.iter().map(|row| row["serial"].to_string()).collect();
    let keys: BTreeSet<String> = rows.iter().map(|row| row["spki_sha256"].to_string()).collect();
    assert_eq!((rows.len(), serials.len(), keys.len()), (DEVICES, DEVICES, DEVICES));
    assert!(rows.iter().all(|row| row["status"] == "active"));
    got.sort_by_key(|(number, ..)| *number);
    for (number, device, certificate) in &got {
        let row = rows.iter().find(|row| row["device"] == format!("unit-{number}")).unwrap();
        assert_eq!(row["fingerprint"], fingerprint(certificate), "unit-{number}");
        if number % 10 == 0 {
            let passcode = &passcodes[*number];
            let again = device.enrolment(&cloud.device(), "", passcode).send().await.expect(200).await;
            assert_eq!(&again.text().await, certificate);
            let thief = Applicant::new().enrolment(&cloud.device(), "", passcode).send().await;
            assert_eq!(refusal(thief).await, "401 passcode-invalid");
        }
    }
}

fn up_to(most: Duration) -> Duration {
    most.mul_f64(f64::from(u16::from_be_bytes(runtime::random::bytes())) / f64::from(u16::MAX))
}
