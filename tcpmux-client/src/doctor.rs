//! Looks for what stands between this device and its cloud, layer by layer.

use std::{fmt, sync::Arc, time::Duration};

use runtime::Clock;
use tokio_rustls::TlsConnector;

use crate::{DaemonConfig, Identity, TrustedTime, dial, local::LocalStream, trust};

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub verdict: Verdict,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Good; the text says how it is.
    Fine(String),
    /// Not good.
    Fault {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
        /// Whether the network is to blame, rather than this device.
        network: bool,
    },
    /// Not looked at, because of an earlier fault.
    Skipped(&'static str),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Fine(text) => write!(f, " ok  {:<13} {text}", self.what),
            Verdict::Skipped(why) => write!(f, "skip {:<13} {why}", self.what),
            Verdict::Fault { problem, remedy, .. } => {
                write!(f, "FAIL {:<13} {problem}\n{:19}{remedy}", self.what, "")
            }
        }
    }
}

/// Looks at everything, in the order in which things need each other.
pub async fn examine(config: &DaemonConfig, clock: Clock) -> Vec<Finding> {
    let time = config.trusted_time(clock);
    let mut findings = vec![clock_finding(&time)];
    let identity = match config.identity() {
        Ok(identity) => Some(identity),
        Err(error) => {
            findings.push(fault(
                "state",
                error.to_string(),
                "Enrol with a passcode: tcpmux-client enroll",
                false,
            ));
            None
        }
    };
    match &identity {
        Some(identity) => {
            let state = match &config.provided {
                None => config.state.path().display().to_string(),
                Some(files) => files.certificate.display().to_string(),
            };
            findings.push(fine("state", state));
            findings.push(certificate_finding(identity, &time));
            findings.extend(network_findings(config, identity, &time).await);
        }
        None => {
            for what in ["certificate", "dns", "tcp", "tls"] {
                findings.push(Finding { what: what.into(), verdict: Verdict::Skipped("needs state") });
            }
        }
    }
    findings.extend(service_findings(config).await);
    findings
}

fn clock_finding(time: &TrustedTime) -> Finding {
    if time.clock_is_plausible() {
        return fine("clock", time.now().rfc3339());
    }
    let problem = format!("the system clock is behind; certificates are checked at {}", time.now().rfc3339());
    fault("clock", problem, "Let NTP set the clock (systemd-timesyncd); the tunnel works meanwhile", false)
}

fn certificate_finding(identity: &Identity, time: &TrustedTime) -> Finding {
    let (facts, now) = (&identity.certificate, time.now());
    let device = identity.device.as_ref().map_or("(no device name)", |device| device.as_str());
    let what = format!("certificate of {device}");
    if now > facts.not_after {
        let remedy =
            "The daemon asks for a new one by itself; if the cloud refuses, enrol anew with a passcode";
        return fault(
            "certificate",
            format!("{what} expired at {}", facts.not_after.rfc3339()),
            remedy,
            false,
        );
    }
    if now < facts.not_before {
        let problem = format!("{what} is valid from {} only", facts.not_before.rfc3339());
        return fault("certificate", problem, "Set the clock of this device", false);
    }
    fine("certificate", format!("{what}, serial {}, valid to {}", facts.serial, facts.not_after.rfc3339()))
}

async fn network_findings(config: &DaemonConfig, identity: &Identity, time: &TrustedTime) -> Vec<Finding> {
    let server = &identity.server;
    let mut findings = vec![];
    let proxy = config.way_out.proxies.towards(server);
    if let Some(proxy) = proxy {
        findings.push(fine("proxy", format!("{server} is reached through {proxy}")));
    }
    let first_hop = proxy.map_or(server, |proxy| &proxy.address);
    match dial::resolve(first_hop).await {
        Ok(addresses) => {
            let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            findings.push(fine("dns", format!("{} is {}", first_hop.host(), list.join(", "))));
        }
        Err(error) => {
            findings.push(fault("dns", error.to_string(), "Check the name and this device's resolver", true));
            return skipped(findings, &["tcp", "tls"], "needs dns");
        }
    }
    let begun = tokio::time::Instant::now();
    let stream = match dial::dial(server, &config.way_out).await {
        Ok(stream) => {
            findings.push(fine("tcp", format!("{server} answered in {} ms", begun.elapsed().as_millis())));
            stream
        }
        Err(error) => {
            let remedy =
                "Check that the cloud runs and that the network lets this port out (or set HTTPS_PROXY)";
            findings.push(fault("tcp", error.to_string(), remedy, true));
            return skipped(findings, &["tls"], "needs tcp");
        }
    };
    let settings = match trust::tunnel(identity, time) {
        Ok(settings) => settings,
        Err(error) => {
            findings.push(fault("tls", error.to_string(), "Enrol anew: tcpmux-client enroll", false));
            return findings;
        }
    };
    let handshake = TlsConnector::from(Arc::new(settings)).connect(server.tls_name(), stream);
    findings.push(match tokio::time::timeout(TLS_LIMIT, handshake).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tcpmux_proto::ALPN) => {
            fine("tls", "the cloud's certificate leads to the pinned CA and names the server".into())
        }
        Ok(Ok(_)) => {
            fault("tls", "no tcpmux/1 at this port".into(), "Check the port: the device door", false)
        }
        Ok(Err(error)) => {
            let remedy =
                "Either this is another cloud, or something on the way opens TLS and must exempt this server";
            fault("tls", error.to_string(), remedy, true)
        }
        Err(_) => fault("tls", "no answer".into(), "Something on the way lets TCP pass but not TLS", true),
    });
    findings
}

