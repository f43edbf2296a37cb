//! One certificate in two places: the newest is served, and no loop of kicks comes of it.

use std::{path::Path, process::Command, time::Duration};

use http::Method;
use serde_json::Value;
use tests::{Cloud, Device, Process, client_program, eventually, run_ok, web};
use tokio::time::Instant;

use super::peer::{Greeted, Peer};

#[tokio::test]
async fn of_two_daemons_with_one_identity_the_newest_is_served_and_the_older_waits() {
    let web = web().await;
    let cloud = Cloud::start().await;
    let device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let token = cloud.token("cam-01", "operator").await;
    let first = generation(&cloud).await;
    let copy = tempfile::tempdir().unwrap();
    let state = copy.path().join("state");
    run_ok("cp", ["-a", &device.state().display().to_string(), &state.display().to_string()], b"").await;
    let twin = daemon(&state, &web.url("http"));
    eventually("the twin takes over", || async {
        let now = generation(&cloud).await;
        if now > first && twin.log().contains("connected") { Ok(()) } else { Err(now) }
    })
    .await;
    eventually("the older is told", || async {
        let log = device.log();
        if log.contains("replaced") { Ok(()) } else { Err(log) }
    })
    .await;
    // It does not fight: for the next seconds the twin is served alone, all the time.
    let taken = generation(&cloud).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        cloud.user().get("/d/cam-01/web/method").bearer(&token).send().await.expect(200).await;
    }
    assert_eq!(generation(&cloud).await, taken);
}

#[tokio::test]
async fn a_clone_that_kicks_and_kicks_is_damped_and_the_daemon_stays_usable() {
    let web = web().await;
    let cloud = Cloud::start().await;
    let device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let token = cloud.token("cam-01", "operator").await;
    let stolen = device.identity();
    // They stay: a session that has ended by itself is no longer anybody's rival.
    let (mut kicks, mut standing) = (0, vec![]);
    let refused = loop {
        let mut peer = Peer::dial(&cloud, &stolen).await.unwrap();
        match peer.greet(&format!("clone-{kicks}")).await {
            Greeted::Welcome => standing.push(peer),
            other => break other,
        }
        kicks += 1;
        assert!(kicks <= 6, "six a minute at most");
    };
    assert_eq!(refused, Greeted::Refused("clone_suspected".into()));
    assert!(kicks >= 2, "a device that restarts is not a clone yet");
    let mut others = 0;
    for attempt in 0..20 {
        let mut peer = Peer::dial(&cloud, &stolen).await.unwrap();
        others += usize::from(peer.greet(&format!("again-{attempt}")).await == Greeted::Welcome);
    }
    assert_eq!(others, 0, "the standing session is left alone");
    assert_eq!(cloud.device_record("cam-01").await["online"], true);
    assert!(cloud.log().contains("used from two places"), "somebody is told");
    // The one that stands goes; the real device has its place again after its wait. Its operator
    // ends the matter: revoked, and enrolled anew.
    drop(standing);
    let record = cloud.device_record("cam-01").await;
    let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap();
    let path = format!("/admin/api/certificates/{fingerprint}/revoke");
    cloud.administer(Method::POST, &path, serde_json::json!({"reason": "keyCompromise"})).await;
    drop(device);
    let _device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    cloud.user().get("/d/cam-01/web/method").bearer(&token).send().await.expect(200).await;
    let mut peer = Peer::dial(&cloud, &stolen).await.unwrap();
    assert_eq!(peer.greet("thief").await, Greeted::Refused("not_admitted".into()));
}

async fn generation(cloud: &Cloud) -> u64 {
    let record: Value = cloud.device_record("cam-01").await;
    record["generation"].as_u64().unwrap_or_default()
}

fn daemon(state: &Path, web: &str) -> Process {
    let mut command = Command::new(client_program());
    command.args(["run", "--no-local-api", "--service", &format!("web={web}"), "--state"]).arg(state);
    Process::start("twin", command)
}
