//! The story of simplereenroll: a certificate whose key was proved in the handshake gets a successor.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use ca::{CertificateRequest, DeviceCertificate};
use http::{HeaderMap, Request, Response, StatusCode};
use model::{CertificateStatus, DeviceRef, Timestamp};
use runtime::{digest, http::ConnectionInfo};
use store::{AuditEntry, IssuanceRow, Renewal, RenewalRefusal, RenewalRequest, Subject};
use tokio::time::Instant;

use crate::{
    est,
    fault::Step,
    limits::Source,
    provisioning::Provisioning,
    refusing::{EstRefusal, RE_PROVISION},
};

/// A certificate that may have a successor, and the row that says so.
struct Parent {
    shown: DeviceCertificate,
    device: DeviceRef,
    row: IssuanceRow,
}

impl Provisioning {
    /// Answers `POST /.well-known/est/simplereenroll`.
    pub(crate) async fn simplereenroll(
        self: Arc<Self>,
        info: ConnectionInfo,
        request: Request<Body>,
    ) -> Response<Body> {
        let headers = request.headers().clone();
        let renewed = match self.parent(&info).await {
            Ok(parent) => self.renew_counted(parent, &headers, request).await,
            Err(refusal) => Err(refusal),
        };
        est::respond(&headers, renewed, count)
    }

    /// A device that asks again and again for what it does not get is told to wait, before that costs
    /// anything. It proved its key, so nobody else can bring this on it.
    async fn renew_counted(
        self: &Arc<Self>,
        parent: Parent,
        headers: &HeaderMap,
        request: Request<Body>,
    ) -> Result<Vec<u8>, EstRefusal> {
        let fingerprint = parent.shown.fingerprint();
        if let Some(wait) = self.failures.certificates.wait(&fingerprint, Instant::now()) {
            return Err(EstRefusal::too_many(wait.as_secs()));
        }
        let renewed = self.renew(parent, headers, request).await;
        if renewed.as_ref().is_err_and(|refusal| refusal.status.is_client_error()) {
            self.failures.certificates.count(fingerprint, Instant::now());
        }
        renewed
    }

    async fn renew(
        self: &Arc<Self>,
        parent: Parent,
        headers: &HeaderMap,
        request: Request<Body>,
    ) -> Result<Vec<u8>, EstRefusal> {
        check_user(headers, &parent.device)?;
        let csr = CertificateRequest::parse_successor(&est::pkcs10(request).await?, &parent.shown)?;
        let sentence = "the request names another device than the certificate";
        if let Err(refusal) = self.check_names(&csr, &parent.device, sentence) {
            self.audit(&parent.device, refusal.word).await?;
            return Err(refusal);
        }
        self.config.fault_points.reached(Step::Parsed);
        let now = self.clock.now();
        self.use_parent(&parent, now).await?;
        if is_early(&parent, &csr, now) {
            return parent.row.der.ok_or_else(|| EstRefusal::certificate(RE_PROVISION));
        }
        let fingerprint = parent.shown.fingerprint();
        let idempotency = digest::of_parts(&[b"parent", &fingerprint.0, &csr.spki_sha256()]);
        let request = RenewalRequest {
            parent: fingerprint,
            intent: self.issuing.prepare_device(&parent.device, csr.public_key(), idempotency)?,
            window: REPEAT_WINDOW,
            per: self.config.limits.renewals_per,
            at_most: self.config.limits.renewals,
        };
        let this = Arc::clone(self);
        let renewed = self.to_the_end(async move {
            let (row, is_fresh) = match this.store.renew_certificate(request, now).await? {
                Renewal::Intended(row) => (row, true),
                Renewal::Repeat(row) => (row, false),
                Renewal::Refused(refusal) => return Ok(Err(refusal)),
            };
            this.finish(row, is_fresh).await.map(Ok)
        });
        Ok(renewed.await??)
    }

