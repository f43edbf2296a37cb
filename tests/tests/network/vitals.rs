//! The vital signs of a process: memory, descriptors, its own counters.

use std::time::Duration;

use tests::{Cloud, eventually_within};

/// The sum of a metric over all its labels, or one of them when its labels are in the name.
pub(super) async fn metric(cloud: &Cloud, name: &str) -> f64 {
    let page = cloud.admin().get("/metrics").send().await.expect(200).await.text().await;
    let values = page.lines().filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        (key == name || key.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
    });
    values.sum()
}

/// Waits until this many streams are open, and as many requests live. The count of streams is taken every second:
/// to know that one is not old, let it be another first.
pub(super) async fn until_streams(cloud: &Cloud, count: f64) {
    for gauge in ["tcpmux_proxy_requests_live", "tcpmux_streams"] {
        eventually_within(Duration::from_secs(20), gauge, || async {
            let live = metric(cloud, gauge).await;
            if live == count { Ok(()) } else { Err(live) }
        })
        .await;
    }
}

/// Waits until these processes have next to nothing to do.
pub(super) async fn until_idle(processes: [u32; 2]) {
    eventually_within(Duration::from_secs(30), "next to nothing to do", || async move {
        let before = ticks(processes);
        // Shorter, and a process that waits for a busy machine would look like one that has nothing to do.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let spent = ticks(processes) - before;
        if spent <= 5 { Ok(()) } else { Err(format!("{spent} hundredths of a second of work")) }
    })
    .await;
}

/// How long these processes have worked, in hundredths of a second.
fn ticks(processes: [u32; 2]) -> u64 {
    let of = |process: u32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a live process has it");
        // The name may have spaces; it ends with the last parenthesis.
        let fields: Vec<u64> =
            text.rsplit(')').next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        // After the state, which is no number: user and system time are the eleventh and twelfth.
        fields[10] + fields[11]
    };
    processes.map(of).iter().sum()
}

/// How many descriptors a process has open.
pub(super) fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("a live process has it").count()
}

/// Waits until a process has no more descriptors than it had, but for a few that come and go.
pub(super) async fn until_descriptors(process: u32, before: usize) {
    eventually_within(Duration::from_secs(20), "descriptors as before", || async move {
        let now = descriptors(process);
        if now <= before + COME_AND_GO {
            Ok(())
        } else {
            Err(format!("process {process}: {before} before, {now} now"))
        }
    })
    .await;
}

/// Tells a figure, for whoever reads what a passing test says.
#[expect(clippy::print_stdout, reason = "figures are read by people")]
pub(crate) fn tell(figure: String) {
    println!("{figure}");
}

/// A number that whoever runs a proof may set.
pub(crate) fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a whole number"))
}

/// Lets this process open many sockets, where its hard limit allows it.
pub(super) async fn allow_many_descriptors() {
    let own = std::process::id().to_string();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let hard = line.split_whitespace().nth(4).unwrap();
    tests::run_ok("prlimit", ["--pid", &own, &format!("--nofile={hard}:{hard}")], b"").await;
}

/// A call to the admin door for the metrics, a query of the database, a timer.
const COME_AND_GO: usize = 5;
