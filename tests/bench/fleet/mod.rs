//! Many devices on one cloud, each a real daemon with its own certificate and tunnel: rows P8 to P12.

mod crew;
mod enrolling;
mod flat;
mod members;
mod revoking;
mod starting;

use std::{path::Path, time::Duration};

use tests::{Cloud, Device};
use tokio::time::Instant;

use crate::{
    backend::Backend,
    choice::Choice,
    report::{OURS, Report},
};
pub(crate) use crew::{Crew, run as crew};
use members::Members;

pub(crate) async fn measure(choice: &Choice, report: &mut Report) {
    report.round(0);
    if choice.has("P8") {
        binary(report);
    }
    if choice.has_any(&["P8", "P9", "P10", "P11", "P12"]) {
        fleet(choice, report).await;
    }
    if choice.has("P10") {
        enrolling::measure(report).await;
    }
    if choice.has("P12") {
        starting::measure(choice, report).await;
    }
}

async fn fleet(choice: &Choice, report: &mut Report) {
    let count = choice.devices;
    println!("fleet: {count} devices enrol");
    report.facts.insert("fleet".into(), format!("{count} devices, {} revocations", choice.revocations));
    let backend = Backend::start().await;
    let mut cloud = Cloud::plan().log_level("warn").start().await;
    let mut members = Members::plan(&cloud, count, backend.ports.source).await;
    members.enrol(choice.has("P10").then_some(&mut *report)).await;
    if !choice.has_any(&["P8", "P9", "P11", "P12"]) {
        return;
    }
    // What enrolments needed and gave back would hide what sessions take.
    cloud.kill();
    cloud.start_again().await;
    let before = cloud.process().resident_kib();
    members.connect().await;
    members::until_connected(&cloud, count).await;
    if choice.has("P8") {
        println!("fleet: {count} idle devices");
        // What the handshakes needed is given back by then.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = cloud.process().resident_kib();
        let each = (after as f64 - before as f64) / count as f64;
        report.put("P8", "server, for each idle device", "KiB", OURS, each);
    }
    if choice.has("P9") {
        storm(&mut cloud, &members, count, report).await;
    }
    if choice.has_any(&["P11", "P12"]) {
        let web = format!("http://127.0.0.1:{}", backend.ports.whole);
        let device = Device::enrol_and_run(&cloud, flat::DEVICE, &[("web", web.clone())]).await;
        if choice.has("P12") {
            flat::measure(choice, &mut cloud, &backend, report).await;
        }
        drop(device);
    }
    if choice.has("P11") {
        revoking::measure(choice, &cloud, report).await;
    }
    members.stop().await;
}

/// The node dies and is started again: every device comes back by itself, none twice.
async fn storm(cloud: &mut Cloud, members: &Members, count: usize, report: &mut Report) {
    println!("fleet: kill -9 with {count} devices connected");
    cloud.kill();
    let killed = Instant::now();
    cloud.start_again().await;
    report.put("P9", "doors open after kill -9", "s", OURS, killed.elapsed().as_secs_f64());
    let half = members::until_at_least(cloud, count.div_ceil(2)).await;
    report.put(
        "P9",
        "half of the devices back after kill -9",
        "s",
        OURS,
        half.duration_since(killed).as_secs_f64(),
    );
    members::until_connected(cloud, count).await;
    report.put("P9", "all devices back after kill -9", "s", OURS, killed.elapsed().as_secs_f64());
    let peak = cloud.process().peak_resident_kib() as f64 / 1024.0;
    report.put("P9", "server, resident at its most", "MiB", OURS, peak);
    for (what, name) in [("at one time, the most", "unfinished_most"), ("refused", "refused_total")] {
        let name = format!("tcpmux_handshakes_{name}{{door=\"device\"}}");
        let handshakes = members::metric(cloud, &name).await.expect("the server counts handshakes");
        report.put("P9", &format!("unfinished handshakes {what}"), "", OURS, handshakes);
    }
    // The count becomes and stays exact, in the registry, in the tunnel server and by the fleet's own word: nobody comes
    // twice, nobody leaves again.
    tests::eventually_within(Duration::from_secs(10), "the tunnel server counts all", || async {
        let sessions = members::metric(cloud, "tcpmux_sessions").await;
        if sessions == Some(count as f64) { Ok(()) } else { Err(format!("{sessions:?} of {count}")) }
    })
    .await;
    for _ in 0..5 {
        assert_eq!(members::connected(cloud).await, count, "devices in the registry");
        assert_eq!(members::metric(cloud, "tcpmux_sessions").await, Some(count as f64), "live sessions");
        assert_eq!(members.connected().await, count, "devices that say they are connected");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn binary(report: &mut Report) {
    let file = Path::new(tests::workspace()).join("target/daemon/tcpmux-client");
    match std::fs::metadata(file) {
        Ok(metadata) => {
            report.put("P8", "daemon, binary", "MiB", OURS, metadata.len() as f64 / (1024.0 * 1024.0));
        }
        Err(_) => report.skip(
            "daemon, binary",
            "not built: cargo build --locked --profile daemon -p tcpmux-client, then again",
        ),
    }
}
