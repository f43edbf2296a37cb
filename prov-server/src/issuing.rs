//! The only file that reaches a CA key. Intent is durable before a signature exists; what was signed is
//! read again and verified; what leaves the house is what the store recorded first.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ca::{
    Hierarchy, KeyError, KeyStore, LintError, PrepareError, Prepared, Profile, ProfileError, PublicKey,
    SignError,
};
use model::{Actor, DeviceRef, Serial, Timestamp};
use runtime::{Clock, FaultPoints};
use store::{Intent, IssuanceRow, IssuerName, RevokedRow, Store, StoreError, Subject};

use crate::{Config, fault::Step};

/// Makes certificates, and nothing else.
pub(crate) struct Issuing {
    hierarchy: Hierarchy,
    keys: Arc<dyn KeyStore>,
    store: Store,
    clock: Clock,
    faults: FaultPoints<Step>,
    device_lifetime: Duration,
    door_lifetime: Duration,
    device_crl: Option<String>,
    writer: u8,
    /// The newest moment at which anything was issued.
    latest: AtomicI64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error("the clock shows {now}, but a certificate was issued at {latest}; set the server's clock", now = .now.rfc3339(), latest = .latest.rfc3339())]
    ClockWentBack { now: Timestamp, latest: Timestamp },
    #[error(transparent)]
    Key(KeyError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Prepare(PrepareError),
    #[error("recorded bytes do not pass the lint: {0}")]
    Recorded(#[from] LintError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Store(StoreError),
    #[error("the certificate was revoked before it was signed")]
    RevokedMeanwhile,
    #[error("the task that signs ended early")]
    Interrupted,
}

/// Why no list was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the task that signs ended early")]
    Interrupted,
}

impl Issuing {
    pub(crate) fn new(
        config: &Config,
        hierarchy: Hierarchy,
        keys: Arc<dyn KeyStore>,
        store: Store,
        clock: Clock,
        latest: Option<Timestamp>,
    ) -> Self {
        let device_crl =
            config.crl_url.as_ref().map(|url| format!("{}/devices.crl", url.trim_end_matches('/')));
        Self {
            hierarchy,
            keys,
            store,
            clock,
            faults: config.fault_points.clone(),
            device_lifetime: config.device_certificate,
            door_lifetime: config.door_certificate,
            device_crl,
            writer: config.writer,
            latest: AtomicI64::new(latest.map_or(i64::MIN, |at| at.0)),
        }
    }

    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Writes and lints a device's certificate to be; touches no key and no row.
    pub(crate) fn prepare_device(
        &self,
        device: &DeviceRef,
        key: &PublicKey,
        idempotency: [u8; 32],
    ) -> Result<Intent, IssueError> {
        let now = self.sane_now()?;
        let mut profile = Profile::device(device, self.hierarchy.domain(), self.device_lifetime)?;
        if let Some(url) = &self.device_crl {
            profile = profile.with_crl_url(url)?;
        }
        if self.is_ours(key) {
            return Err(IssueError::Key(KeyError::Blocked("this is the CA's own key")));
        }
        let serial = Serial::from_random(self.writer, runtime::random::bytes());
        let prepared = self.hierarchy.devices().prepare(&profile, key, serial, now).map_err(prepare_error)?;
        self.faults.reached(Step::Prepared);
        let subject = Subject::Device(device.clone());
        Ok(intent(&prepared, IssuerName::Devices, subject, idempotency))
    }

    /// Brings an intended device certificate to its end: signed, verified, recorded. Whoever else
    /// does the same at the same time, all get the one that was recorded first.
    pub(crate) async fn finish_device(&self, row: IssuanceRow) -> Result<IssuanceRow, IssueError> {
        self.note_issuance(row.certificate.created_at);
        if row.der.is_some() {
            return Ok(row);
        }
        self.faults.reached(Step::Intended);
        let prepared = self.hierarchy.devices().recorded(&row.tbs)?;
        let row = self.sign_and_record(prepared, IssuerName::Devices).await?;
        self.faults.reached(Step::Recorded);
        Ok(row)
    }

    /// Issues a certificate for one of our own doors, in the same order of steps.
    pub(crate) async fn issue_door(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        key: &PublicKey,
    ) -> Result<IssuanceRow, IssueError> {
        let now = self.sane_now()?;
        let profile = Profile::server(names, addresses, self.door_lifetime)?;
        let serial = Serial::from_random(self.writer, runtime::random::bytes());
        let prepared =
            self.hierarchy.services().prepare(&profile, key, serial, now).map_err(prepare_error)?;
        let name = names.first().cloned().or_else(|| addresses.first().map(IpAddr::to_string));
        let subject = Subject::Door(name.unwrap_or_default());
        let intent = intent(&prepared, IssuerName::Services, subject, runtime::random::bytes());
        let row = self.store.intend_door_certificate(intent, &Actor::System, now).await?;
        self.note_issuance(row.certificate.created_at);
        self.sign_and_record(prepared, IssuerName::Services).await
    }

