//! The story of simpleenroll: a passcode and a request become a device's first certificate.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::body::Body;
use ca::{CertificateRequest, DeviceCertificate, RequestError};
use http::{HeaderMap, Request, Response, StatusCode};
use model::{DeviceId, DeviceRef, Passcode, PasscodeDigest, Timestamp};
use runtime::{digest, http::ConnectionInfo};
use store::{AuditEntry, PasscodeRow, Redemption, RedemptionRefusal, RedemptionRequest};
use tokio::time::Instant;

use crate::{
    est::{self, Credentials},
    fault::Step,
    limits::Source,
    provisioning::Provisioning,
    refusing::EstRefusal,
};

/// Who asks, as far as a first enrolment knows.
struct Asker {
    source: Source,
    address: String,
    /// The device of a client certificate, if one was shown along.
    shown: Option<DeviceRef>,
}

impl Provisioning {
    /// Answers `POST /.well-known/est/simpleenroll`.
    pub(crate) async fn simpleenroll(
        self: Arc<Self>,
        info: ConnectionInfo,
        request: Request<Body>,
    ) -> Response<Body> {
        let headers = request.headers().clone();
        est::respond(&headers, self.enrol(&info, &headers, request).await, count)
    }

    async fn enrol(
        self: &Arc<Self>,
        info: &ConnectionInfo,
        headers: &HeaderMap,
        request: Request<Body>,
    ) -> Result<Vec<u8>, EstRefusal> {
        let Some(credentials) = est::credentials(headers)? else { return Err(EstRefusal::challenge()) };
        let asker = self.asker(info);
        let passcode = self.store.passcode_by_digest(digest_of(&credentials)).await?;
        if passcode.is_none() {
            self.check_source(&asker)?;
        }
        // The body is read and the request parsed before the passcode is judged, so that every
        // passcode that does not serve costs the same.
        let der = est::pkcs10(request).await;
        let csr = der.map(|der| CertificateRequest::parse(&der));
        let spki = csr.as_ref().ok().and_then(|csr| csr.as_ref().ok()).map(CertificateRequest::spki_sha256);
        let refusal = judge(passcode.as_ref(), spki, self.clock.now());
        let passcode = match (refusal, passcode) {
            (None, Some(passcode)) => passcode,
            (refusal, passcode) => {
                let refusal = refusal.unwrap_or(RedemptionRefusal::Unknown);
                return Err(self.refuse_passcode(&asker, refusal, passcode.as_ref()).await);
            }
        };
        let csr = csr?;
        if let Some(wait) = self.failures.passcodes.wait(&passcode.id, Instant::now()) {
            return Err(EstRefusal::too_many(wait.as_secs()));
        }
        let (csr, device) = match self.read_request(csr, &credentials, &passcode, &asker) {
            Ok(both) => both,
            Err(refusal) => {
                self.failures.passcodes.count(passcode.id.clone(), Instant::now());
                self.audit_refusal(&passcode, &asker, &refusal).await;
                return Err(refusal);
            }
        };
        self.config.fault_points.reached(Step::Parsed);
        let idempotency = digest::of_parts(&[b"passcode", passcode.id.as_bytes(), &csr.spki_sha256()]);
        let intent = self.issuing.prepare_device(&device, csr.public_key(), idempotency)?;
        let request = RedemptionRequest {
            digest: digest_of(&credentials),
            intent,
            window: REPEAT_WINDOW,
            source: asker.address.clone(),
        };
        let this = Arc::clone(self);
        let redeemed = self.to_the_end(async move {
            let (row, is_fresh) = match this.store.redeem_passcode(request, this.clock.now()).await? {
                Redemption::Intended(row) => (row, true),
                Redemption::Repeat(row) => (row, false),
                Redemption::Refused(refusal) => return Ok(Err(refusal)),
            };
            this.finish(row, is_fresh).await.map(Ok)
        });
        redeemed.await?.map_err(|refusal| self.count_refusal(&asker, refusal, &passcode))
    }

    /// What the request asks for, and for which device: by the passcode, else by the user name, else
    /// by the request's own CN. Nothing is copied; what is named must fit.
    fn read_request(
        &self,
        csr: Result<CertificateRequest, RequestError>,
        credentials: &Credentials,
        passcode: &PasscodeRow,
        asker: &Asker,
    ) -> Result<(CertificateRequest, DeviceRef), EstRefusal> {
        let csr = csr?;
        let id = match &passcode.device {
            Some(bound) => bound.clone(),
            None => new_device_id(&credentials.user, &csr)?,
        };
        let device = DeviceRef::new(passcode.tenant.clone(), id);
        if asker.shown.as_ref().is_some_and(|shown| *shown != device) {
            return Err(EstRefusal::new(
                StatusCode::BAD_REQUEST,
                "identity-mismatch",
                "the client certificate and the passcode name different devices; send one of them",
            ));
        }
        self.check_names(&csr, &device, "the request names another device than the passcode's")?;
        Ok((csr, device))
    }

    /// Names in a request may be absent; present ones must be the device's own.
    pub(crate) fn check_names(
        &self,
        csr: &CertificateRequest,
        device: &DeviceRef,
        sentence: &'static str,
    ) -> Result<(), EstRefusal> {
        let dns_name = self.issuing.hierarchy().domain().device_name(device);
        let cn_fits = csr.common_name().is_none_or(|name| *name == device.device);
        if cn_fits && csr.dns_names().iter().all(|name| *name == dns_name) {
            return Ok(());
        }
        Err(EstRefusal::identity(sentence))
    }

