//! The certificate registry: one row per serial, written before its signature exists.

use std::str::FromStr;

use model::{CertificateStatus, DeviceRef, Fingerprint, Serial, TenantName, Timestamp};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Store, StoreError, column};

/// Which intermediate signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IssuerName {
    /// Certificates of devices.
    Devices,
    /// Certificates of our own doors.
    Services,
}

impl IssuerName {
    /// The word in rows and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Services => "services",
        }
    }
}

impl FromStr for IssuerName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "devices" => Ok(Self::Devices),
            "services" => Ok(Self::Services),
            _ => Err(format!("unknown issuer `{text}`")),
        }
    }
}

/// Whose certificate it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A device's.
    Device(DeviceRef),
    /// One of our own doors', by its first name.
    Door(String),
}

/// A row without its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRow {
    /// Number in the order of making; the cursor of lists.
    pub id: u64,
    /// The serial number.
    pub serial: Serial,
    /// Who signs.
    pub issuer: IssuerName,
    /// Whose.
    pub subject: Subject,
    /// Usable?
    pub status: CertificateStatus,
    /// SHA-256 of the public key.
    pub spki_sha256: [u8; 32],
    /// The passcode that it came of.
    pub passcode: Option<String>,
    /// The certificate that it succeeds.
    pub parent: Option<Fingerprint>,
    /// Its beginning.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// When it was intended.
    pub created_at: Timestamp,
    /// When its signature was recorded.
    pub issued_at: Option<Timestamp>,
    /// When it first opened a door.
    pub first_used_at: Option<Timestamp>,
    /// SHA-256 of the DER, once there is a signature.
    pub fingerprint: Option<Fingerprint>,
}

/// A row with its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuanceRow {
    /// What is known of it.
    pub certificate: CertificateRow,
    /// The octets to be signed: what the serial says, for ever.
    pub tbs: Vec<u8>,
    /// The signed certificate, once it is recorded.
    pub der: Option<Vec<u8>>,
}

/// What a door has to know of a device's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorCertificate {
    /// Number in the order of making.
    pub id: u64,
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// Whose.
    pub device: DeviceRef,
    /// Usable?
    pub status: CertificateStatus,
    /// Its end.
    pub not_after: Timestamp,
    /// Whether it opened a door before.
    pub used: bool,
}

impl Store {
    /// A certificate by its fingerprint, with its octets.
    pub async fn certificate(&self, fingerprint: Fingerprint) -> Result<Option<IssuanceRow>, StoreError> {
        self.read(move |c| Box::pin(async move { by_fingerprint(c, fingerprint).await })).await
    }

    /// A tenant's certificates after a row number, oldest first, at most `limit`.
    pub async fn certificates(
        &self,
        tenant: &TenantName,
        after: u64,
        limit: u32,
    ) -> Result<Vec<CertificateRow>, StoreError> {
        let tenant = tenant.clone();
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.read(move |c| {
            Box::pin(async move {
                let rows =
                    sqlx::query("SELECT * FROM certificates WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?")
                        .bind(tenant.as_str())
                        .bind(after)
                        .bind(limit)
                        .fetch_all(c)
                        .await?;
                rows.iter().map(certificate_row).collect()
            })
        })
        .await
    }

