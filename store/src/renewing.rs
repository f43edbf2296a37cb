//! Renewal: a successor is intended on the grounds of its parent, and takes its place at its first use.

use std::time::Duration;

use model::{CertificateStatus, DeviceRef, Fingerprint, Timestamp};
use sqlx::{Row, SqliteConnection};

use crate::{
    AuditEntry, Intent, IssuanceRow, Store, StoreError, Subject, audit,
    certificates::by_fingerprint,
    column, devices,
    issuing::{Grounds, earlier, intend, key_is_free},
    tenants,
};

/// A certificate, and its successor to be.
#[derive(Debug, Clone)]
pub struct RenewalRequest {
    /// The certificate whose key the caller proved.
    pub parent: Fingerprint,
    /// The successor.
    pub intent: Intent,
    /// For how long the same key gets the same successor, unless that is used before.
    pub window: Duration,
    /// How many successors a device gets in this time …
    pub per: Duration,
    /// … at most.
    pub at_most: u32,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// This certificate may be signed.
    Intended(IssuanceRow),
    /// The same request came before; this is the certificate, signed or not.
    Repeat(IssuanceRow),
    /// It was not renewed.
    Refused(RenewalRefusal),
}

/// Why a certificate was not renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalRefusal {
    /// The certificate is not in the registry.
    Unknown,
    /// It is pending, retired or revoked.
    Status(CertificateStatus),
    /// It is another subject's.
    OtherDevice,
    /// The device was removed, or its tenant.
    DeviceRemoved,
    /// The key belongs to another device, or a certificate of it was revoked.
    KeyBlocked,
    /// The device got many of late.
    TooMany,
}

impl RenewalRefusal {
    /// The word in audit rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "certificate-unknown",
            Self::Status(CertificateStatus::Revoked) => "certificate-revoked",
            Self::Status(CertificateStatus::Retired) => "certificate-retired",
            Self::Status(_) => "certificate-pending",
            Self::OtherDevice => "identity-mismatch",
            Self::DeviceRemoved => "device-removed",
            Self::KeyBlocked => "key-blocked",
            Self::TooMany => "too-many",
        }
    }
}

/// A certificate that opened a door for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUse {
    /// Whose.
    pub device: DeviceRef,
    /// The certificates that it took the place of.
    pub retired: Vec<Fingerprint>,
}

impl Store {
    /// Intends a successor.
    pub async fn renew_certificate(
        &self,
        request: RenewalRequest,
        at: Timestamp,
    ) -> Result<Renewal, StoreError> {
        self.write(move |c| Box::pin(async move { renew(c, &request, at).await })).await
    }

    /// Notes that a certificate opened a door, and retires every older one of the device. `None` if
    /// that was noted before, or there is no such active certificate.
    pub async fn confirm_first_use(
        &self,
        fingerprint: Fingerprint,
        at: Timestamp,
    ) -> Result<Option<FirstUse>, StoreError> {
        self.write(move |c| Box::pin(async move { confirm(c, fingerprint, at).await })).await
    }
}

async fn renew(
    c: &mut SqliteConnection,
    request: &RenewalRequest,
    at: Timestamp,
) -> Result<Renewal, StoreError> {
    let refusal = match check(c, request).await? {
        Some(refusal) => refusal,
        None => match earlier(c, &request.intent.idempotency, at.minus(request.window)).await? {
            Some(row) => return Ok(Renewal::Repeat(row)),
            None if recent(c, request, at).await? >= i64::from(request.at_most) => RenewalRefusal::TooMany,
            None => {
                release(c, &request.intent.idempotency).await?;
                let actor = crate::issuing::object(&request.intent.subject);
                let grounds = Grounds::Parent(request.parent);
                return Ok(Renewal::Intended(intend(c, &request.intent, grounds, actor, at).await?));
            }
        },
    };
    let object = crate::issuing::object(&request.intent.subject);
    let entry = AuditEntry {
        actor: object.clone(),
        action: "certificate.renew",
        object,
        outcome: refusal.as_str(),
        detail: format!("parent={}", request.parent),
    };
    audit::append(c, &entry, at).await?;
    Ok(Renewal::Refused(refusal))
}

async fn check(
    c: &mut SqliteConnection,
    request: &RenewalRequest,
) -> Result<Option<RenewalRefusal>, StoreError> {
    let Some(parent) = by_fingerprint(c, request.parent).await? else {
        return Ok(Some(RenewalRefusal::Unknown));
    };
    if parent.certificate.status != CertificateStatus::Active {
        return Ok(Some(RenewalRefusal::Status(parent.certificate.status)));
    }
    let (Subject::Device(device), true) =
        (&request.intent.subject, parent.certificate.subject == request.intent.subject)
    else {
        return Ok(Some(RenewalRefusal::OtherDevice));
    };
    if !tenants::exists(c, &device.tenant).await? || !devices::exists(c, device).await? {
        return Ok(Some(RenewalRefusal::DeviceRemoved));
    }
    if !key_is_free(c, &request.intent).await? {
        return Ok(Some(RenewalRefusal::KeyBlocked));
    }
    Ok(None)
}

/// How many successors the device got in the time that the limit looks at.
async fn recent(
    c: &mut SqliteConnection,
    request: &RenewalRequest,
    at: Timestamp,
) -> Result<i64, StoreError> {
    let Subject::Device(device) = &request.intent.subject else { return Ok(0) };
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM certificates
         WHERE tenant = ? AND device = ? AND created_at > ? AND parent IS NOT NULL",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .bind(at.minus(request.per).0);
    Ok(count.fetch_one(c).await?)
}

/// Frees the key of a repeat whose window is over, so that the request can be made anew.
async fn release(c: &mut SqliteConnection, idempotency: &[u8; 32]) -> Result<(), StoreError> {
    sqlx::query("UPDATE certificates SET idempotency = NULL WHERE idempotency = ?")
        .bind(&idempotency[..])
        .execute(c)
        .await?;
    Ok(())
}

async fn confirm(
    c: &mut SqliteConnection,
    fingerprint: Fingerprint,
    at: Timestamp,
) -> Result<Option<FirstUse>, StoreError> {
    let used = sqlx::query(
        "UPDATE certificates SET first_used_at = ?
         WHERE fingerprint = ? AND first_used_at IS NULL AND status = 'active' AND device IS NOT NULL
         RETURNING id, tenant, device",
    )
    .bind(at.0)
    .bind(&fingerprint.0[..])
    .fetch_optional(&mut *c)
    .await?;
    let Some(used) = used else { return Ok(None) };
    let device = DeviceRef::new(column::text(&used, "tenant")?, column::text(&used, "device")?);
    let rows = sqlx::query(
        "UPDATE certificates SET status = 'retired'
         WHERE tenant = ? AND device = ? AND status = 'active' AND id < ? RETURNING fingerprint",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .bind(used.try_get::<i64, _>("id")?)
    .fetch_all(&mut *c)
    .await?;
    let retired: Vec<_> = rows
        .iter()
        .filter_map(|row| column::fingerprint(row, "fingerprint").transpose())
        .collect::<Result<_, _>>()?;
    let entry = AuditEntry {
        actor: devices::object(&device),
        action: "certificate.first_use",
        object: devices::object(&device),
        outcome: "ok",
        detail: format!("fingerprint={fingerprint} retired={}", retired.len()),
    };
    audit::append(c, &entry, at).await?;
    Ok(Some(FirstUse { device, retired }))
}