    /// Signs the list of what an issuer revoked.
    pub(crate) async fn revocation_list(
        &self,
        issuer: IssuerName,
        number: u64,
        (this_update, next_update): (Timestamp, Timestamp),
        revoked: Vec<RevokedRow>,
    ) -> Result<Vec<u8>, ListError> {
        let (authority, keys) = (self.authority(issuer), Arc::clone(&self.keys));
        let entries: Vec<_> = revoked
            .into_iter()
            .map(|row| ca::RevokedEntry { serial: row.serial, reason: row.reason, at: row.at })
            .collect();
        let signing = tokio::task::spawn_blocking(move || {
            authority.revocation_list(&*keys, number, this_update, next_update, entries)
        });
        Ok(signing.await.map_err(|_| ListError::Interrupted)??)
    }

    async fn sign_and_record(
        &self,
        prepared: Prepared,
        issuer: IssuerName,
    ) -> Result<IssuanceRow, IssueError> {
        let (authority, keys) = (self.authority(issuer), Arc::clone(&self.keys));
        // A key store may block: a token, a network.
        let signing = tokio::task::spawn_blocking(move || authority.sign(&*keys, &prepared));
        let certificate = signing.await.map_err(|_| IssueError::Interrupted)??;
        self.faults.reached(match issuer {
            IssuerName::Devices => Step::Signed,
            IssuerName::Services => Step::DoorSigned,
        });
        let (serial, fingerprint) = (certificate.serial, certificate.fingerprint);
        let recorded = self.store.record_issued(serial, certificate.der, fingerprint, self.clock.now());
        match recorded.await {
            Err(StoreError::Conflict { .. }) => Err(IssueError::RevokedMeanwhile),
            other => Ok(other?),
        }
    }

    fn authority(&self, issuer: IssuerName) -> ca::Authority {
        match issuer {
            IssuerName::Devices => self.hierarchy.devices().clone(),
            IssuerName::Services => self.hierarchy.services().clone(),
        }
    }

    fn is_ours(&self, key: &PublicKey) -> bool {
        let hierarchy = &self.hierarchy;
        let ours = [hierarchy.root(), hierarchy.devices().certificate(), hierarchy.services().certificate()];
        ours.iter().any(|certificate| certificate.public_key() == key)
    }

    /// Now, unless the clock went back behind what was issued already: its certificates would be
    /// younger than their revocations.
    fn sane_now(&self) -> Result<Timestamp, IssueError> {
        let (now, latest) = (self.clock.now(), Timestamp(self.latest.load(Ordering::Relaxed)));
        if now < latest.minus(CLOCK_TOLERANCE) {
            return Err(IssueError::ClockWentBack { now, latest });
        }
        Ok(now)
    }

    fn note_issuance(&self, at: Timestamp) {
        self.latest.fetch_max(at.0, Ordering::Relaxed);
    }
}

impl IssueError {
    /// Whether a repeat may succeed once somebody has seen to it; the caller answers 503.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) => error.is_passing(),
            Self::Prepare(error) => {
                matches!(error, PrepareError::ClockBehind(_) | PrepareError::IssuerEnds(_))
            }
            Self::Sign(error) => matches!(error, SignError::KeyStore(_)),
            Self::ClockWentBack { .. } | Self::Interrupted => true,
            Self::Key(_) | Self::Profile(_) | Self::Recorded(_) | Self::RevokedMeanwhile => false,
        }
    }
}

impl From<StoreError> for IssueError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn prepare_error(error: PrepareError) -> IssueError {
    match error {
        PrepareError::Key(error) => IssueError::Key(error),
        other => IssueError::Prepare(other),
    }
}

fn intent(prepared: &Prepared, issuer: IssuerName, subject: Subject, idempotency: [u8; 32]) -> Intent {
    Intent {
        serial: prepared.serial(),
        issuer,
        subject,
        spki_sha256: prepared.spki_sha256(),
        tbs: prepared.tbs_der().to_vec(),
        not_before: prepared.not_before(),
        not_after: prepared.not_after(),
        idempotency,
    }
}

/// How far the clock may go back, as when it is disciplined.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