    /// The certificate that speaks for a device: its newest usable one, else its newest.
    pub async fn certificate_of_device(
        &self,
        device: &DeviceRef,
    ) -> Result<Option<CertificateRow>, StoreError> {
        let device = device.clone();
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query(
                    "SELECT * FROM certificates WHERE tenant = ? AND device = ? AND fingerprint IS NOT NULL
                     ORDER BY status = 'active' DESC, created_at DESC, id DESC LIMIT 1",
                )
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .fetch_optional(c)
                .await?;
                row.as_ref().map(certificate_row).transpose()
            })
        })
        .await
    }

    /// Device certificates that end after a moment, after a row number, at most `limit`: what the
    /// doors' view is filled with after a start.
    pub async fn door_certificates(
        &self,
        ends_after: Timestamp,
        after: u64,
        limit: u32,
    ) -> Result<Vec<DoorCertificate>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT id, fingerprint, tenant, device, status, not_after,
                         first_used_at IS NOT NULL AS used
                     FROM certificates
                     WHERE id > ? AND not_after > ? AND issuer = 'devices' AND fingerprint IS NOT NULL
                     ORDER BY id LIMIT ?",
                )
                .bind(after)
                .bind(ends_after.0)
                .bind(limit)
                .fetch_all(c)
                .await?;
                rows.iter().map(door_certificate).collect()
            })
        })
        .await
    }

    /// Issuances that were intended and never finished: what a start has to sign again.
    pub async fn pending_issuances(&self) -> Result<Vec<IssuanceRow>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM certificates WHERE status = 'pending' ORDER BY id");
                rows.fetch_all(c).await?.iter().map(issuance_row).collect()
            })
        })
        .await
    }

    /// When the newest certificate was intended: a clock before that is wrong.
    pub async fn last_issuance_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let last: Option<i64> =
                    sqlx::query_scalar("SELECT max(created_at) FROM certificates").fetch_one(c).await?;
                Ok(last.map(Timestamp))
            })
        })
        .await
    }
}

pub(crate) async fn by_fingerprint(
    c: &mut SqliteConnection,
    fingerprint: Fingerprint,
) -> Result<Option<IssuanceRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM certificates WHERE fingerprint = ?").bind(&fingerprint.0[..]);
    row.fetch_optional(c).await?.as_ref().map(issuance_row).transpose()
}

pub(crate) async fn by_serial(
    c: &mut SqliteConnection,
    serial: Serial,
) -> Result<Option<IssuanceRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM certificates WHERE serial = ?").bind(&serial.0[..]);
    row.fetch_optional(c).await?.as_ref().map(issuance_row).transpose()
}

pub(crate) fn certificate_row(row: &SqliteRow) -> Result<CertificateRow, StoreError> {
    let tenant: Option<TenantName> = column::optional_text(row, "tenant")?;
    let device = column::optional_text(row, "device")?;
    let subject = match (tenant, device) {
        (Some(tenant), Some(device)) => Subject::Device(DeviceRef::new(tenant, device)),
        _ => Subject::Door(row.try_get("name")?),
    };
    Ok(CertificateRow {
        id: column::number("id", row.try_get("id")?)?,
        serial: column::serial(row, "serial")?,
        issuer: column::text(row, "issuer")?,
        subject,
        status: column::text(row, "status")?,
        spki_sha256: column::octets(row, "spki_sha256")?,
        passcode: row.try_get("passcode")?,
        parent: column::fingerprint(row, "parent")?,
        not_before: column::time(row, "not_before")?,
        not_after: column::time(row, "not_after")?,
        created_at: column::time(row, "created_at")?,
        issued_at: column::optional_time(row, "issued_at")?,
        first_used_at: column::optional_time(row, "first_used_at")?,
        fingerprint: column::fingerprint(row, "fingerprint")?,
    })
}

fn door_certificate(row: &SqliteRow) -> Result<DoorCertificate, StoreError> {
    Ok(DoorCertificate {
        id: column::number("id", row.try_get("id")?)?,
        fingerprint: Fingerprint(column::octets(row, "fingerprint")?),
        device: DeviceRef::new(column::text(row, "tenant")?, column::text(row, "device")?),
        status: column::text(row, "status")?,
        not_after: column::time(row, "not_after")?,
        used: row.try_get("used")?,
    })
}

pub(crate) fn issuance_row(row: &SqliteRow) -> Result<IssuanceRow, StoreError> {
    Ok(IssuanceRow { certificate: certificate_row(row)?, tbs: row.try_get("tbs")?, der: row.try_get("der")? })
}
