//! The user door, token and all, beside nginx as a TLS reverse proxy: row P7.

use tempfile::TempDir;

use crate::{
    backend::{self, Backend},
    choice::Choice,
    load::{self, free_ports},
    peers::{self, DEVICE, Ours},
    report::{OURS, Report},
    tunnel::complain,
};

pub(crate) async fn measure(choice: &Choice, report: &mut Report) {
    if !choice.has("P7") {
        return;
    }
    let backend = Backend::start().await;
    let nginx = Nginx::start(&backend).await;
    let ours = Ours::start(backend.ports).await;
    let token = ours.cloud.token(DEVICE, "operator").await;
    let bearer = format!("Authorization: Bearer {token}");
    let door = format!("https://localhost:{}/d/{DEVICE}/web/", ours.cloud.user().address().port());
    let whole = backend.ports.whole;
    let doors = [
        (OURS, door, vec![bearer.as_str()]),
        ("nginx", format!("https://localhost:{}/", nginx.anew), vec![]),
        ("nginx, kept", format!("https://localhost:{}/", nginx.kept), vec![]),
        ("direct", format!("http://127.0.0.1:{whole}/"), vec![]),
    ];
    for round in 0..choice.rounds {
        println!("proxy: round {} of {}", round + 1, choice.rounds);
        report.round(round);
        let mut direct = None;
        let mut medians = vec![];
        for connections in [1, 16, 64] {
            for index in 0..doors.len() {
                let (subject, url, headers) = &doors[(index + round) % doors.len()];
                let run = match load::wrk(url, connections, choice.time(), headers) {
                    Ok(run) => run,
                    Err(trouble) => {
                        report.note(format!("P7 of {subject}: {trouble}"));
                        continue;
                    }
                };
                let what = format!("{connections} connections");
                report.put("P7", &format!("{what}, requests"), "/s", subject, run.rate);
                report.put("P7", &format!("{what}, p99"), "ms", subject, run.p99_ms);
                complain(report, &format!("P7 {what} of {subject}"), run.trouble);
                match (connections, *subject) {
                    (1, "direct") => direct = Some(run.p50_ms),
                    (1, _) => medians.push((*subject, run.p50_ms)),
                    _ => {}
                }
            }
        }
        for (subject, median) in medians {
            if let Some(direct) = direct {
                report.put("P7", "added to a direct request, p50", "us", subject, (median - direct) * 1000.0);
            }
        }
    }
}

/// An nginx of its own, with a worker for each core, so that it shares none with the backend's.
struct Nginx {
    /// Opens a connection to the backend for each request.
    anew: u16,
    /// Keeps them.
    kept: u16,
    _server: backend::Server,
    _directory: TempDir,
}

impl Nginx {
    async fn start(backend: &Backend) -> Self {
        let directory = TempDir::new().unwrap();
        peers::certificate(directory.path());
        let ([anew, kept], base, whole) = (free_ports(), directory.path().display(), backend.ports.whole);
        let tls = format!("ssl_certificate {base}/certificate.pem; ssl_certificate_key {base}/key.pem;");
        let servers = format!(
            "upstream kept {{ server 127.0.0.1:{whole}; keepalive 256; keepalive_requests 10000000; }}\n\
             server {{ listen 127.0.0.1:{anew} ssl backlog=4096; {tls}\n\
               location / {{ proxy_pass http://127.0.0.1:{whole}; }} }}\n\
             server {{ listen 127.0.0.1:{kept} ssl backlog=4096; {tls}\n\
               location / {{ proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n"
        );
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let server = backend::nginx(directory.path(), workers, &servers);
        for port in [anew, kept] {
            backend::answers(port).await;
        }
        Self { anew, kept, _server: server, _directory: directory }
    }
}
