//! Programs on a device report to their cloud, whatever dies in between.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Device, EnrolledDevice, eventually_within, run_ok};

async fn report_numbers(device: &Device, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        let body = json!({"id": format!("item-{number}"), "data": {"n": number}});
        assert_eq!(device.report("/v1/telemetry", &body).await, "202");
    }
}

/// The telemetry in the log, in its order.
async fn logged(cloud: &Cloud) -> Vec<u32> {
    let script = "import json, sqlite3, sys\n\
        rows = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True).execute(\
        \"SELECT data FROM events WHERE subject = 'telemetry' ORDER BY seq\")\n\
        print(json.dumps([json.loads(row[0])['n'] for row in rows]))\n";
    let database = cloud.data().join("tcpmux.db").display().to_string();
    serde_json::from_str(&run_ok("python3", ["-c", script, &database], b"").await).unwrap()
}

async fn until_logged(cloud: &Cloud, newest: u32) {
    eventually_within(Duration::from_secs(90), "everything is in the log, once and in order", || async {
        let found = logged(cloud).await;
        if found == (1..=newest).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_a_program_was_promised_reaches_the_log_once_and_in_order_whatever_dies() {
    let mut cloud = Cloud::start().await;
    let mut reporter = EnrolledDevice::enrol(&cloud, "cam-01").await.run_reporting(&[]).await;
    report_numbers(&reporter, 1..=10).await;
    until_logged(&cloud, 10).await;

    report_numbers(&reporter, 11..=15).await;
    cloud.kill();
    report_numbers(&reporter, 16..=25).await;
    cloud.start_again().await;
    until_logged(&cloud, 25).await;

    cloud.kill();
    report_numbers(&reporter, 26..=30).await;
    reporter.kill();
    reporter.start_again();
    reporter.until_local_api().await;
    report_numbers(&reporter, 31..=35).await;
    cloud.start_again().await;
    until_logged(&cloud, 35).await;

    report_numbers(&reporter, 35..=36).await;
    until_logged(&cloud, 36).await;
}

#[tokio::test]
async fn a_daemon_that_brings_more_than_its_share_waits_as_it_is_told_and_loses_nothing() {
    const SHARE: u32 = 50;
    let config = format!("[device_gateway]\ntelemetry_per_second = {SHARE}");
    let mut cloud = Cloud::plan().config(&config).start().await;
    let reporter = EnrolledDevice::enrol(&cloud, "cam-01").await.run_reporting(&[]).await;
    // Half a thousand go at once, and after that so many in a second.
    let newest = 1000;
    cloud.kill();
    for first in (1..=newest).step_by(500) {
        let items: Vec<Value> = (first..first + 500)
            .map(|number| json!({"id": format!("item-{number}"), "data": {"n": number}}))
            .collect();
        assert_eq!(reporter.report("/v1/telemetry", &json!(items)).await, "202");
    }
    cloud.start_again().await;
    until_logged(&cloud, newest).await;
    assert!(reporter.log().contains("429"), "control: it was told to wait");

    // Whoever reports by itself is told the same: the whole report is refused, and when to come again.
    let door = cloud.device().showing(&reporter.identity());
    let many = json!(vec![json!({"data": {"n": 0}}); 500]);
    let refused = loop {
        let answer = door.post("/device/v1/telemetry").json(&many).send().await;
        if answer.status != 200 {
            break answer;
        }
    };
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}: half a thousand come in ten seconds");
    assert_eq!(refused.problem().await, "429 TMX-4029");
}

#[tokio::test]
async fn the_device_gateway_takes_devices_alone_and_no_longer_than_their_certificates() {
    let cloud = Cloud::start().await;
    let device = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let door = cloud.device().showing(&device.identity());
    let seen = door.get("/device/v1/self").send().await.expect(200).await.json().await;
    assert_eq!((&seen["id"], &seen["tenant"]), (&json!("cam-01"), &json!("default")));
    let item = json!([{"id": "a", "data": {"n": 1}}, {"data": 7}]);
    let answer = door.post("/device/v1/telemetry").json(&item).send().await.expect(200).await.json().await;
    assert_eq!(answer["results"][0]["status"], "accepted");
    assert_eq!(answer["results"][1]["status"], "rejected");
    let proxy_token = cloud.token("cam-01", "operator").await;
    let refused = cloud.device().get("/device/v1/self").bearer(&proxy_token).send().await;
    assert_eq!(refused.problem().await, "401 TMX-4003", "a proxy token is no device token");
    cloud.administer(Method::DELETE, "/admin/api/devices/cam-01", Value::Null).await;
    door.get("/device/v1/self").send().await.expect(403).await;
}
