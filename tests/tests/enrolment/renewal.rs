//! The life of a certificate with real processes and moved clocks: renewed at two thirds, late by policy, never after
//! its end was ordered.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tests::{Cloud, EnrolledDevice, Process, client_program, cloud_program, eventually, now};

use super::{
    applicant::{Applicant, certificates_of, fingerprint, refusal, revoke},
    moved_clock::MovedClock,
};

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_daemon_renews_at_two_thirds_and_its_first_use_of_the_next_retires_the_last() {
    let cloud = Cloud::start().await;
    let device = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let first = std::fs::read_to_string(device.certificate()).unwrap();
    let status = MovedClock::at("+0s").run(&client_program(), &status_words(&device), "").await;
    let status: Value =
        serde_json::from_str(&status.stdout).unwrap_or_else(|error| panic!("{error}: {status:?}"));
    let due =
        seconds(find(&status, "renew").unwrap_or_else(|| panic!("no time of renewal in {status}"))).await;
    let days = (due - now()) as f64 / DAY as f64;
    assert!((51.0..=69.1).contains(&days), "two thirds of 90 days and a tenth either way: {days}");

    let before = MovedClock::at(&format!("+{}s", due - now() - DAY)).daemon(&device.state());
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    assert_eq!(certificates_of(&cloud, "cam-01").await.len(), 1, "a day too early");
    drop(before);
    cloud.until_online("cam-01", false, Duration::from_secs(40)).await;

    let after = MovedClock::at(&format!("+{}s", due - now() + 60)).daemon(&device.state());
    let rows = eventually("the successor is used", || async {
        let rows = certificates_of(&cloud, "cam-01").await;
        let used = rows.iter().any(|row| row["parent"].is_string() && row["first_used_at"].is_string());
        if used { Ok(rows) } else { Err(format!("{rows:?} {}", after.log())) }
    })
    .await;
    assert_eq!(rows.len(), 2);
    let row =
        |certificate: &str| rows.iter().find(|row| row["fingerprint"] == fingerprint(certificate)).unwrap();
    let second = std::fs::read_to_string(device.certificate()).unwrap();
    assert_ne!(first, second);
    assert_eq!((&row(&first)["status"], &row(&second)["status"]), (&"retired".into(), &"active".into()));
    assert_eq!(row(&second)["parent"], fingerprint(&first));
    assert_ne!(row(&second)["spki_sha256"], row(&first)["spki_sha256"], "a new key each time");
    let record = cloud.device_record("cam-01").await;
    assert_eq!(
        (&record["online"], &record["certificate"]["fingerprint"]),
        (&true.into(), &fingerprint(&second).into())
    );
    assert!(after.log().contains("certificate renewed"), "{}", after.log());
}

/// Rows 58 to 60, with a life of two days and three days of grace.
#[tokio::test]
async fn an_expired_certificate_is_renewed_by_policy_and_a_revoked_one_never() {
    let plan = Cloud::plan().config("[ca]\ndevice_certificate_days = 2\nrenew_after_expiry_days = 3");
    let mut cloud = plan.start().await;
    let mut devices = vec![];
    for id in ["late", "revoked", "lost"] {
        devices.push(EnrolledDevice::enrol(&cloud, id).await);
    }
    let [late, revoked, lost] = devices.try_into().unwrap_or_else(|_| unreachable!("three"));
    revoke(&cloud, &std::fs::read_to_string(revoked.certificate()).unwrap(), "superseded").await;
    let life = MovedClock::at("+1d");
    let refused = life.daemon(&revoked.state());
    until_said(&refused, "does not admit this certificate").await;
    drop(refused);
    assert_eq!(cloud.stop().await, 0);

    let a_day_late = MovedClock::at("+3d");
    cloud.start_again_with(&a_day_late.environment()).await;
    let daemons = [a_day_late.daemon(&late.state()), a_day_late.daemon(&revoked.state())];
    until_said(&daemons[0], "certificate renewed").await;
    until_said(&daemons[0], "connected").await;
    until_said(&daemons[1], "the certificate could not be renewed").await;
    assert!(daemons[1].log().contains("re-provision"), "{}", daemons[1].log());
    let rows = listed(&cloud, &a_day_late).await;
    let of = |id: &str| rows.iter().filter(|row| row["device"] == id).count();
    assert_eq!((of("late"), of("revoked"), of("lost")), (2, 1, 1));
    drop(daemons);
    assert_eq!(cloud.stop().await, 0);

    let four_days_late = MovedClock::at("+6d");
    cloud.start_again_with(&four_days_late.environment()).await;
    let daemon = four_days_late.daemon(&lost.state());
    until_said(&daemon, "the certificate could not be renewed").await;
    assert_eq!(listed(&cloud, &four_days_late).await.len(), 4, "nobody got another one");
    assert!(!daemon.log().contains("certificate renewed"));
    drop(daemon);
    // A new passcode brings it back.
    let made = four_days_late
        .run(
            &cloud_program(),
            &["passcode", "new", "--device", "lost", "--data", &cloud.data().display().to_string()],
            "",
        )
        .await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let line = made.stdout.lines().find(|line| line.starts_with("tcpmux://")).unwrap();
    let state = lost.state().display().to_string();
    let again = four_days_late.run(&client_program(), &["enroll", "-", "--state", &state], line).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    until_said(&four_days_late.daemon(&lost.state()), "connected").await;
}

