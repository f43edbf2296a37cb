//! The operator's view of the certificate registry and of the CA.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, Uri};
use model::{
    Actor, AdminActor, Code, DeviceId, Fingerprint, Refusal, RevocationReason, TenantName, Timestamp,
};
use runtime::http::{OfTenant, Page, Paging, json_body, ok, problem, query};
use serde::{Deserialize, Serialize};
use store::{CertificateRow, Subject};

use crate::{RevokeError, provisioning::Provisioning};

#[derive(Debug, Serialize)]
struct Shown {
    fingerprint: Option<Fingerprint>,
    serial: String,
    issuer: &'static str,
    tenant: Option<TenantName>,
    device: Option<DeviceId>,
    /// The first name of a door's certificate.
    name: Option<String>,
    status: &'static str,
    not_before: String,
    not_after: String,
    issued_at: Option<String>,
    first_used_at: Option<String>,
    parent: Option<Fingerprint>,
    passcode: Option<String>,
    spki_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pem: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    reason: RevocationReason,
}

#[derive(Debug, Serialize)]
struct Authority {
    fingerprint: String,
    domain: String,
    chain: String,
}

impl Provisioning {
    /// Answers `GET /admin/api/certificates`.
    pub(crate) async fn list_certificates(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        self.certificate_page(request.uri()).await.unwrap_or_else(|refusal| problem(&refusal))
    }

    async fn certificate_page(&self, uri: &Uri) -> Result<Response<Body>, Refusal> {
        let (OfTenant { tenant }, paging): (_, Paging) = (query(uri)?, query(uri)?);
        let (limit, after) = (paging.limit()?, paging.after()?.unwrap_or(0));
        let rows = self.store.certificates(&tenant, after, limit + 1).await;
        let rows = rows.map_err(|error| error.refusal("listing certificates"))?;
        Ok(ok(&Page::cut(rows, limit, |row| row.id.to_string()).map(|row| shown(row, None))))
    }

    /// Answers `GET /admin/api/certificates/{fingerprint}`.
    pub(crate) async fn show_certificate(self: Arc<Self>, fingerprint: String) -> Response<Body> {
        let fingerprint = match read_fingerprint(&fingerprint) {
            Ok(fingerprint) => fingerprint,
            Err(refusal) => return problem(&refusal),
        };
        match self.store.certificate(fingerprint).await {
            Ok(Some(row)) => {
                let pem = row.der.map(|der| ca::pem::encode(ca::pem::CERTIFICATE, &der));
                ok(&shown(row.certificate, pem))
            }
            Ok(None) => problem(&no_such()),
            Err(error) => problem(&error.refusal("reading a certificate")),
        }
    }

    /// Answers `POST /admin/api/certificates/{fingerprint}/revoke`.
    pub(crate) async fn revoke(
        self: Arc<Self>,
        admin: AdminActor,
        fingerprint: String,
        request: Request<Body>,
    ) -> Response<Body> {
        let fingerprint = match read_fingerprint(&fingerprint) {
            Ok(fingerprint) => fingerprint,
            Err(refusal) => return problem(&refusal),
        };
        let Revoke { reason } = match json_body(request.into_body()).await {
            Ok(revoke) => revoke,
            Err(refusal) => return problem(&refusal),
        };
        match self.revoke_certificate(fingerprint, reason, &Actor::Admin(admin)).await {
            Ok(receipt) => ok(&receipt),
            Err(RevokeError::NotFound(_)) => problem(&no_such()),
            Err(RevokeError::Store(error)) => problem(&error.refusal("revoking a certificate")),
        }
    }

    /// Answers `GET /admin/api/ca`.
    pub(crate) fn show_authority(&self) -> Response<Body> {
        let hierarchy = self.issuing.hierarchy();
        ok(&Authority {
            fingerprint: hierarchy.root_fingerprint_text(),
            domain: hierarchy.domain().to_string(),
            chain: hierarchy.chain_pem(),
        })
    }
}

fn read_fingerprint(text: &str) -> Result<Fingerprint, Refusal> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    text.parse().map_err(|error: String| Refusal::new(Code::BadRequest, error))
}

fn no_such() -> Refusal {
    Refusal::new(Code::NotFound, "no such certificate; the fingerprint is the SHA-256 of its DER, in hex")
}

fn shown(row: CertificateRow, pem: Option<String>) -> Shown {
    let (tenant, device, name) = match row.subject {
        Subject::Device(device) => (Some(device.tenant), Some(device.device), None),
        Subject::Door(name) => (None, None, Some(name)),
    };
    Shown {
        fingerprint: row.fingerprint,
        serial: row.serial.to_string(),
        issuer: row.issuer.as_str(),
        tenant,
        device,
        name,
        status: row.status.as_str(),
        not_before: row.not_before.rfc3339(),
        not_after: row.not_after.rfc3339(),
        issued_at: row.issued_at.map(Timestamp::rfc3339),
        first_used_at: row.first_used_at.map(Timestamp::rfc3339),
        parent: row.parent,
        passcode: row.passcode,
        spki_sha256: model::hex(&row.spki_sha256),
        pem,
    }
}
