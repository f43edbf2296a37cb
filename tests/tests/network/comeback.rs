//! The cloud dies and is started again: a handful of devices is back within seconds.

use std::time::Duration;

use tests::{Cloud, Device, web};
use tokio::time::Instant;

use super::vitals::tell;

#[tokio::test]
async fn five_devices_are_back_soon_after_kill_9_of_the_cloud() {
    let web = web().await;
    let mut cloud = Cloud::start().await;
    let mut devices = vec![];
    for number in 1..=5 {
        let name = format!("cam-{number:02}");
        devices.push(Device::enrol_and_run(&cloud, &name, &[("web", web.url("http"))]).await);
    }
    let generations = generations(&cloud, &devices).await;
    cloud.kill();
    let began = Instant::now();
    cloud.start_again().await;
    let started = began.elapsed();
    let back = devices.iter().map(|device| async {
        cloud.until_online(device.id(), true, Duration::from_secs(30)).await;
        began.elapsed()
    });
    let mut times = futures_util::future::join_all(back).await;
    times.sort();
    tell(format!("doors open after {started:?}, devices back after {times:?}, median {:?}", times[2]));
    assert!(times[2] < Duration::from_secs(30), "the median of {times:?}");
    for device in &devices {
        let token = cloud.token(device.id(), "operator").await;
        let path = format!("/d/{}/web/method", device.id());
        cloud.user().get(&path).bearer(&token).send().await.expect(200).await;
    }
    // Fencing numbers go on where they were, although the process that gave them is gone.
    let again = self::generations(&cloud, &devices).await;
    for (before, after) in generations.iter().zip(&again) {
        assert!(after > before, "{generations:?} then {again:?}");
    }
}

async fn generations(cloud: &Cloud, devices: &[Device]) -> Vec<u64> {
    let mut found = vec![];
    for device in devices {
        found.push(cloud.device_record(device.id()).await["generation"].as_u64().unwrap());
    }
    found
}