async fn service_findings(config: &DaemonConfig) -> Vec<Finding> {
    let mut findings = vec![];
    for service in config.services.iter() {
        let what = format!("service {}", service.name);
        let connecting = tokio::time::timeout(SERVICE_LIMIT, LocalStream::connect(&service.target)).await;
        let problem = match connecting {
            Ok(Ok(_)) => {
                findings.push(fine(&what, format!("{} answers", service.target.scheme())));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".into(),
        };
        findings.push(fault(&what, problem, "Start the local service, or correct its address", false));
    }
    findings
}

fn skipped(mut findings: Vec<Finding>, what: &[&str], why: &'static str) -> Vec<Finding> {
    findings.extend(what.iter().map(|what| Finding { what: (*what).into(), verdict: Verdict::Skipped(why) }));
    findings
}

fn fine(what: &str, text: String) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Fine(text) }
}

fn fault(what: &str, problem: String, remedy: &str, network: bool) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Fault { problem, remedy: remedy.into(), network } }
}

const TLS_LIMIT: Duration = Duration::from_secs(10);
const SERVICE_LIMIT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Timestamp;

    use super::*;
    use crate::{
        Services, StateDirectory,
        fake_cloud::{FakeCloud, issuing},
        key::Key,
        test_pki::{ALWAYS, Pki},
    };

    const NOW: Timestamp = Timestamp::from_secs(1_795_303_719);

    async fn findings(shown: Option<Pki>, service: &str, system: Timestamp) -> Vec<Finding> {
        let pki = Arc::new(Pki::new());
        let shown = shown.map_or_else(|| Arc::clone(&pki), Arc::new);
        let cloud =
            FakeCloud::with(Arc::clone(&pki), &shown, &["localhost"], ALWAYS, issuing(Arc::clone(&pki)))
                .await;
        let temporary = tempfile::tempdir().unwrap();
        let (state, key) = (StateDirectory::at(temporary.path()), Key::generate());
        let certificate = pki.device_certificate("cam-01", &key.public_key_info());
        state.install(&cloud.address, &key, &certificate, &[pki.root_der()]).unwrap();
        let services = Services::new(&[service.parse().unwrap()], false, None).unwrap();
        let mut config = DaemonConfig::new(state, services);
        config.time_floor = NOW;
        examine(&config, Clock::manual(system).0).await
    }

    fn faults(findings: &[Finding]) -> Vec<&str> {
        let is_fault = |finding: &&Finding| matches!(finding.verdict, Verdict::Fault { .. });
        findings.iter().filter(is_fault).map(|finding| finding.what.as_str()).collect()
    }

    #[tokio::test]
    async fn a_healthy_device_has_no_faults() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = format!("web=http://{}", listener.local_addr().unwrap());
        let found = findings(None, &service, NOW).await;
        assert_eq!(faults(&found), Vec::<&str>::new(), "{found:?}");
        assert_eq!(found.len(), 7);
    }

    #[tokio::test]
    async fn each_fault_is_found_where_it_is() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let found = findings(Some(Pki::new()), &format!("web=http://{free}"), Timestamp(0)).await;
        assert_eq!(faults(&found), ["clock", "tls", "service web"]);
        let text: String = found.iter().map(|finding| format!("{finding}\n")).collect();
        assert!(text.contains("opens TLS") && text.contains("NTP"), "{text}");
    }

    #[tokio::test]
    async fn without_an_identity_the_network_is_not_looked_at() {
        let temporary = tempfile::tempdir().unwrap();
        let config = DaemonConfig::new(StateDirectory::at(temporary.path()), Services::default());
        let found = examine(&config, Clock::system()).await;
        assert_eq!(faults(&found), ["state"]);
        let skipped = |finding: &&Finding| matches!(finding.verdict, Verdict::Skipped(_));
        assert_eq!(found.iter().filter(skipped).count(), 4);
    }
}
