//! How long a revoked device can still be read from: a download at full speed through it, until its last byte.

use std::time::Duration;

use futures_util::StreamExt;
use hdrhistogram::Histogram;
use serde_json::json;
use tests::{Cloud, WebSocket};
use tokio::time::{Instant, timeout};

use super::members;
use crate::{
    choice::Choice,
    report::{OURS, Report},
};

pub(super) async fn measure(choice: &Choice, cloud: &Cloud, report: &mut Report) {
    let count = choice.revocations.min(choice.devices);
    println!("fleet: {count} revocations under a download each, {} devices connected", choice.devices);
    let (mut ends, mut answers) = (Histogram::<u64>::new(3).unwrap(), Histogram::<u64>::new(3).unwrap());
    for index in 0..count {
        let device = members::name(index);
        let record = cloud.device_record(&device).await;
        let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap();
        let path = format!("/admin/api/certificates/{fingerprint}/revoke");
        let mut download = open(cloud, &device).await;
        download.next().await.expect("the service sends at once").unwrap();
        let begin = Instant::now();
        let revoked = async {
            let call = cloud.admin().post(&path).admin(cloud.key()).json(&json!({"reason": "keyCompromise"}));
            let receipt = call.send().await.expect(200).await.json().await;
            assert_eq!(receipt["tunnels_closed"], 1, "{receipt}");
            begin.elapsed()
        };
        let (answered, last) = tokio::join!(revoked, last_byte(&mut download, begin));
        ends.record(u64::try_from(last.as_micros()).unwrap()).unwrap();
        answers.record(u64::try_from(answered.as_micros()).unwrap()).unwrap();
    }
    let seconds = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e6;
    report.round(0);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("the longest", 1.0)] {
        report.put("P11", &format!("to the last byte, {name}"), "s", OURS, seconds(&ends, quantile));
    }
    report.put("P11", "to the receipt, p99", "s", OURS, seconds(&answers, 0.99));
}

async fn open(cloud: &Cloud, device: &str) -> WebSocket {
    let (door, token) = (cloud.user(), cloud.token(device, "operator").await);
    door.raw_stream(device, "source", &token).await.unwrap()
}

/// From the beginning to the last message with bytes.
async fn last_byte(download: &mut WebSocket, begin: Instant) -> Duration {
    let mut last = Duration::ZERO;
    loop {
        let next = timeout(PATIENCE, download.next()).await;
        match next.unwrap_or_else(|_| panic!("the download neither sends nor ends for {PATIENCE:?}")) {
            Some(Ok(message)) if message.is_binary() => last = begin.elapsed(),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return last,
        }
        assert!(begin.elapsed() < PATIENCE, "a revoked device still sends after {PATIENCE:?}");
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
