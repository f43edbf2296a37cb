//! Whether a request costs the same with many devices connected as with ten: two clouds, round by round.

use tests::{Cloud, Device};
use tokio::time::{Instant, sleep};

use super::members::{self, Members};
use crate::{
    backend::Backend,
    choice::Choice,
    load,
    processes::Group,
    report::{OURS, Report},
};

/// The device that is called; it is connected to `cloud` already.
pub(super) const DEVICE: &str = "bench";

pub(super) async fn measure(choice: &Choice, cloud: &mut Cloud, backend: &Backend, report: &mut Report) {
    println!("fleet: cost of a request beside ten devices and beside all");
    let mut small = Cloud::plan().log_level("warn").start().await;
    let mut few = Members::plan(&small, 9, backend.ports.source).await;
    few.enrol(None).await;
    few.connect().await;
    let web = format!("http://127.0.0.1:{}", backend.ports.whole);
    let device = Device::enrol_and_run(&small, DEVICE, &[("web", web)]).await;
    members::until_connected(&small, 10).await;
    for round in 0..choice.rounds {
        report.round(round);
        take(choice, &mut small, "10 devices", report).await;
        take(choice, cloud, "the whole fleet", report).await;
    }
    drop(device);
    few.stop().await;
}

async fn take(choice: &Choice, cloud: &mut Cloud, beside: &str, report: &mut Report) {
    let token = cloud.token(DEVICE, "operator").await;
    let bearer = format!("Authorization: Bearer {token}");
    let url = format!("https://localhost:{}/d/{DEVICE}/web/", cloud.user().address().port());
    let server = Group(vec![cloud.process().id()]);
    // What the devices cost without any request: their heartbeats. It is no part of what a request costs.
    let (begin, before) = (Instant::now(), server.cpu_seconds());
    sleep(choice.time()).await;
    let idle = (server.cpu_seconds() - before) / begin.elapsed().as_secs_f64();
    report.put("P12", &format!("CPU without requests, {beside}"), "ms/s", OURS, idle * 1e3);
    let (begin, before) = (Instant::now(), server.cpu_seconds());
    match load::wrk(&url, 16, choice.time(), &[&bearer]) {
        Ok(run) if run.requests > 0.0 => {
            let busy = server.cpu_seconds() - before;
            let own = busy - idle * begin.elapsed().as_secs_f64();
            report.put(
                "P12",
                &format!("CPU for each request, {beside}"),
                "us",
                OURS,
                own * 1e6 / run.requests,
            );
            let all = busy * 1e6 / run.requests;
            report.put("P12", &format!("CPU for each request with what goes on, {beside}"), "us", OURS, all);
        }
        Ok(_) => report.note(format!("P12, {beside}: not one request was answered")),
        Err(trouble) => report.note(format!("P12, {beside}: {trouble}")),
    }
    // Each request opens a stream to the device; one at a time, its median is the latency of that.
    match load::wrk(&url, 1, choice.time(), &[&bearer]) {
        Ok(run) => report.put("P12", &format!("open, p50, {beside}"), "us", OURS, run.p50_ms * 1000.0),
        Err(trouble) => report.note(format!("P12, {beside}: {trouble}")),
    }
}
