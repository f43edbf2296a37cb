//! Devices: one row from the first enrolment until an operator removes it.

use std::{fmt::Display, str::FromStr};

use model::{Actor, DeviceId, DeviceRef, ServiceName, Tag, TenantName, Timestamp};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, NewEvent, Store, StoreError, audit, claims, column, events, grants, transfers};

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Which.
    pub device: DeviceRef,
    /// What people call it, where they gave it a name.
    pub name: Option<String>,
    /// The words by which people group it.
    pub tags: Vec<Tag>,
    /// Which state of name and tags this is; grows with every change.
    pub revision: u64,
    /// When it first enrolled.
    pub created_at: Timestamp,
    /// When it was last known to be connected.
    pub verified_at: Option<Timestamp>,
    /// The services that it named when it last connected.
    pub services: Vec<ServiceName>,
}

/// What went with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedDevice {
    /// The tenant's grant sequence number of the one change that ended every grant on the device.
    pub grant_sequence: u64,
}

impl Store {
    /// Devices of a tenant by id, after a given one, at most `limit`.
    pub async fn devices(
        &self,
        tenant: &TenantName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let tenant = tenant.clone();
        let after = after.map(|id| id.as_str().to_owned()).unwrap_or_default();
        self.read(move |c| {
            Box::pin(async move {
                let rows =
                    sqlx::query("SELECT * FROM devices WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?")
                        .bind(tenant.as_str())
                        .bind(after)
                        .bind(limit)
                        .fetch_all(c)
                        .await?;
                rows.iter().map(device_row).collect()
            })
        })
        .await
    }

    /// One device.
    pub async fn device(&self, tenant: &TenantName, id: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let device = DeviceRef::new(tenant.clone(), id.clone());
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query("SELECT * FROM devices WHERE tenant = ? AND id = ?")
                    .bind(device.tenant.as_str())
                    .bind(device.device.as_str())
                    .fetch_optional(c)
                    .await?;
                row.as_ref().map(device_row).transpose()
            })
        })
        .await
    }

    /// Removes a device whose certificates have all been revoked, with every grant on it (ownership
    /// is a grant) and the unused passcodes bound to it. A conflict while a certificate still lives.
    pub async fn remove_device(
        &self,
        tenant: &TenantName,
        id: &DeviceId,
        by: &Actor,
        at: Timestamp,
    ) -> Result<RemovedDevice, StoreError> {
        let device = DeviceRef::new(tenant.clone(), id.clone());
        let entry = AuditEntry::done(by, "device.remove", object(&device), "");
        self.write(move |c| {
            Box::pin(async move {
                if !exists(c, &device).await? {
                    return Err(StoreError::NotFound("device"));
                }
                let (tenant, id) = (device.tenant.as_str(), device.device.as_str());
                let live: bool = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM certificates
                     WHERE tenant = ? AND device = ? AND status <> 'revoked')",
                )
                .bind(tenant)
                .bind(id)
                .fetch_one(&mut *c)
                .await?;
                if live {
                    return Err(StoreError::Conflict {
                        what: "the device has certificates that are not revoked; revoke them first",
                    });
                }
                sqlx::query("DELETE FROM grants WHERE tenant = ? AND device = ?")
                    .bind(tenant)
                    .bind(id)
                    .execute(&mut *c)
                    .await?;
                transfers::forget_device(c, &device).await?;
                claims::forget_device(c, &device).await?;
                sqlx::query("DELETE FROM passcodes WHERE tenant = ? AND device = ? AND redeemed_at IS NULL")
                    .bind(tenant)
                    .bind(id)
                    .execute(&mut *c)
                    .await?;
                let grant_sequence = grants::note_change(c, &device, None, at).await?;
                sqlx::query("DELETE FROM devices WHERE tenant = ? AND id = ?")
                    .bind(tenant)
                    .bind(id)
                    .execute(&mut *c)
                    .await?;
                audit::append(c, &entry, at).await?;
                events::append(c, &NewEvent::of_device(&device, "device.removed", at), at).await?;
                Ok(RemovedDevice { grant_sequence })
            })
        })
        .await
    }
}

/// How audit rows name a device.
pub(crate) fn object(device: &DeviceRef) -> String {
    format!("device:{device}")
}

pub(crate) async fn exists(c: &mut SqliteConnection, device: &DeviceRef) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM devices WHERE tenant = ? AND id = ?)")
        .bind(device.tenant.as_str())
        .bind(device.device.as_str());
    Ok(found.fetch_one(c).await?)
}

/// Forgets the name and the tags that its people gave a device.
pub(crate) async fn forget_words(c: &mut SqliteConnection, device: &DeviceRef) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE devices SET name = NULL, folded = NULL, tags = NULL, revision = revision + 1
         WHERE tenant = ? AND id = ?",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .execute(c)
    .await?;
    Ok(())
}

/// Adds a device; false if it is there already.
pub(crate) async fn add(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let added =
        sqlx::query("INSERT INTO devices (tenant, id, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(device.tenant.as_str())
            .bind(device.device.as_str())
            .bind(at.0)
            .execute(c)
            .await?;
    Ok(added.rows_affected() == 1)
}

pub(crate) fn device_row(row: &SqliteRow) -> Result<DeviceRow, StoreError> {
    let services: Option<&str> = row.try_get("services")?;
    let tags: Option<&str> = row.try_get("tags")?;
    Ok(DeviceRow {
        device: DeviceRef::new(column::text(row, "tenant")?, column::text(row, "id")?),
        name: row.try_get("name")?,
        tags: words("tags", tags)?,
        revision: column::number("revision", row.try_get("revision")?)?,
        created_at: column::time(row, "created_at")?,
        verified_at: column::optional_time(row, "verified_at")?,
        services: words("services", services)?,
    })
}

/// Words in one column, with a space between them.
fn words<T: FromStr<Err: Display>>(column: &'static str, text: Option<&str>) -> Result<Vec<T>, StoreError> {
    text.unwrap_or_default().split_ascii_whitespace().map(|word| column::parse(column, word)).collect()
}
