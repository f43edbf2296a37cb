//! Who may reach which device. Every change takes the tenant's next sequence number and is logged,
//! so that a token minted before it can be told from one minted after.

use std::collections::BTreeSet;

use model::{
    Actor, DeviceId, DeviceRef, Grant, Level, ServiceName, ServiceSet, TenantName, Timestamp, UserId,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use serde_json::json;

use crate::{AuditEntry, NewEvent, Store, StoreError, audit, column, devices, events};

/// A change of somebody's rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantChangeRow {
    /// Whose.
    pub tenant: TenantName,
    /// Whose rights; `None` for every user of the device (it was removed).
    pub user: Option<UserId>,
    /// On which device.
    pub device: DeviceId,
    /// The tenant's sequence number of the change.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
}

impl Store {
    /// Gives a user a right on a device, in place of any that the user has there. Returns the
    /// tenant's new grant sequence number.
    pub async fn put_grant(
        &self,
        tenant: &TenantName,
        device: &DeviceId,
        user: &UserId,
        grant: Grant,
        by: &Actor,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let device = DeviceRef::new(tenant.clone(), device.clone());
        let user = user.clone();
        let entry = AuditEntry::done(by, "grant.put", devices::object(&device), describe(&user, &grant));
        self.write(move |c| {
            Box::pin(async move {
                require_both(c, &device, &user).await?;
                let sequence = note_change(c, &device, Some(&user), at).await?;
                insert(c, &device, &user, &grant, sequence, at).await?;
                audit::append(c, &entry, at).await?;
                Ok(sequence)
            })
        })
        .await
    }

    /// Ends a user's right on a device. Returns the tenant's new grant sequence number; `None` if there was none.
    pub async fn remove_grant(
        &self,
        tenant: &TenantName,
        device: &DeviceId,
        user: &UserId,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let device = DeviceRef::new(tenant.clone(), device.clone());
        let user = user.clone();
        let entry = AuditEntry::done(by, "grant.remove", devices::object(&device), format!("user={user}"));
        self.write(move |c| {
            Box::pin(async move {
                let removed = sqlx::query("DELETE FROM grants WHERE tenant = ? AND user = ? AND device = ?")
                    .bind(device.tenant.as_str())
                    .bind(user.as_str())
                    .bind(device.device.as_str())
                    .execute(&mut *c)
                    .await?;
                if removed.rows_affected() == 0 {
                    return Ok(None);
                }
                let sequence = note_change(c, &device, Some(&user), at).await?;
                audit::append(c, &entry, at).await?;
                Ok(Some(sequence))
            })
        })
        .await
    }

    /// Everything that a user may reach, by device. Grants past their end are among them; see [`Grant::is_live`].
    pub async fn grants_of_user(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Vec<(DeviceId, Grant)>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM grants WHERE tenant = ? AND user = ? ORDER BY device")
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .fetch_all(c)
                    .await?;
                rows.iter().map(|row| Ok((column::text(row, "device")?, grant_row(row)?))).collect()
            })
        })
        .await
    }

    /// What a user may do on one device.
    pub async fn grant_of(
        &self,
        tenant: &TenantName,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Option<Grant>, StoreError> {
        let (tenant, user, device) = (tenant.clone(), user.clone(), device.clone());
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query("SELECT * FROM grants WHERE tenant = ? AND user = ? AND device = ?")
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .bind(device.as_str())
                    .fetch_optional(c)
                    .await?;
                row.as_ref().map(grant_row).transpose()
            })
        })
        .await
    }

    /// Everybody who may reach a device.
    pub async fn grants_on_device(
        &self,
        tenant: &TenantName,
        device: &DeviceId,
    ) -> Result<Vec<(UserId, Grant)>, StoreError> {
        let (tenant, device) = (tenant.clone(), device.clone());
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM grants WHERE tenant = ? AND device = ? ORDER BY user")
                    .bind(tenant.as_str())
                    .bind(device.as_str())
                    .fetch_all(c)
                    .await?;
                rows.iter().map(|row| Ok((column::text(row, "user")?, grant_row(row)?))).collect()
            })
        })
        .await
    }

    /// The number of the tenant's last grant change; 0 before the first.
    pub async fn grant_sequence(&self, tenant: &TenantName) -> Result<u64, StoreError> {
        let tenant = tenant.clone();
        self.read(move |c| {
            Box::pin(async move {
                let sequence: Option<i64> =
                    sqlx::query_scalar("SELECT grant_sequence FROM tenants WHERE name = ?")
                        .bind(tenant.as_str())
                        .fetch_optional(c)
                        .await?;
                column::number("grant_sequence", sequence.ok_or(StoreError::NotFound("tenant"))?)
            })
        })
        .await
    }

    /// The grant sequence number of every tenant.
    pub async fn grant_sequences(&self) -> Result<Vec<(TenantName, u64)>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT name, grant_sequence FROM tenants").fetch_all(c).await?;
                let pair = |row: &SqliteRow| {
                    let sequence = column::number("grant_sequence", row.try_get("grant_sequence")?)?;
                    Ok((column::text(row, "name")?, sequence))
                };
                rows.iter().map(pair).collect()
            })
        })
        .await
    }

    /// The grant changes of every tenant at or after a moment, in the order of their making.
    pub async fn grant_changes_since(&self, at: Timestamp) -> Result<Vec<GrantChangeRow>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM grant_changes WHERE at >= ? ORDER BY tenant, sequence")
                    .bind(at.0)
                    .fetch_all(c)
                    .await?;
                rows.iter().map(change_row).collect()
            })
        })
        .await
    }

    /// Forgets the log of grant changes before a moment that no living token is older than.
    pub async fn forget_grant_changes(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let forgotten =
                    sqlx::query("DELETE FROM grant_changes WHERE at < ?").bind(before.0).execute(c).await?;
                Ok(forgotten.rows_affected())
            })
        })
        .await
    }
}

