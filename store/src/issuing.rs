//! Intent before signature, result after: the two durable steps of every issuance.

use model::{Actor, CertificateStatus, Fingerprint, RevocationReason, Serial, Timestamp};
use serde_json::json;
use sqlx::SqliteConnection;

use crate::{
    AuditEntry, IssuanceRow, IssuerName, NewEvent, Store, StoreError, Subject, audit,
    certificates::{by_serial, issuance_row},
    devices, events, revocations,
};

/// A certificate that is about to be signed.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Its serial number.
    pub serial: Serial,
    /// Who will sign.
    pub issuer: IssuerName,
    /// Whose it will be.
    pub subject: Subject,
    /// SHA-256 of the public key.
    pub spki_sha256: [u8; 32],
    /// The octets to be signed.
    pub tbs: Vec<u8>,
    /// Its beginning.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// The same for every repeat of the request that asks for it.
    pub idempotency: [u8; 32],
}

impl Store {
    /// Intends a certificate for one of our own doors.
    pub async fn intend_door_certificate(
        &self,
        intent: Intent,
        by: &Actor,
        at: Timestamp,
    ) -> Result<IssuanceRow, StoreError> {
        let actor = by.audit_name();
        self.write(move |c| Box::pin(async move { intend(c, &intent, Grounds::Operator, actor, at).await }))
            .await
    }

    /// Records a signature. The first one recorded for a serial is the certificate, whoever asks
    /// again or signs again: what is returned is what may leave the house.
    pub async fn record_issued(
        &self,
        serial: Serial,
        der: Vec<u8>,
        fingerprint: Fingerprint,
        at: Timestamp,
    ) -> Result<IssuanceRow, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let recorded = sqlx::query(
                    "UPDATE certificates SET status = 'active', der = ?, fingerprint = ?, issued_at = ?
                     WHERE serial = ? AND status = 'pending' RETURNING *",
                )
                .bind(der)
                .bind(&fingerprint.0[..])
                .bind(at.0)
                .bind(&serial.0[..])
                .fetch_optional(&mut *c)
                .await?;
                let Some(recorded) = recorded else {
                    let row =
                        by_serial(c, serial).await?.ok_or(StoreError::NotFound("intended certificate"))?;
                    if row.certificate.status == CertificateStatus::Revoked {
                        return Err(StoreError::Conflict { what: "the certificate was revoked meanwhile" });
                    }
                    return Ok(row);
                };
                let row = issuance_row(&recorded)?;
                let detail = format!("serial={serial} fingerprint={fingerprint}");
                let entry = AuditEntry::done(
                    &Actor::System,
                    "certificate.issue",
                    object(&row.certificate.subject),
                    detail,
                );
                audit::append(c, &entry, at).await?;
                note_issued(c, &row, fingerprint, at).await?;
                Ok(row)
            })
        })
        .await
    }

    /// Gives up an intent that cannot be signed any more: its serial is revoked, so that no list of
    /// ours ever vouches for it.
    pub async fn abandon_issuance(&self, serial: Serial, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let abandoned = sqlx::query(
                    "UPDATE certificates SET status = 'revoked' WHERE serial = ? AND status = 'pending'
                     RETURNING *",
                )
                .bind(&serial.0[..])
                .fetch_optional(&mut *c)
                .await?;
                let Some(row) = abandoned else {
                    return Err(StoreError::NotFound("intended certificate"));
                };
                let reason = RevocationReason::CessationOfOperation;
                let act = revocations::Act { reason, by: Actor::System, at };
                let subject = issuance_row(&row)?.certificate.subject;
                act.note(c, &[row], &subject).await.map(drop)
            })
        })
        .await
    }
}

