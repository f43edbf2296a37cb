//! TCP through the tunnel as programs have it, beside the peers: rows P1 to P6, the way back after kill -9, memory.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    backend::Backend,
    choice::Choice,
    load::{self, Way, quantile},
    peers::{self, Ours, Subject},
    report::Report,
};

pub(crate) async fn measure(choice: &Choice, report: &mut Report) {
    if !choice.has_any(&["P1", "P2", "P3", "P4", "P5", "P6", "P8", "back"]) {
        return;
    }
    let backend = Backend::start().await;
    let mut subjects = peers::start(&choice.peers, backend.ports, report).await;
    subjects.insert(0, Subject::ours(Ours::start(backend.ports).await));
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name).collect();
    println!("tunnel: {}", names.join(", "));
    if choice.has("P8") {
        memory(&mut subjects, "daemon, resident, before any load", report);
    }
    for round in 0..choice.rounds {
        println!("tunnel: round {} of {}", round + 1, choice.rounds);
        report.round(round);
        for measure in MEASURES.iter().filter(|measure| choice.has_any(measure.rows)) {
            // Everybody goes first once, so that nobody always follows the same one.
            for index in 0..subjects.len() {
                let at = (index + round) % subjects.len();
                let subject = &mut subjects[at];
                if let Err(trouble) = (measure.take)(subject, &backend, choice.time(), report) {
                    report.note(format!("{} of {}: {trouble}", measure.rows.join(", "), subject.name));
                }
            }
        }
        if choice.has("P8") {
            sleep(QUIET).await;
            memory(&mut subjects, "daemon, resident, 3 s after load", report);
        }
        if choice.has("back") {
            for subject in subjects.iter_mut().filter(|subject| subject.is_tunnel()) {
                match subject.killed_and_back().await {
                    Ok(time) => report.put(
                        "back",
                        "after kill -9 of the server",
                        "s",
                        subject.name,
                        time.as_secs_f64(),
                    ),
                    Err(trouble) => report.note(format!("back of {}: {trouble}", subject.name)),
                }
            }
        }
    }
}

/// What is taken of everybody before the next thing is.
struct Measure {
    rows: &'static [&'static str],
    take: fn(&mut Subject, &Backend, Duration, &mut Report) -> Result<(), String>,
}

const MEASURES: &[Measure] = &[
    Measure { rows: &["P1"], take: requests },
    Measure { rows: &["P2"], take: connections },
    Measure { rows: &["P3"], take: echo },
    Measure { rows: &["P4", "P5"], take: bulk },
    Measure { rows: &["P6"], take: beside },
];

fn requests(subject: &mut Subject, _: &Backend, time: Duration, report: &mut Report) -> Result<(), String> {
    for (kind, port) in [("one segment", subject.ports.whole), ("two segments", subject.ports.split)] {
        for connections in [1, 16, 64, 256] {
            let run = load::wrk(&format!("http://127.0.0.1:{port}/"), connections, time, &[])?;
            let what = format!("{kind}, {connections} connections");
            report.put("P1", &format!("{what}, requests"), "/s", subject.name, run.rate);
            report.put("P1", &format!("{what}, p99"), "ms", subject.name, run.p99_ms);
            complain(report, &format!("P1 {what} of {}", subject.name), run.trouble);
        }
    }
    Ok(())
}

fn connections(
    subject: &mut Subject,
    _: &Backend,
    time: Duration,
    report: &mut Report,
) -> Result<(), String> {
    let url = format!("http://127.0.0.1:{}/", subject.ports.whole);
    let run = load::wrk(&url, 16, time, &["Connection: close"])?;
    report.put("P2", "16 at once, requests", "/s", subject.name, run.rate);
    report.put("P2", "16 at once, p99", "ms", subject.name, run.p99_ms);
    complain(report, &format!("P2 of {}", subject.name), run.trouble);
    Ok(())
}

fn echo(subject: &mut Subject, _: &Backend, time: Duration, report: &mut Report) -> Result<(), String> {
    let times = load::echo(subject.ports.echo, time).map_err(|error| error.to_string())?;
    report.put("P3", "echo, p50", "us", subject.name, quantile(&times, 0.5, MICROSECOND));
    report.put("P3", "echo, p99", "us", subject.name, quantile(&times, 0.99, MICROSECOND));
    Ok(())
}

fn bulk(subject: &mut Subject, backend: &Backend, time: Duration, report: &mut Report) -> Result<(), String> {
    let through = subject.group();
    for (what, streams) in [("1 stream", 1), ("8 streams", 8)] {
        for (name, way, port) in
            [("down", Way::Down, subject.ports.source), ("up", Way::Up, subject.ports.sink)]
        {
            let passed = load::bulk(port, way, streams, time, backend, &through);
            let passed = passed.map_err(|error| format!("{name}, {what}: {error}"))?;
            let what = format!("{name}, {what}");
            report.put("P4", &what, "MiB/s", subject.name, passed.mib_per_second);
            if subject.name != "direct" {
                report.put("P5", &what, "CPU s/GiB", subject.name, passed.cpu_per_gib);
            }
        }
    }
    Ok(())
}

fn beside(subject: &mut Subject, _: &Backend, time: Duration, report: &mut Report) -> Result<(), String> {
    let idle = load::paced(subject.ports.whole, time).map_err(|error| error.to_string())?;
    report.put("P6", "idle, p99", "ms", subject.name, quantile(&idle, 0.99, MILLISECOND));
    let (times, rate) = load::paced_beside_download(subject.ports.whole, subject.ports.source, time)
        .map_err(|error| error.to_string())?;
    report.put("P6", "beside a download, p99", "ms", subject.name, quantile(&times, 0.99, MILLISECOND));
    report.put("P6", "the download meanwhile", "MiB/s", subject.name, rate);
    Ok(())
}

fn memory(subjects: &mut [Subject], what: &str, report: &mut Report) {
    for subject in subjects {
        if let Some(mib) = subject.client_mib() {
            report.put("P8", what, "MiB", subject.name, mib);
        }
    }
}

pub(crate) fn complain(report: &mut Report, what: &str, trouble: Option<String>) {
    if let Some(trouble) = trouble {
        report.note(format!("{what}: {trouble}"));
    }
}

const MICROSECOND: Duration = Duration::from_micros(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// What an idle daemon holds is asked for: everybody gets the time to give back what load alone needed.
const QUIET: Duration = Duration::from_secs(3);