/// Rows 61 and 64 to 66, through the door.
#[tokio::test]
async fn a_device_that_asks_again_and_again_gets_the_same_or_has_to_wait() {
    let cloud = Cloud::start().await;
    let (device, first) = super::applicant::enrolled(&cloud, "cam-01").await;
    let shown = cloud.device().showing(&device.identity(&first));
    for _ in 0..5 {
        let early = device.renewal(&shown).send().await.expect(200).await.text().await;
        assert_eq!(early, first, "its own key, minutes later: the same certificate");
    }
    let next = Applicant::new();
    let second = next.renewal(&shown).send().await.expect(200).await.text().await;
    let again = next.renewal(&shown).send().await.expect(200).await.text().await;
    assert_eq!(second, again);
    // It lost that one too before it used it, and so on: bounded.
    let mut statuses = vec![];
    for _ in 0..12 {
        let answer = Applicant::new().renewal(&shown).send().await;
        let status = answer.status.as_u16();
        assert_eq!(answer.header("retry-after").is_empty(), status == 200);
        statuses.push(status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 9, "{statuses:?}");
    assert!(statuses.is_sorted() && statuses.ends_with(&[429, 429]), "{statuses:?}");
    assert_eq!(certificates_of(&cloud, "cam-01").await.len(), 11);
    let renamed = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, next.request(Some("cam-02")));
    let renamed = next.renewal(&shown).body(renamed).send().await;
    assert_eq!(refusal(renamed).await, "403 identity-mismatch");
}

/// Row 68.
#[tokio::test]
async fn a_device_that_wakes_in_1970_enrols_and_connects() {
    let cloud = Cloud::start().await;
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    let line = cloud.enrolment_string("cam-01").await;
    let then = MovedClock::at("@1970-01-02 00:00:00");
    let enrolled =
        then.run(&client_program(), &["enroll", "-", "--state", &state.display().to_string()], &line).await;
    assert_eq!(enrolled.code, 0, "{}", enrolled.stderr);
    let daemon = then.daemon(&state);
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    assert!(daemon.log().contains("1970-01-02"), "control: its clock stands there: {}", daemon.log());
    drop(daemon);
    // A clock that is wrong by less than an hour either way is no hindrance.
    for (id, when) in [("slow", "-50m"), ("fast", "+50m")] {
        let state = folder.path().join(id).display().to_string();
        let line = cloud.enrolment_string(id).await;
        let enrolled =
            MovedClock::at(when).run(&client_program(), &["enroll", "-", "--state", &state], &line).await;
        assert_eq!(enrolled.code, 0, "{when}: {}", enrolled.stderr);
        let _daemon = MovedClock::at(when).daemon(Path::new(&state));
        cloud.until_online(id, true, Duration::from_secs(20)).await;
    }
}

/// Row 68, the other side: a cloud whose clock went back signs nothing, and says so.
#[tokio::test]
async fn a_cloud_whose_clock_went_back_does_not_start() {
    let mut cloud = Cloud::start().await;
    super::applicant::enrolled(&cloud, "cam-01").await;
    assert_eq!(cloud.stop().await, 0);
    let data = cloud.data().display().to_string();
    let mut words = vec!["up", "--data", &data];
    for door in ["--user-listen", "--device-listen", "--admin-listen"] {
        words.extend([door, "127.0.0.1:0"]);
    }
    let ended = MovedClock::at("-1d").run(&cloud_program(), &words, "").await;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("clock"), "{}", ended.stderr);
    cloud.start_again().await;
    super::applicant::enrolled(&cloud, "cam-02").await;
    assert_eq!(certificates_of(&cloud, "cam-01").await.len(), 1);
}

/// The registry as the operator's command shows it at another time.
async fn listed(cloud: &Cloud, clock: &MovedClock) -> Vec<Value> {
    let data = cloud.data().display().to_string();
    let shown = clock.run(&cloud_program(), &["cert", "ls", "-o", "json", "--data", &data], "").await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let items = shown.get("items").unwrap_or(&shown);
    items.as_array().unwrap_or_else(|| panic!("{shown}")).clone()
}

async fn until_said(process: &Process, words: &str) {
    eventually(&format!("`{words}` is said"), || async {
        let log = process.log();
        if log.contains(words) { Ok(()) } else { Err(log) }
    })
    .await;
}

fn status_words(device: &EnrolledDevice) -> [&'static str; 5] {
    let state: &'static str = Box::leak(device.state().display().to_string().into_boxed_str());
    ["status", "-o", "json", "--state", state]
}

/// The first text under a member whose name contains this.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    match value {
        Value::Object(members) => members
            .iter()
            .find_map(|(key, value)| if key.contains(name) { value.as_str() } else { find(value, name) }),
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

async fn seconds(date: &str) -> u64 {
    tests::run_ok("date", ["-u", "-d", date, "+%s"], b"").await.trim().parse().unwrap()
}
