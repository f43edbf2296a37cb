//! What the daemon knows of itself: for `tcpmux-client status`, local programs and tests.

use std::sync::OnceLock;

use model::{DeviceId, Generation, ServiceName, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use tcpmux_proto::SessionHandle;
use tokio::sync::watch;

use crate::{
    CertificateFacts, Identity, Services, SpoolStatus, TrustedTime, renewal_time, session::is_over,
    spool::SpoolKeeper,
};

/// The answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The device's name.
    pub device: Option<DeviceId>,
    /// The cloud's device door.
    pub server: String,
    /// Whether a session stands.
    pub connected: bool,
    /// The session, while one stands.
    pub session: Option<SessionStatus>,
    /// Why the last attempt or session failed, while none stands.
    pub last_error: Option<String>,
    /// The certificate.
    pub certificate: CertificateStatus,
    /// False when the system clock is behind what the cloud proved.
    pub clock_plausible: bool,
    /// Whether the device shows a claim code, since nobody owns it: `tcpmux-client claim` prints it.
    #[serde(default)]
    pub claimable: bool,
    /// What waits for the cloud, where local programs can leave something.
    #[serde(default)]
    pub spool: Option<SpoolStatus>,
    /// What can be reached.
    pub services: Vec<ServiceStatus>,
}

/// A session that stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its name at the cloud.
    pub id: SessionId,
    /// Its fencing number.
    pub generation: Generation,
    /// Since when, RFC 3339.
    pub since: String,
    /// When the last byte came from the cloud, RFC 3339.
    pub last_heard: String,
    /// The smallest round trip measured lately.
    pub round_trip_ms: Option<f64>,
    /// Streams open now.
    pub streams: usize,
}

/// The device's certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// SHA-256 of the DER.
    pub fingerprint: String,
    /// The serial number in hex.
    pub serial: String,
    /// Its end, RFC 3339.
    pub not_after: String,
    /// When the daemon renews it, RFC 3339; absent for a certificate that the operator provides.
    pub next_renewal: Option<String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// How it is spoken to.
    pub scheme: String,
}

impl CertificateStatus {
    /// Describes a certificate; `renews` unless the operator provides it.
    pub fn of(facts: &CertificateFacts, renews: bool) -> Self {
        Self {
            fingerprint: facts.fingerprint.to_string(),
            serial: facts.serial.clone(),
            not_after: facts.not_after.rfc3339(),
            next_renewal: renews.then(|| renewal_time(facts).rfc3339()),
        }
    }
}

/// Where the daemon's parts write down what they know.
#[derive(Debug)]
pub(crate) struct Board {
    facts: watch::Sender<Facts>,
    services: Vec<ServiceStatus>,
    spool: OnceLock<SpoolKeeper>,
    time: TrustedTime,
}

#[derive(Debug)]
struct Facts {
    device: Option<DeviceId>,
    server: String,
    certificate: CertificateStatus,
    session: Option<Live>,
    last_error: Option<String>,
    claimable: bool,
}

#[derive(Debug)]
struct Live {
    id: SessionId,
    generation: Generation,
    since: Timestamp,
    handle: SessionHandle,
}

impl Board {
    pub(crate) fn new(identity: &Identity, renews: bool, services: &Services, time: TrustedTime) -> Self {
        let services = services.iter().map(|service| ServiceStatus {
            name: service.name.clone(),
            scheme: service.target.scheme().into(),
        });
        let facts = Facts {
            device: identity.device.clone(),
            server: identity.server.to_string(),
            certificate: CertificateStatus::of(&identity.certificate, renews),
            session: None,
            last_error: None,
            claimable: false,
        };
        Self { facts: watch::Sender::new(facts), services: services.collect(), spool: OnceLock::new(), time }
    }

    pub(crate) fn identity(&self, identity: &Identity, renews: bool) {
        let certificate = CertificateStatus::of(&identity.certificate, renews);
        self.facts.send_if_modified(|facts| {
            let changed = facts.certificate.fingerprint != certificate.fingerprint;
            if changed {
                facts.device = identity.device.clone();
                facts.server = identity.server.to_string();
                facts.certificate = certificate;
            }
            changed
        });
    }

    pub(crate) fn renewal_moved(&self, next: Timestamp) {
        self.facts.send_modify(|facts| facts.certificate.next_renewal = Some(next.rfc3339()));
    }

    pub(crate) fn connected(&self, id: SessionId, generation: Generation, handle: SessionHandle) {
        let live = Live { id, generation, since: self.time.now(), handle };
        self.facts.send_modify(|facts| {
            facts.session = Some(live);
            facts.last_error = None;
        });
    }

    /// No session stands any more, or none could be made.
    pub(crate) fn failed(&self, why: String) {
        self.facts.send_modify(|facts| {
            facts.session = None;
            facts.last_error = Some(why);
        });
    }

    /// An attempt failed while a session stands.
    pub(crate) fn attempt_failed(&self, why: String) {
        self.facts.send_modify(|facts| facts.last_error = Some(why));
    }

    /// From now on the status tells of this queue.
    pub(crate) fn show_spool(&self, spool: SpoolKeeper) {
        // There is one queue in a process.
        let _ = self.spool.set(spool);
    }

    /// Whether a claim code is shown.
    pub(crate) fn claimable(&self, claimable: bool) {
        self.facts.send_modify(|facts| facts.claimable = claimable);
    }

    pub(crate) fn status(&self) -> Status {
        self.describe(&self.facts.borrow())
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn wait_for(&self, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut changes = self.facts.subscribe();
        loop {
            let status = self.describe(&changes.borrow_and_update());
            if wanted(&status) || changes.changed().await.is_err() {
                return status;
            }
        }
    }

    fn describe(&self, facts: &Facts) -> Status {
        let standing = facts.session.as_ref().filter(|live| !is_over(&live.handle));
        let session = standing.map(|live| SessionStatus {
            id: live.id.clone(),
            generation: live.generation,
            since: live.since.rfc3339(),
            last_heard: self.time.now().minus(live.handle.last_heard().elapsed()).rfc3339(),
            round_trip_ms: live.handle.round_trip().map(|trip| trip.as_secs_f64() * 1000.0),
            streams: live.handle.stream_count(),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            device: facts.device.clone(),
            server: facts.server.clone(),
            connected: session.is_some(),
            session,
            last_error: facts.last_error.clone(),
            certificate: facts.certificate.clone(),
            clock_plausible: self.time.clock_is_plausible(),
            claimable: facts.claimable,
            spool: self.spool.get().map(SpoolKeeper::status),
            services: self.services.clone(),
        }
    }
}

#[cfg(test)]
impl Board {
    /// That of `cam-01` with one service, not connected.
    pub(crate) fn sample() -> Self {
        use crate::{StateDirectory, key::Key, test_pki::Pki};

        let temporary = tempfile::tempdir().unwrap();
        let (state, pki, key) = (StateDirectory::at(temporary.path()), Pki::new(), Key::generate());
        let certificate = pki.device_certificate("cam-01", &key.public_key_info());
        let identity: Identity =
            state.install(&"localhost:1".parse().unwrap(), &key, &certificate, &[pki.root_der()]).unwrap();
        let services = ["web=http://127.0.0.1:8080".parse().unwrap()];
        let services = Services::new(&services, false, None).unwrap();
        let time = TrustedTime::new(runtime::Clock::system(), Timestamp(0));
        Self::new(&identity, true, &services, time)
    }
}