/// Takes the tenant's next number for a change, logs it and appends the event. `user` is `None` for all of the device's.
pub(crate) async fn note_change(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    user: Option<&UserId>,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let sequence: i64 = sqlx::query_scalar(
        "UPDATE tenants SET grant_sequence = grant_sequence + 1 WHERE name = ? RETURNING grant_sequence",
    )
    .bind(device.tenant.as_str())
    .fetch_one(&mut *c)
    .await?;
    sqlx::query("INSERT INTO grant_changes (tenant, sequence, user, device, at) VALUES (?, ?, ?, ?, ?)")
        .bind(device.tenant.as_str())
        .bind(sequence)
        .bind(user.map(UserId::as_str))
        .bind(device.device.as_str())
        .bind(at.0)
        .execute(&mut *c)
        .await?;
    let event = NewEvent { user: user.cloned(), ..NewEvent::of_device(device, "grant.changed", at) };
    events::append(c, &event.with(json!({ "sequence": sequence })), at).await?;
    column::number("sequence", sequence)
}

pub(crate) async fn insert(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    user: &UserId,
    grant: &Grant,
    sequence: u64,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO grants (tenant, user, device, level, services, until, sequence, changed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (tenant, user, device) DO UPDATE SET level = excluded.level, services = excluded.services,
             until = excluded.until, sequence = excluded.sequence, changed_at = excluded.changed_at",
    )
    .bind(device.tenant.as_str())
    .bind(user.as_str())
    .bind(device.device.as_str())
    .bind(grant.level.as_str())
    .bind(service_words(&grant.services))
    .bind(grant.until.map(|until| until.0))
    .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
    .bind(at.0)
    .execute(c)
    .await?;
    Ok(())
}

pub(crate) async fn require_both(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    user: &UserId,
) -> Result<(), StoreError> {
    if !devices::exists(c, device).await? {
        return Err(StoreError::NotFound("device"));
    }
    if is_user(c, &device.tenant, user).await? { Ok(()) } else { Err(StoreError::NotFound("user")) }
}

pub(crate) async fn is_user(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    user: &UserId,
) -> Result<bool, StoreError> {
    let known = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE tenant = ? AND id = ?)")
        .bind(tenant.as_str())
        .bind(user.as_str());
    Ok(known.fetch_one(c).await?)
}

/// The names in one column, with a space between them; NULL for all services.
fn service_words(services: &ServiceSet) -> Option<String> {
    services.names().map(|names| names.map(ServiceName::as_str).collect::<Vec<_>>().join(" "))
}

pub(crate) fn describe(user: &UserId, grant: &Grant) -> String {
    let services = service_words(&grant.services).unwrap_or_else(|| "*".into());
    let until = grant.until.map_or_else(|| "-".into(), Timestamp::rfc3339);
    format!("user={user} level={} services={services} until={until}", grant.level)
}

pub(crate) fn grant_row(row: &SqliteRow) -> Result<Grant, StoreError> {
    grant_with_services(row, "services")
}

/// A grant out of a row that has its services in a column of this name.
pub(crate) fn grant_with_services(row: &SqliteRow, services: &str) -> Result<Grant, StoreError> {
    let services = match row.try_get::<Option<&str>, _>(services)? {
        None => ServiceSet::all(),
        Some(words) => {
            let names: Result<BTreeSet<ServiceName>, _> =
                words.split_ascii_whitespace().map(|name| column::parse("services", name)).collect();
            ServiceSet::only(names?)
        }
    };
    let level: Level = column::text(row, "level")?;
    Ok(Grant { level, services, until: column::optional_time(row, "until")? })
}

fn change_row(row: &SqliteRow) -> Result<GrantChangeRow, StoreError> {
    Ok(GrantChangeRow {
        tenant: column::text(row, "tenant")?,
        user: column::optional_text(row, "user")?,
        device: column::text(row, "device")?,
        sequence: column::number("sequence", row.try_get("sequence")?)?,
        at: column::time(row, "at")?,
    })
}
