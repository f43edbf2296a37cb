//! Revocations: what was taken back, in which order, and why.

use model::{Actor, DeviceRef, Fingerprint, RevocationReason, Serial, Timestamp};
use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    AuditEntry, IssuerName, NewEvent, Store, StoreError, Subject, audit, certificates::by_fingerprint,
    column, devices, events, issuing::object, meta,
};

/// One act of revoking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its number; grows with every act.
    pub sequence: u64,
    /// Whose certificates.
    pub subject: Subject,
    /// Every revoked certificate of the subject, those of earlier acts too.
    pub certificates: Vec<Fingerprint>,
    /// How many this act revoked; 0 if all were before.
    pub fresh: usize,
}

/// An entry for a CRL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedRow {
    /// Which certificate.
    pub serial: Serial,
    /// Why.
    pub reason: RevocationReason,
    /// When.
    pub at: Timestamp,
}

impl Store {
    /// Revokes a certificate and, where it is a device's, every other one of the device, finished or
    /// not: one transaction, one number.
    pub async fn revoke_certificate(
        &self,
        fingerprint: Fingerprint,
        reason: RevocationReason,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let by = by.clone();
        self.write(move |c| {
            Box::pin(async move {
                let row = by_fingerprint(c, fingerprint).await?.ok_or(StoreError::NotFound("certificate"))?;
                let act = Act { reason, by, at };
                match row.certificate.subject {
                    Subject::Device(device) => act.on_device(c, device).await,
                    Subject::Door(name) => act.on_one(c, fingerprint, name).await,
                }
            })
        })
        .await
    }

    /// Revokes every certificate of a device, finished or not.
    pub async fn revoke_device(
        &self,
        device: &DeviceRef,
        reason: RevocationReason,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let (device, by) = (device.clone(), by.clone());
        self.write(move |c| {
            Box::pin(async move {
                if !devices::exists(c, &device).await? {
                    return Err(StoreError::NotFound("device"));
                }
                Act { reason, by, at }.on_device(c, device).await
            })
        })
        .await
    }

    /// An issuer's revoked certificates that end after a moment: the entries of its CRL.
    pub async fn revoked(
        &self,
        issuer: IssuerName,
        ends_after: Timestamp,
    ) -> Result<Vec<RevokedRow>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT serial, reason, at FROM revocations WHERE issuer = ? AND not_after > ?
                     ORDER BY sequence, serial",
                )
                .bind(issuer.as_str())
                .bind(ends_after.0)
                .fetch_all(c)
                .await?;
                rows.iter().map(revoked_row).collect()
            })
        })
        .await
    }
}

/// Who revokes, why, and when.
pub(crate) struct Act {
    pub(crate) reason: RevocationReason,
    pub(crate) by: Actor,
    pub(crate) at: Timestamp,
}

impl Act {
    async fn on_device(self, c: &mut SqliteConnection, device: DeviceRef) -> Result<Revocation, StoreError> {
        let rows = sqlx::query(
            "UPDATE certificates SET status = 'revoked'
             WHERE tenant = ? AND device = ? AND status <> 'revoked' RETURNING serial, issuer, not_after",
        )
        .bind(device.tenant.as_str())
        .bind(device.device.as_str())
        .fetch_all(&mut *c)
        .await?;
        let sequence = self.note(c, &rows, &Subject::Device(device.clone())).await?;
        let all = sqlx::query(
            "SELECT fingerprint FROM certificates
             WHERE tenant = ? AND device = ? AND status = 'revoked' AND not_after > ?
             AND fingerprint IS NOT NULL ORDER BY id",
        )
        .bind(device.tenant.as_str())
        .bind(device.device.as_str())
        .bind(self.at.0)
        .fetch_all(c)
        .await?;
        let certificates = all
            .iter()
            .filter_map(|row| column::fingerprint(row, "fingerprint").transpose())
            .collect::<Result<_, _>>()?;
        Ok(Revocation { sequence, subject: Subject::Device(device), certificates, fresh: rows.len() })
    }

    async fn on_one(
        self,
        c: &mut SqliteConnection,
        fingerprint: Fingerprint,
        name: String,
    ) -> Result<Revocation, StoreError> {
        let rows = sqlx::query(
            "UPDATE certificates SET status = 'revoked' WHERE fingerprint = ? AND status <> 'revoked'
             RETURNING serial, issuer, not_after",
        )
        .bind(&fingerprint.0[..])
        .fetch_all(&mut *c)
        .await?;
        let subject = Subject::Door(name);
        let sequence = self.note(c, &rows, &subject).await?;
        Ok(Revocation { sequence, subject, certificates: vec![fingerprint], fresh: rows.len() })
    }

    /// Writes the rows of the act; the certificates' own were changed by the caller.
    pub(crate) async fn note(
        &self,
        c: &mut SqliteConnection,
        rows: &[SqliteRow],
        subject: &Subject,
    ) -> Result<u64, StoreError> {
        let sequence = meta::next(c, "revocation").await?;
        let actor = self.by.audit_name();
        for row in rows {
            sqlx::query(
                "INSERT INTO revocations (serial, sequence, issuer, reason, not_after, at, actor)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(row.try_get::<&[u8], _>("serial")?)
            .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
            .bind(row.try_get::<&str, _>("issuer")?)
            .bind(i64::from(self.reason.number()))
            .bind(row.try_get::<i64, _>("not_after")?)
            .bind(self.at.0)
            .bind(&actor)
            .execute(&mut *c)
            .await?;
            if let Subject::Device(device) = subject {
                let data = json!({
                    "serial": column::serial(row, "serial")?.to_string(),
                    "reason": self.reason.number(),
                    "sequence": sequence,
                });
                let event = NewEvent::of_device(device, "certificate.revoked", self.at).with(data);
                events::append(c, &event, self.at).await?;
            }
        }
        let detail =
            format!("sequence={sequence} certificates={} reason={}", rows.len(), self.reason.number());
        let entry = AuditEntry::done(&self.by, "certificate.revoke", object(subject), detail);
        audit::append(c, &entry, self.at).await?;
        Ok(sequence)
    }
}

fn revoked_row(row: &SqliteRow) -> Result<RevokedRow, StoreError> {
    let reason = u8::try_from(row.try_get::<i64, _>("reason")?).unwrap_or(0);
    Ok(RevokedRow {
        serial: column::serial(row, "serial")?,
        reason: RevocationReason::from_number(reason),
        at: column::time(row, "at")?,
    })
}
