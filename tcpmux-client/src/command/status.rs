//! `tcpmux-client status`: asks the daemon, or reads the state directory where none answers.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use runtime::Clock;
use tcpmux_client::{CertificateStatus, DaemonConfig, ServiceStatus, SpoolStatus, Status};
use tokio::net::TcpStream;

use crate::outcome::{FAILED, Failure, OFFLINE, say};

pub(crate) async fn status(config: DaemonConfig, output: &str) -> Result<u8, Failure> {
    let asked = match config.local_api {
        Some(address) => tokio::time::timeout(ASK_LIMIT, ask(address)).await.ok().flatten(),
        None => None,
    };
    let (status, running) = match asked {
        Some(status) => (status, true),
        None => (from_state(&config)?, false),
    };
    if output == "json" {
        let text = serde_json::to_string_pretty(&status).map_err(|error| Failure::new(FAILED, error))?;
        say(text);
    } else {
        print(&status, running);
    }
    Ok(if status.connected { 0 } else { OFFLINE })
}

/// Asks the daemon; nothing where there is none.
pub(super) async fn ask(address: SocketAddr) -> Option<Status> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/v1/status").header(header::HOST, address.to_string());
    let exchange = async {
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        let body = Limited::new(answer.into_body(), LARGEST_STATUS).collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        status = &mut exchange => status,
        _ = connection => exchange.await,
    }
}

fn from_state(config: &DaemonConfig) -> Result<Status, Failure> {
    let identity = config.identity()?;
    let services = config
        .services
        .iter()
        .map(|service| ServiceStatus { name: service.name.clone(), scheme: service.target.scheme().into() });
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        device: identity.device.clone(),
        server: identity.server.to_string(),
        connected: false,
        session: None,
        last_error: None,
        certificate: CertificateStatus::of(&identity.certificate, config.provided.is_none()),
        clock_plausible: config.trusted_time(Clock::system()).clock_is_plausible(),
        claimable: matches!(config.claim.read(), Ok(Some(_))),
        spool: None,
        services: services.collect(),
    })
}

fn print(status: &Status, running: bool) {
    let device = status.device.as_ref().map_or("(no name)", |device| device.as_str());
    match &status.session {
        Some(session) => {
            say(format_args!("{device}  online since {}  {}", session.since, status.server));
            let trip = session.round_trip_ms.map_or("unknown".into(), |trip| format!("{trip:.0} ms"));
            say(format_args!(
                "session  {}  generation {}  round trip {trip}  last heard {}  {} streams",
                session.id, session.generation, session.last_heard, session.streams
            ));
        }
        None if running => say(format_args!("{device}  not connected  {}", status.server)),
        None => say(format_args!("{device}  no daemon answers (tcpmux-client run)  {}", status.server)),
    }
    if let Some(error) = &status.last_error {
        say(format_args!("last     {error}"));
    }
    let renewal = status.certificate.next_renewal.as_ref();
    let renewal = renewal.map_or(String::new(), |next| format!("  next renewal {next}"));
    say(format_args!(
        "cert     {}  valid to {}{renewal}",
        status.certificate.serial, status.certificate.not_after
    ));
    if !status.clock_plausible {
        say("clock    the system clock is behind what the cloud proved; let NTP set it");
    }
    if status.claimable {
        say("claim    nobody owns this device; `tcpmux-client claim` prints its code");
    }
    if let Some(spool) = &status.spool {
        print_spool(spool);
    }
    for service in &status.services {
        say(format_args!("service  {}  {}", service.name, service.scheme));
    }
}

fn print_spool(spool: &SpoolStatus) {
    let oldest = spool.oldest.as_ref().map_or(String::new(), |oldest| format!(" since {oldest}"));
    say(format_args!("reports  {} wait{oldest}  {} sent", spool.waiting, spool.uploaded));
    if spool.refused + spool.dropped > 0 {
        let SpoolStatus { refused, dropped, .. } = spool;
        say(format_args!(
            "         {refused} refused for want of room, {dropped} that the cloud will never take"
        ));
    }
    if let Some(error) = &spool.last_error {
        say(format_args!("         {error}"));
    }
}

const ASK_LIMIT: Duration = Duration::from_secs(3);
const LARGEST_STATUS: usize = 256 * 1024;