    fn asker(&self, info: &ConnectionInfo) -> Asker {
        let shown = info.certificates.first().and_then(|der| DeviceCertificate::read(der).ok());
        let domain = self.issuing.hierarchy().domain();
        Asker {
            source: Source::of(info.peer.ip()),
            address: info.peer.ip().to_canonical().to_string(),
            shown: shown.and_then(|certificate| certificate.device(domain).ok()),
        }
    }

    /// A source that failed too often is told to wait, before its next guess costs anything.
    fn check_source(&self, asker: &Asker) -> Result<(), EstRefusal> {
        match self.failures.sources.wait(&asker.source, Instant::now()) {
            Some(wait) => Err(EstRefusal::too_many(wait.as_secs())),
            None => Ok(()),
        }
    }

    /// Every passcode that does not serve ends here: the same row written, the same octets answered.
    async fn refuse_passcode(
        &self,
        asker: &Asker,
        refusal: RedemptionRefusal,
        passcode: Option<&PasscodeRow>,
    ) -> EstRefusal {
        if let Err(too_many) = self.check_source(asker) {
            return too_many;
        }
        self.failures.sources.count(asker.source, Instant::now());
        metrics::counter!("tcpmux_passcode_failures_total", "why" => refusal.as_str()).increment(1);
        let entry = AuditEntry {
            actor: format!("anyone from {}", asker.address),
            action: "passcode.redeem",
            object: passcode.map_or_else(|| "passcode".into(), |row| format!("passcode:{}", row.id)),
            outcome: refusal.as_str(),
            detail: String::new(),
        };
        match self.audit_failure(entry).await {
            Ok(()) => EstRefusal::passcode(),
            Err(error) => error.into(),
        }
    }

    /// The same where the refusal came out of the redemption itself, which wrote its row.
    fn count_refusal(&self, asker: &Asker, refusal: RedemptionRefusal, passcode: &PasscodeRow) -> EstRefusal {
        metrics::counter!("tcpmux_passcode_failures_total", "why" => refusal.as_str()).increment(1);
        let refused = EstRefusal::from(refusal);
        if refused == EstRefusal::passcode() {
            self.failures.sources.count(asker.source, Instant::now());
        } else {
            self.failures.passcodes.count(passcode.id.clone(), Instant::now());
        }
        refused
    }

    async fn audit_refusal(&self, passcode: &PasscodeRow, asker: &Asker, refusal: &EstRefusal) {
        let entry = AuditEntry {
            actor: format!("passcode:{} from {}", passcode.id, asker.address),
            action: "passcode.redeem",
            object: passcode.device.as_ref().map_or_else(
                || format!("tenant:{}", passcode.tenant),
                |device| format!("device:{}/{device}", passcode.tenant),
            ),
            outcome: refusal.word,
            detail: String::new(),
        };
        if let Err(error) = self.audit_failure(entry).await {
            tracing::warn!(%error, "a refusal was not audited");
        }
    }
}

/// The octets to look up. A text that is no passcode is looked up too, as one that does not exist.
fn digest_of(credentials: &Credentials) -> PasscodeDigest {
    match credentials.password.expose().parse::<Passcode>() {
        Ok(passcode) => PasscodeDigest(digest::of(passcode.secret_bytes())),
        Err(_) => {
            PasscodeDigest(digest::of_parts(&[b"not a passcode", credentials.password.expose().as_bytes()]))
        }
    }
}

/// Why a passcode cannot serve this key, as far as is known before the redemption; that decides again,
/// in its transaction.
fn judge(
    passcode: Option<&PasscodeRow>,
    spki: Option<[u8; 32]>,
    now: Timestamp,
) -> Option<RedemptionRefusal> {
    let Some(passcode) = passcode else { return Some(RedemptionRefusal::Unknown) };
    match (passcode.pinned_spki, passcode.redeemed_at) {
        (Some(pinned), _) if spki != Some(pinned) => Some(RedemptionRefusal::Replay),
        (Some(_), Some(at)) if now >= at.plus(REPEAT_WINDOW) => Some(RedemptionRefusal::Spent),
        (None, _) if now >= passcode.expires_at => Some(RedemptionRefusal::Expired),
        _ => None,
    }
}

fn new_device_id(user: &str, csr: &CertificateRequest) -> Result<DeviceId, EstRefusal> {
    let bad = |sentence: Cow<'static, str>| EstRefusal::new(StatusCode::BAD_REQUEST, "device-id", sentence);
    if !user.is_empty() {
        return user.parse().map_err(|error| bad(format!("the user name is no device id: {error}").into()));
    }
    csr.common_name().cloned().ok_or_else(|| {
        bad("name the new device: as the user of HTTP Basic, or as the CN of the request".into())
    })
}

fn count(outcome: &'static str) {
    metrics::counter!("tcpmux_enrolments_total", "outcome" => outcome).increment(1);
}

/// How long a repeat with the same key gets the same certificate, unless that is used before.
const REPEAT_WINDOW: Duration = Duration::from_secs(86_400);
