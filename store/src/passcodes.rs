//! Passcodes: only what is derived from them. The digest finds the row; nothing leads back.

use model::{Actor, DeviceId, PasscodeDigest, TenantName, Timestamp};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, Store, StoreError, audit, column, tenants};

/// A passcode to be kept.
#[derive(Debug, Clone)]
pub struct NewPasscode {
    /// Its name, which is no secret.
    pub id: String,
    /// What is kept of it.
    pub digest: PasscodeDigest,
    /// For which tenant.
    pub tenant: TenantName,
    /// For which device alone; `None` for any new device.
    pub device: Option<DeviceId>,
    /// Until when it can be redeemed.
    pub expires_at: Timestamp,
}

/// What is known of a passcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasscodeRow {
    /// Its name.
    pub id: String,
    /// For which tenant.
    pub tenant: TenantName,
    /// For which device alone.
    pub device: Option<DeviceId>,
    /// Who made it, as audit rows name actors.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Until when it can be redeemed.
    pub expires_at: Timestamp,
    /// When it was redeemed.
    pub redeemed_at: Option<Timestamp>,
    /// SHA-256 of the public key that it is bound to since.
    pub pinned_spki: Option<[u8; 32]>,
    /// The serial of the certificate that came of it.
    pub certificate: Option<model::Serial>,
}

impl Store {
    /// Keeps a new passcode.
    pub async fn add_passcode(&self, new: NewPasscode, by: &Actor, at: Timestamp) -> Result<(), StoreError> {
        let bound = new.device.as_ref().map_or("any new device", DeviceId::as_str);
        let detail = format!("tenant={} device={bound} expires={}", new.tenant, new.expires_at.rfc3339());
        let entry = AuditEntry::done(by, "passcode.create", object(&new.id), detail);
        self.write(move |c| {
            Box::pin(async move {
                tenants::require(c, &new.tenant).await?;
                sqlx::query(
                    "INSERT INTO passcodes (id, digest, tenant, device, created_by, created_at, expires_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(&new.id)
                .bind(&new.digest.0[..])
                .bind(new.tenant.as_str())
                .bind(new.device.as_ref().map(DeviceId::as_str))
                .bind(&entry.actor)
                .bind(at.0)
                .bind(new.expires_at.0)
                .execute(&mut *c)
                .await?;
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }

    /// The passcode behind a digest. For the room that redeems; whose tenant it is stands in the row.
    pub async fn passcode_by_digest(
        &self,
        digest: PasscodeDigest,
    ) -> Result<Option<PasscodeRow>, StoreError> {
        self.read(move |c| Box::pin(async move { by_digest(c, digest).await })).await
    }

    /// A tenant's passcodes, newest first, after one that a page ended with, at most `limit`.
    pub async fn passcodes(
        &self,
        tenant: &TenantName,
        after: Option<(Timestamp, String)>,
        limit: u32,
    ) -> Result<Vec<PasscodeRow>, StoreError> {
        let tenant = tenant.clone();
        let (at, id) = after.unwrap_or((Timestamp(i64::MAX), String::new()));
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT * FROM passcodes WHERE tenant = ? AND (created_at, id) < (?, ?)
                     ORDER BY created_at DESC, id DESC LIMIT ?",
                )
                .bind(tenant.as_str())
                .bind(at.0)
                .bind(id)
                .bind(limit)
                .fetch_all(c)
                .await?;
                rows.iter().map(passcode_row).collect()
            })
        })
        .await
    }

    /// Removes a passcode: it can be redeemed no more, not even again.
    pub async fn remove_passcode(
        &self,
        tenant: &TenantName,
        id: &str,
        by: &Actor,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        let entry = AuditEntry::done(by, "passcode.remove", object(&id), format!("tenant={tenant}"));
        self.write(move |c| {
            Box::pin(async move {
                let removed = sqlx::query("DELETE FROM passcodes WHERE tenant = ? AND id = ?")
                    .bind(tenant.as_str())
                    .bind(id)
                    .execute(&mut *c)
                    .await?;
                if removed.rows_affected() == 0 {
                    return Err(StoreError::NotFound("passcode"));
                }
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }

    /// Forgets passcodes that ended before a moment; what they did stays in the audit log.
    pub async fn forget_passcodes(&self, ended_before: Timestamp) -> Result<u64, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let forgotten = sqlx::query(
                    "DELETE FROM passcodes WHERE expires_at < ? AND coalesce(redeemed_at, 0) < ?",
                )
                .bind(ended_before.0)
                .bind(ended_before.0)
                .execute(c)
                .await?;
                Ok(forgotten.rows_affected())
            })
        })
        .await
    }
}

/// How audit rows name a passcode.
pub(crate) fn object(id: &str) -> String {
    format!("passcode:{id}")
}

/// The passcode behind a digest; none of a tenant that is being deleted.
pub(crate) async fn by_digest(
    c: &mut SqliteConnection,
    digest: PasscodeDigest,
) -> Result<Option<PasscodeRow>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM passcodes WHERE digest = ?
         AND tenant IN (SELECT name FROM tenants WHERE deleting_at IS NULL)",
    )
    .bind(&digest.0[..])
    .fetch_optional(c)
    .await?;
    row.as_ref().map(passcode_row).transpose()
}

fn passcode_row(row: &SqliteRow) -> Result<PasscodeRow, StoreError> {
    Ok(PasscodeRow {
        id: row.try_get("id")?,
        tenant: column::text(row, "tenant")?,
        device: column::optional_text(row, "device")?,
        created_by: row.try_get("created_by")?,
        created_at: column::time(row, "created_at")?,
        expires_at: column::time(row, "expires_at")?,
        redeemed_at: column::optional_time(row, "redeemed_at")?,
        pinned_spki: column::optional_octets(row, "pinned_spki")?,
        certificate: column::optional_octets(row, "certificate")?.map(model::Serial),
    })
}
