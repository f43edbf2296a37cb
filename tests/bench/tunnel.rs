//! The tunnel and the proxy as users have them: one cloud, one device, real processes, loopback (figures P1 to P10).

use std::{path::Path, time::Duration};

use tests::{Cloud, Device};

use crate::{backend::Backend, fleet, load, report::Report};

/// Measures `rounds` times, then connects the fleet.
pub(crate) async fn measure(time: Duration, rounds: usize, devices: usize, report: &mut Report) {
    let backend = Backend::start().await;
    let ports = load::free_ports::<5>();
    let config: String = ["web", "split", "echo", "source", "sink"]
        .iter()
        .zip(ports)
        .map(|(service, port)| {
            format!(
                "[[publish]]\nlisten = \"127.0.0.1:{port}\"\ndevice = \"bench\"\nservice = \"{service}\"\n"
            )
        })
        .collect();
    let mut cloud = Cloud::plan().config(&config).log_level("warn").start().await;
    let services = [
        ("web", format!("http://127.0.0.1:{}", backend.whole)),
        ("split", format!("http://127.0.0.1:{}", backend.split)),
        ("echo", format!("tcp://{}", backend.echo)),
        ("source", format!("tcp://{}", backend.source)),
        ("sink", format!("tcp://{}", backend.sink)),
    ];
    let mut device = Device::enrol_and_run(&cloud, "bench", &services).await;
    let [web, split, echo, source, sink] = ports;
    let pids = [cloud.process().id(), device.process().id()];
    report.put("daemon RSS, MiB", device.process().resident_kib() as f64 / 1024.0);

    for round in 0..rounds {
        println!("tunnel: round {} of {rounds}", round + 1);
        for (name, port) in [("one segment", web), ("two segments", split)] {
            for connections in [1, 16, 64, 256] {
                let run = load::wrk(&format!("http://127.0.0.1:{port}/"), connections, time, &[]).await;
                report.put(&format!("P1 {name}, {connections} connections, req/s"), run.rate);
                report.put(&format!("P1 {name}, {connections} connections, p99 ms"), run.p99_ms);
            }
        }
        let close = ["Connection: close"];
        let run = load::wrk(&format!("http://127.0.0.1:{web}/"), 16, time, &close).await;
        report.put("P2 a connection each, 16, req/s", run.rate);
        let (p50, p99) = load::echo(echo, 5000).await;
        report.put("P3 echo p50, us", p50);
        report.put("P3 echo p99, us", p99);
        for streams in [1, 8] {
            let before = load::cpu_seconds(&pids);
            let down = load::download(source, streams, time).await;
            let used = load::cpu_seconds(&pids) - before;
            report.put(&format!("P4 down, {streams} streams, MiB/s"), down);
            report.put(
                &format!("P5 down, {streams} streams, CPU s/GiB"),
                used / (down * time.as_secs_f64() / 1024.0),
            );
            report.put(&format!("P4 up, {streams} streams, MiB/s"), load::upload(sink, streams, time).await);
        }
        let (_, idle) = load::echo(echo, 2000).await;
        let (_, loaded) = load::echo_beside_bulk(echo, source).await;
        report.put("P6 echo p99 idle, us", idle);
        report.put("P6 echo p99 beside a bulk stream, us", loaded);

        let token = cloud.token("bench", "operator").await;
        let bearer = format!("Authorization: Bearer {token}");
        let door = cloud.user().address();
        for connections in [1, 16, 64] {
            let url = format!("https://localhost:{}/d/bench/web/", door.port());
            let ours = load::wrk(&url, connections, time, &[&bearer]).await;
            let peer =
                load::wrk(&format!("https://localhost:{}/", backend.tls_proxy), connections, time, &[]).await;
            report.put(&format!("P7 user door, {connections} connections, req/s"), ours.rate);
            report.put(&format!("P7 user door, {connections} connections, p99 ms"), ours.p99_ms);
            report.put(&format!("P7 nginx beside it, {connections} connections, req/s"), peer.rate);
            report.put(&format!("P7 ratio, {connections} connections"), ours.rate / peer.rate);
        }
    }
    drop(device);
    fleet::measure(&mut cloud, devices, report).await;
    if let Some(size) = daemon_size() {
        println!("daemon binary, stripped: {:.2} MiB (profile `daemon`)", size as f64 / (1024.0 * 1024.0));
    }
}

fn daemon_size() -> Option<u64> {
    let file = Path::new(tests::workspace()).join("target/daemon/tcpmux-client");
    std::fs::metadata(file).ok().map(|metadata| metadata.len())
}
