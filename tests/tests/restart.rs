//! Killed, stopped and started again: nothing is lost, nothing changes, nobody shares a data directory.

use std::time::Duration;

use tests::{Cloud, web};
use tokio::time::Instant;

use crate::stage::Stage;

#[tokio::test]
async fn after_kill_9_of_the_cloud_the_device_is_back_within_seconds() {
    let web = web().await;
    let mut stage = Stage::set(&[("web", web.url("http"))]).await;
    let mut times = vec![];
    for _ in 0..5 {
        stage.cloud.kill();
        stage.cloud.start_again().await;
        let began = Instant::now();
        stage.cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
        times.push(began.elapsed());
        // The token from before is as good as ever: its key outlived the process.
        stage.get("/web/method").send().await.expect(200).await;
    }
    times.sort();
    assert!(times[2] < Duration::from_secs(5), "the median of {times:?}");
}

#[tokio::test]
async fn a_second_start_changes_nothing() {
    let mut cloud = Cloud::start().await;
    let facts = |cloud: &Cloud| {
        let read = |name: &str| std::fs::read(cloud.data().join(name)).unwrap();
        (cloud.fingerprint(), read("admin.key"), read("authorizer.key"), read("ca/devices.crt"))
    };
    let jwks = cloud.user().get("/.well-known/jwks.json").send().await.text().await;
    let before = facts(&cloud);
    assert_eq!(cloud.stop().await, 0, "SIGTERM is a good end");
    assert!(!cloud.data().join("listening.json").exists(), "nothing says that it still listens");
    cloud.start_again().await;
    assert_eq!(facts(&cloud), before);
    assert_eq!(cloud.user().get("/.well-known/jwks.json").send().await.text().await, jwks);
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_says_why() {
    let cloud = Cloud::start().await;
    let second = cloud
        .command("up --user-listen 127.0.0.1:0 --device-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0")
        .await;
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
    cloud.admin().get("/livez").send().await.expect(200).await;
    assert!(cloud.data().join("listening.json").exists(), "the first one's announcement stands");
}

#[tokio::test]
async fn secrets_lie_in_files_that_only_their_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let cloud = Cloud::start().await;
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(cloud.data()), 0o700);
    assert_eq!(mode(cloud.data().join("admin.key")), 0o600);
    let mut keys = 0;
    for directory in [cloud.data(), cloud.data().join("ca")] {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let text = std::fs::read(&entry).unwrap_or_default();
            if String::from_utf8_lossy(&text).contains("PRIVATE KEY") {
                assert_eq!(mode(entry.clone()), 0o600, "{}", entry.display());
                keys += 1;
            }
        }
    }
    assert!(keys >= 4, "root, devices, services, authorizer: {keys}");
}

#[tokio::test]
async fn a_drained_cloud_lets_live_requests_finish() {
    let service = tests::Service::start(|mut conversation| async move {
        conversation.request().await;
        conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        conversation.write("last.").await;
        conversation.until_gone().await;
    })
    .await;
    let mut stage = Stage::set(&[("web", service.url("http"))]).await;
    let mut answer = stage.get("/web/slow").send().await.expect(200).await;
    assert_eq!(answer.next().await.unwrap().unwrap(), "first");
    stage.cloud.process().signal("TERM");
    assert_eq!(answer.next().await.unwrap().unwrap(), "last.");
    assert!(answer.next().await.is_none());
    drop(answer);
    assert_eq!(stage.cloud.process().exit_code(Duration::from_secs(35)).await, 0);
}