/// Appends the event; certificates of our own doors are no event.
async fn note_issued(
    c: &mut SqliteConnection,
    row: &IssuanceRow,
    fingerprint: Fingerprint,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Subject::Device(device) = &row.certificate.subject else { return Ok(()) };
    let subject = if row.certificate.parent.is_some() { "certificate.renewed" } else { "certificate.issued" };
    let data = json!({
        "fingerprint": fingerprint.to_string(),
        "serial": row.certificate.serial.to_string(),
        "not_after": row.certificate.not_after.rfc3339(),
    });
    events::append(c, &NewEvent::of_device(device, subject, at).with(data), at).await.map(drop)
}

/// On what grounds a certificate is issued.
pub(crate) enum Grounds {
    /// Its passcode's id.
    Passcode(String),
    /// The certificate that it succeeds.
    Parent(Fingerprint),
    /// Nobody asked but ourselves.
    Operator,
}

/// Writes the intent. The caller has decided, in the same transaction, that it may be.
pub(crate) async fn intend(
    c: &mut SqliteConnection,
    intent: &Intent,
    grounds: Grounds,
    actor: String,
    at: Timestamp,
) -> Result<IssuanceRow, StoreError> {
    let (passcode, parent) = match grounds {
        Grounds::Passcode(id) => (Some(id), None),
        Grounds::Parent(fingerprint) => (None, Some(fingerprint)),
        Grounds::Operator => (None, None),
    };
    let (tenant, device, name) = match &intent.subject {
        Subject::Device(device) => (Some(device.tenant.as_str()), Some(device.device.as_str()), None),
        Subject::Door(name) => (None, None, Some(name.as_str())),
    };
    let inserted = sqlx::query(
        "INSERT INTO certificates (serial, issuer, tenant, device, name, status, spki_sha256, passcode, parent,
             idempotency, not_before, not_after, created_at, tbs)
         VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
    )
    .bind(&intent.serial.0[..])
    .bind(intent.issuer.as_str())
    .bind(tenant)
    .bind(device)
    .bind(name)
    .bind(&intent.spki_sha256[..])
    .bind(passcode)
    .bind(parent.as_ref().map(|parent| &parent.0[..]))
    .bind(&intent.idempotency[..])
    .bind(intent.not_before.0)
    .bind(intent.not_after.0)
    .bind(at.0)
    .bind(&intent.tbs)
    .fetch_one(&mut *c)
    .await?;
    let row = issuance_row(&inserted)?;
    let entry = AuditEntry {
        actor,
        action: "certificate.intend",
        object: object(&intent.subject),
        outcome: "ok",
        detail: format!("serial={} not_after={}", intent.serial, intent.not_after.rfc3339()),
    };
    audit::append(c, &entry, at).await?;
    Ok(row)
}

/// Whether a key may get one more certificate for this subject: it belongs to no other, and none of
/// its certificates was revoked.
pub(crate) async fn key_is_free(c: &mut SqliteConnection, intent: &Intent) -> Result<bool, StoreError> {
    let Subject::Device(device) = &intent.subject else { return Ok(true) };
    let blocked: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM certificates WHERE spki_sha256 = ?
         AND (tenant IS NOT ? OR device IS NOT ? OR status = 'revoked'))",
    )
    .bind(&intent.spki_sha256[..])
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .fetch_one(c)
    .await?;
    Ok(!blocked)
}

/// The certificate that an earlier, equal request led to, if a repeat may have it still.
pub(crate) async fn earlier(
    c: &mut SqliteConnection,
    idempotency: &[u8; 32],
    since: Timestamp,
) -> Result<Option<IssuanceRow>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM certificates WHERE idempotency = ? AND created_at > ? AND first_used_at IS NULL
         AND status IN ('pending', 'active')",
    )
    .bind(&idempotency[..])
    .bind(since.0)
    .fetch_optional(c)
    .await?;
    row.as_ref().map(issuance_row).transpose()
}

/// How audit rows name a certificate's subject.
pub(crate) fn object(subject: &Subject) -> String {
    match subject {
        Subject::Device(device) => devices::object(device),
        Subject::Door(name) => format!("door:{name}"),
    }
}