    /// The certificate that the caller proved, held against its registry row. TLS has verified the
    /// chain; the row says whether it is one of ours and still good for anything.
    async fn parent(&self, info: &ConnectionInfo) -> Result<Parent, EstRefusal> {
        let Some(der) = info.certificates.first() else {
            return Err(EstRefusal::certificate(
                "renewal needs the current certificate in the TLS handshake",
            ));
        };
        let (word, device) = match self.known(der).await? {
            None => ("certificate-unknown", None),
            Some(parent) => match self.judge(&parent) {
                Ok(()) => return Ok(parent),
                Err(word) => (word, Some(parent.device)),
            },
        };
        let source = Source::of(info.peer.ip());
        if let Some(wait) = self.failures.sources.wait(&source, Instant::now()) {
            return Err(EstRefusal::too_many(wait.as_secs()));
        }
        self.failures.sources.count(source, Instant::now());
        let object = device.map_or_else(|| "device".into(), |device| format!("device:{device}"));
        let actor = format!("anyone from {}", info.peer.ip().to_canonical());
        let action = "certificate.renew";
        self.audit_failure(AuditEntry { actor, action, object, outcome: word, detail: String::new() })
            .await?;
        Err(EstRefusal::certificate(RE_PROVISION))
    }

    /// Reads a certificate and finds the row that has exactly its octets and its name.
    async fn known(&self, der: &[u8]) -> Result<Option<Parent>, EstRefusal> {
        let Ok(shown) = DeviceCertificate::read(der) else { return Ok(None) };
        let Ok(device) = shown.device(self.issuing.hierarchy().domain()) else { return Ok(None) };
        let Some(row) = self.store.certificate(shown.fingerprint()).await? else { return Ok(None) };
        let same = row.der.as_deref() == Some(der)
            && row.certificate.subject == Subject::Device(device.clone())
            && Some(row.certificate.serial) == shown.serial();
        Ok(same.then_some(Parent { shown, device, row }))
    }

    fn judge(&self, parent: &Parent) -> Result<(), &'static str> {
        let now = self.clock.now();
        let status = parent.row.certificate.status;
        if status != CertificateStatus::Active {
            return Err(RenewalRefusal::Status(status).as_str());
        }
        if now < parent.shown.not_before() {
            return Err("certificate-not-yet-valid");
        }
        if now >= parent.shown.not_after().plus(self.config.renew_after_expiry) {
            return Err("certificate-expired");
        }
        Ok(())
    }

    /// Asking with a certificate is using it: what it succeeded ends here.
    async fn use_parent(&self, parent: &Parent, now: Timestamp) -> Result<(), EstRefusal> {
        if parent.row.certificate.first_used_at.is_none() {
            self.note_first_use(parent.shown.fingerprint(), now).await?;
        }
        Ok(())
    }

    async fn audit(&self, device: &DeviceRef, outcome: &'static str) -> Result<(), EstRefusal> {
        let name = format!("device:{device}");
        let action = "certificate.renew";
        let entry = AuditEntry { actor: name.clone(), action, object: name, outcome, detail: String::new() };
        Ok(self.audit_failure(entry).await?)
    }
}

/// Whether the caller has just got what it asks for: the same key, minutes ago.
fn is_early(parent: &Parent, csr: &CertificateRequest, now: Timestamp) -> bool {
    let row = &parent.row.certificate;
    row.spki_sha256 == csr.spki_sha256()
        && now.since(row.created_at) < EARLY
        && now < row.not_after
        && row.created_at <= now
}

/// A user name beside the certificate must be the same device's (or empty).
fn check_user(headers: &HeaderMap, device: &DeviceRef) -> Result<(), EstRefusal> {
    match est::credentials(headers)? {
        Some(credentials) if !credentials.user.is_empty() && credentials.user != device.device.as_str() => {
            Err(EstRefusal::new(
                StatusCode::BAD_REQUEST,
                "identity-mismatch",
                "the client certificate and the user name are of different devices; send one of them",
            ))
        }
        _ => Ok(()),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("tcpmux_renewals_total", "outcome" => outcome).increment(1);
}

/// How long the same key gets the same successor, unless that is used before.
const REPEAT_WINDOW: Duration = Duration::from_secs(86_400);
/// How long a certificate is so fresh that its own key gets it again instead of a successor.
const EARLY: Duration = Duration::from_secs(600);
