//! Somebody else holds the database: requests to devices do not notice; what needs to write says so.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tests::{Cloud, Device, Provider, eventually, eventually_within, web};
use tokio::time::timeout;

use super::neighbour::Neighbour;

#[tokio::test]
async fn a_locked_database_stops_no_request_and_no_device_and_is_no_internal_error() {
    let provider = Provider::start().await;
    let cloud = Cloud::with_provider(&provider).await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let web = web().await;
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let alice = provider.token("alice");
    let id = cloud.user_id(&alice).await;
    cloud.grant("neighbour", &id, json!({"level": "operator"})).await;

    let traffic = neighbour.ask_all_the_time();
    let lock = cloud.lock_database().await;
    // A device that comes back is admitted from memory.
    device.kill();
    cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    device.start_again();
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    // Acts that must be written are refused in time, and say that they may be repeated.
    let admin = cloud.admin();
    let calls = [
        ("a passcode", admin.post("/admin/api/otp").admin(cloud.key()).json(&json!({"device": "cam-03"}))),
        (
            "a token of the admin",
            admin.post("/admin/api/tokens").admin(cloud.key()).json(&json!({"device": "cam-01"})),
        ),
        ("a new person", cloud.user().get("/v1/me").bearer(&provider.token("bob"))),
    ];
    let answers = calls.map(|(what, call)| async move {
        (what, timeout(Duration::from_secs(20), call.send()).await.expect(what))
    });
    for (what, answer) in join_all(answers).await {
        let (status, retry) = (answer.status.as_u16(), answer.header("retry-after").to_owned());
        let said = answer.text().await;
        assert_eq!(status, 503, "{what}: {said}");
        assert!(!retry.is_empty(), "{what}: 503 without Retry-After");
        let lower = said.to_ascii_lowercase();
        assert!(!["sqlite", "sqlx", "locked", ".db"].iter().any(|inside| lower.contains(inside)), "{said}");
    }
    // Somebody who is known needs no write.
    let token = cloud.user().post("/v1/token").bearer(&alice).json(&json!({})).send();
    let token = timeout(Duration::from_secs(20), token).await.expect("in time");
    assert!([200, 503].contains(&token.status.as_u16()), "{}", token.text().await);
    admin.get("/livez").send().await.expect(200).await;
    traffic.was_undisturbed().await;

    drop(lock);
    eventually("writes are possible again", || async {
        let answer = admin.post("/admin/api/otp").admin(cloud.key()).send().await;
        if answer.status.is_success() { Ok(()) } else { Err(answer.problem().await) }
    })
    .await;
    eventually_within(Duration::from_secs(10), "ready again", || async {
        let status = admin.get("/readyz").send().await.status;
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
}
