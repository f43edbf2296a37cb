//! Many devices: enrolments a second by real EST, what an idle device costs the server, and how they come back.

use std::{sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use http::Method;
use runtime::{Clock, Tasks};
use serde_json::json;
use tcpmux_client::{
    Daemon, DaemonConfig, EnrollRequest, EnrolmentString, Proxies, Services, StateDirectory, TrustedTime,
    build_time,
};
use tempfile::TempDir;
use tests::Cloud;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::report::Report;

/// The fleet with a cloud of its own.
pub(crate) async fn alone(count: usize, report: &mut Report) {
    let mut cloud = Cloud::plan().log_level("warn").start().await;
    measure(&mut cloud, count, report).await;
}

pub(crate) async fn measure(cloud: &mut Cloud, count: usize, report: &mut Report) {
    println!("fleet: {count} enrolments, then {count} idle devices");
    let directory = TempDir::new().unwrap();
    let requests = requests(cloud, &directory, count).await;
    enrol(&requests, report).await;
    let before = cloud.process().resident_kib();
    let daemons = connect(&requests).await;
    until_connected(cloud, count).await;
    // What the handshakes needed is given back by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = cloud.process().resident_kib();
    report.put("P8 server RSS, idle, KiB per device", (after as f64 - before as f64) / count as f64);
    storm(cloud, count, report).await;
    for daemon in daemons {
        daemon.stop(Duration::ZERO).await;
    }
}

/// The node dies and is started again: every device comes back by itself, none twice.
async fn storm(cloud: &mut Cloud, count: usize, report: &mut Report) {
    println!("storm: kill -9 with {count} devices connected");
    cloud.kill();
    let killed = Instant::now();
    cloud.start_again().await;
    report.put("P9 doors open after kill -9, s", killed.elapsed().as_secs_f64());
    let half = until_at_least(cloud, count.div_ceil(2)).await;
    report.put("P9 half of the devices back, s", half.duration_since(killed).as_secs_f64());
    until_connected(cloud, count).await;
    report.put("P9 all devices back, s", killed.elapsed().as_secs_f64());
    report.put("P9 server RSS at its most, MiB", cloud.process().peak_resident_kib() as f64 / 1024.0);
    // The count stays exact: nobody comes twice, nobody leaves again.
    for _ in 0..50 {
        assert_eq!(connected(cloud).await, Some(count));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn requests(cloud: &Cloud, directory: &TempDir, count: usize) -> Vec<Arc<EnrollRequest>> {
    let mut requests = Vec::with_capacity(count);
    for index in 0..count {
        let device = format!("fleet-{index}");
        let body = json!({"device": device, "ttl": "1h"});
        let made = cloud.administer(Method::POST, "/admin/api/otp", body).await;
        let enrolment: EnrolmentString = made["enroll"].as_str().unwrap().parse().unwrap();
        requests.push(Arc::new(EnrollRequest {
            server: enrolment.server,
            ca: enrolment.ca,
            passcode: enrolment.passcode,
            device: Some(device.parse().unwrap()),
            suggestion: None,
            state: StateDirectory::at(directory.path().join(&device)),
            proxies: Proxies::none(),
        }));
    }
    requests
}

/// Sixteen at a time, each with two handshakes of its own: what a real daemon does.
async fn enrol(requests: &[Arc<EnrollRequest>], report: &mut Report) {
    let (at_once, start) = (Arc::new(Semaphore::new(16)), Instant::now());
    let mut all = JoinSet::new();
    for request in requests {
        let (request, at_once) = (Arc::clone(request), Arc::clone(&at_once));
        all.spawn(async move {
            let _permit = at_once.acquire_owned().await.unwrap();
            let start = Instant::now();
            let time = TrustedTime::new(Clock::system(), build_time());
            tcpmux_client::enroll(&request, &time).await.unwrap();
            start.elapsed()
        });
    }
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for took in all.join_all().await {
        histogram.record(u64::try_from(took.as_micros()).unwrap()).unwrap();
    }
    report.put("P10 enrolments by daemons, /s", requests.len() as f64 / start.elapsed().as_secs_f64());
    report.put("P10 an enrolment, p99, ms", histogram.value_at_quantile(0.99) as f64 / 1000.0);
}

async fn connect(requests: &[Arc<EnrollRequest>]) -> Vec<Daemon> {
    let mut daemons = Vec::with_capacity(requests.len());
    for request in requests {
        let services = Services::new(&[], false, None).unwrap();
        let config = DaemonConfig::new(request.state.clone(), services);
        daemons.push(Daemon::start(config, Clock::system(), Tasks::new()).await.unwrap());
    }
    daemons
}

async fn until_connected(cloud: &Cloud, count: usize) {
    tests::eventually_within(Duration::from_secs(180), "the fleet is connected", || async {
        let seen = connected(cloud).await;
        if seen == Some(count) { Ok(()) } else { Err(format!("{seen:?} of {count}")) }
    })
    .await;
}

async fn until_at_least(cloud: &Cloud, count: usize) -> Instant {
    tests::eventually_within(Duration::from_secs(180), "many are connected", || async {
        let seen = connected(cloud).await;
        if seen >= Some(count) { Ok(Instant::now()) } else { Err(format!("{seen:?}, not {count}")) }
    })
    .await
}

/// How many sessions the server says stand.
async fn connected(cloud: &Cloud) -> Option<usize> {
    let text = cloud.admin().get("/metrics").send().await.text().await;
    let line = text.lines().find(|line| line.starts_with("tcpmux_sessions "))?;
    line.split(' ').nth(1)?.parse().ok()
}
