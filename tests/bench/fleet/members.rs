//! The devices of the fleet: daemons inside this process, as a program of the device's maker would embed them.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use http::Method;
use runtime::{Clock, Tasks};
use serde_json::json;
use tcpmux_client::{
    Daemon, DaemonConfig, EnrollRequest, EnrolmentString, Proxies, ServiceSpec, Services, StateDirectory,
    TrustedTime, build_time,
};
use tempfile::TempDir;
use tests::Cloud;
use tokio::{runtime::Handle, task::spawn_blocking, time::Instant};

use crate::report::{OURS, Report};

pub(super) struct Members {
    requests: Vec<EnrollRequest>,
    daemons: Vec<Daemon>,
    /// Where the one service of each device leads: it sends for ever.
    source: u16,
    _directory: TempDir,
}

/// The name of a member.
pub(super) fn name(index: usize) -> String {
    format!("fleet-{index}")
}

impl Members {
    /// Has a passcode made for each.
    pub(super) async fn plan(cloud: &Cloud, count: usize, source: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let requests = stream::iter(0..count).map(|index| {
            let state = StateDirectory::at(directory.path().join(name(index)));
            async move {
                let device = name(index);
                let body = json!({"device": device, "ttl": "1h"});
                let made = cloud.administer(Method::POST, "/admin/api/otp", body).await;
                let enrolment: EnrolmentString = made["enroll"].as_str().unwrap().parse().unwrap();
                EnrollRequest {
                    server: enrolment.server,
                    ca: enrolment.ca,
                    passcode: enrolment.passcode,
                    device: Some(device.parse().unwrap()),
                    suggestion: None,
                    state,
                    proxies: Proxies::none(),
                }
            }
        });
        let requests = requests.buffered(AT_ONCE).collect().await;
        Self { requests, daemons: vec![], source, _directory: directory }
    }

    /// Sixteen at a time, each on a thread of its own with two handshakes and a state directory that is on disk before
    /// it is done: what a real daemon does. Each fifth of the fleet is a sample.
    pub(super) async fn enrol(&self, mut report: Option<&mut Report>) {
        let part = self.requests.len().div_ceil(5).max(1);
        for requests in self.requests.chunks(part) {
            let start = Instant::now();
            let all = stream::iter(requests).map(|request| {
                let (request, threads) = (request.clone(), Handle::current());
                let enrolling = spawn_blocking(move || {
                    let start = Instant::now();
                    let time = TrustedTime::new(Clock::system(), build_time());
                    threads.block_on(tcpmux_client::enroll(&request, &time)).map(|_| start.elapsed())
                });
                async { enrolling.await.unwrap() }
            });
            let times: Vec<Duration> = all.buffer_unordered(AT_ONCE).try_collect().await.unwrap();
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            for time in times {
                histogram.record(u64::try_from(time.as_micros()).unwrap()).unwrap();
            }
            if let Some(report) = report.as_deref_mut() {
                let rate = requests.len() as f64 / start.elapsed().as_secs_f64();
                report.put("P10", &format!("{WHO}, enrolments"), "/s", OURS, rate);
                let p99 = histogram.value_at_quantile(0.99) as f64 / 1000.0;
                report.put("P10", &format!("{WHO}, an enrolment, p99"), "ms", OURS, p99);
            }
        }
    }

    /// Starts every daemon; they are not connected at once.
    pub(super) async fn connect(&mut self) {
        for request in &self.requests {
            let spec = ServiceSpec {
                name: "source".into(),
                to: format!("tcp://127.0.0.1:{}", self.source),
                viewer_websocket: false,
                certificate: None,
                host: None,
            };
            let services = Services::new(&[spec], false, None).unwrap();
            let config = DaemonConfig::new(request.state.clone(), services);
            self.daemons.push(Daemon::start(config, Clock::system(), Tasks::new()).await.unwrap());
        }
    }

    pub(super) async fn stop(self) {
        let all = self.daemons.into_iter().map(|daemon| async move { daemon.stop(Duration::ZERO).await });
        stream::iter(all).buffer_unordered(256).collect::<Vec<bool>>().await;
    }
}

pub(super) async fn until_connected(cloud: &Cloud, count: usize) {
    tests::eventually_within(PATIENCE, "the fleet is connected", || async {
        let seen = connected(cloud).await;
        if seen == Some(count) { Ok(()) } else { Err(format!("{seen:?} of {count}")) }
    })
    .await;
}

pub(super) async fn until_at_least(cloud: &Cloud, count: usize) -> Instant {
    tests::eventually_within(PATIENCE, "many are connected", || async {
        let seen = connected(cloud).await;
        if seen >= Some(count) { Ok(Instant::now()) } else { Err(format!("{seen:?}, not {count}")) }
    })
    .await
}

/// How many sessions the server says stand.
pub(super) async fn connected(cloud: &Cloud) -> Option<usize> {
    let text = cloud.admin().get("/metrics").send().await.text().await;
    let line = text.lines().find(|line| line.starts_with("tcpmux_sessions "))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// As the figures name them.
const WHO: &str = "whole daemons, 16 at once";
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(180);
