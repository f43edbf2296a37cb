//! The devices of the fleet: real daemons, thousands to a process, as a program of the device's maker would embed one.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use hdrhistogram::Histogram;
use http::Method;
use runtime::Clock;
use serde_json::json;
use tcpmux_client::{EnrollRequest, EnrolmentString, StateDirectory, TrustedTime, WayOut, build_time};
use tempfile::TempDir;
use tests::{Cloud, Process};
use tokio::{runtime::Handle, task::spawn_blocking, time::Instant};

use super::crew;
use crate::report::{OURS, Report};

pub(super) struct Members {
    requests: Vec<EnrollRequest>,
    processes: Vec<Process>,
    /// Where the one service of each device leads: it sends for ever.
    source: u16,
    directory: TempDir,
}

/// The name of a member.
pub(super) fn name(index: usize) -> String {
    format!("fleet-{index}")
}

/// Where a member keeps its key and certificate.
pub(super) fn state(directory: &Path, index: usize) -> StateDirectory {
    StateDirectory::at(directory.join(name(index)))
}

/// How a member reaches the cloud: from one of a few addresses, since a cloud bounds what comes from one.
pub(super) fn way_out(index: usize) -> WayOut {
    let last = 2 + u8::try_from(index % ADDRESSES).unwrap();
    WayOut { from: Some(Ipv4Addr::new(127, 0, 0, last).into()), ..WayOut::default() }
}

impl Members {
    /// Has a passcode made for each.
    pub(super) async fn plan(cloud: &Cloud, count: usize, source: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let requests = stream::iter(0..count).map(|index| {
            let state = state(directory.path(), index);
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
                    way_out: way_out(index),
                }
            }
        });
        let requests = requests.buffered(AT_ONCE).collect().await;
        Self { requests, processes: vec![], source, directory }
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
        let firsts = (0..self.requests.len()).step_by(AT_MOST);
        self.processes = firsts
            .map(|first| {
                let count = AT_MOST.min(self.requests.len() - first);
                crew::start(self.directory.path(), first, count, self.source)
            })
            .collect();
        for process in &self.processes {
            crew::until_started(process).await;
        }
    }

    /// How many say of themselves that they are connected.
    pub(super) async fn connected(&self) -> usize {
        let counts = self.processes.iter().map(crew::connected);
        join_all(counts).await.into_iter().sum()
    }

    pub(super) async fn stop(mut self) {
        for process in &self.processes {
            process.signal("TERM");
        }
        for process in &mut self.processes {
            assert_eq!(process.exit_code(PATIENCE).await, 0, "{}", process.log());
        }
    }
}

pub(super) async fn until_connected(cloud: &Cloud, count: usize) {
    tests::eventually_within(PATIENCE, "the fleet is connected", || async {
        let seen = connected(cloud).await;
        if seen == count { Ok(()) } else { Err(format!("{seen} of {count}")) }
    })
    .await;
}

pub(super) async fn until_at_least(cloud: &Cloud, count: usize) -> Instant {
    tests::eventually_within(PATIENCE, "many are connected", || async {
        let seen = connected(cloud).await;
        if seen >= count { Ok(Instant::now()) } else { Err(format!("{seen}, not {count}")) }
    })
    .await
}

/// How many devices stand in the cloud's registry.
pub(super) async fn connected(cloud: &Cloud) -> usize {
    metric(cloud, "tcpmux_registry_sessions").await.expect("the registry counts its sessions") as usize
}

/// One of the cloud's own figures, by its name and labels.
pub(super) async fn metric(cloud: &Cloud, name: &str) -> Option<f64> {
    let text = cloud.admin().get("/metrics").send().await.text().await;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// As the figures name them.
const WHO: &str = "whole daemons, 16 at once";
const AT_ONCE: usize = 16;
/// Loopback addresses that members come from, 127.0.0.2 and those after it.
const ADDRESSES: usize = 16;
/// Members of a process: each has two descriptors, its socket and the lock on its state.
const AT_MOST: usize = 2500;
const PATIENCE: Duration = Duration::from_secs(180);
