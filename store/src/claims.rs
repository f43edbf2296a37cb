//! The code by which a device without an owner is claimed, as a digest, and the claim: the first owner's grant.

use model::{
    Actor, ClaimDigest, DeviceId, DeviceRef, Grant, Level, ServiceSet, TenantName, Timestamp, UserId,
};
use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    AuditEntry, NewEvent, Store, StoreError, audit, column, devices, events, grants, ownership, tenants,
};

/// Where a device stands between nobody and an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimState {
    /// Whether somebody owns it.
    pub owned: bool,
    /// The code that it may be claimed by.
    pub code: Option<ClaimCodeRow>,
}

/// The code of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimCodeRow {
    /// What is kept of it.
    pub digest: ClaimDigest,
    /// When the device said that it shows it.
    pub delivered_at: Option<Timestamp>,
}

/// A device whose code it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimable {
    /// Which.
    pub device: DeviceId,
    /// Whether somebody owns it.
    pub owned: bool,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The user owns the device now.
    Done {
        /// Which device.
        device: DeviceRef,
        /// The tenant's grant sequence number of the change.
        grant_sequence: u64,
    },
    /// Wrong, replaced or used: no device of the tenant can be claimed by it.
    NoSuchCode,
    /// Somebody owns the device.
    AlreadyOwned,
}

impl Store {
    /// Where a device stands; `None` if there is no such device.
    pub async fn claim_state(
        &self,
        device: &DeviceRef,
        now: Timestamp,
    ) -> Result<Option<ClaimState>, StoreError> {
        let device = device.clone();
        self.read(move |c| {
            Box::pin(async move {
                if !devices::exists(c, &device).await? {
                    return Ok(None);
                }
                let owned = ownership::owner(c, &device, now).await?.is_some();
                Ok(Some(ClaimState { owned, code: code_of(c, &device).await? }))
            })
        })
        .await
    }

    /// Makes this the device's code, if the code is still what the caller saw and nobody owns the device. False if
    /// not: somebody else was faster, and there is nothing to hand to the device.
    pub async fn put_claim_code(
        &self,
        device: &DeviceRef,
        instead_of: Option<ClaimDigest>,
        digest: ClaimDigest,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let device = device.clone();
        self.write(move |c| {
            Box::pin(async move {
                let stands = code_of(c, &device).await?.map(|code| code.digest) == instead_of;
                let there = stands && devices::exists(c, &device).await?;
                if !there || ownership::owner(c, &device, at).await?.is_some() {
                    return Ok(false);
                }
                sqlx::query(
                    "INSERT INTO claim_codes (tenant, device, digest, made_at) VALUES (?, ?, ?, ?)
                     ON CONFLICT (tenant, device) DO UPDATE SET digest = excluded.digest,
                         made_at = excluded.made_at, delivered_at = NULL",
                )
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .bind(&digest.0[..])
                .bind(at.0)
                .execute(c)
                .await?;
                Ok(true)
            })
        })
        .await
    }

    /// Notes that the device shows this code. False if it is not its code any more.
    pub async fn claim_code_delivered(
        &self,
        device: &DeviceRef,
        digest: ClaimDigest,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let device = device.clone();
        self.write(move |c| {
            Box::pin(async move {
                let noted = sqlx::query(
                    "UPDATE claim_codes SET delivered_at = coalesce(delivered_at, ?)
                     WHERE tenant = ? AND device = ? AND digest = ?",
                )
                .bind(at.0)
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .bind(&digest.0[..])
                .execute(c)
                .await?;
                Ok(noted.rows_affected() == 1)
            })
        })
        .await
    }

    /// The device of the tenant whose code this is. One look-up, whether there is one or not.
    pub async fn claimable(
        &self,
        tenant: &TenantName,
        digest: ClaimDigest,
        now: Timestamp,
    ) -> Result<Option<Claimable>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query(
                    "SELECT device, EXISTS (SELECT 1 FROM grants g WHERE g.tenant = k.tenant
                         AND g.device = k.device AND g.level = 'owner'
                         AND (g.until IS NULL OR g.until > ?)) AS owned
                     FROM claim_codes k WHERE digest = ? AND tenant = ?",
                )
                .bind(now.0)
                .bind(&digest.0[..])
                .bind(tenant.as_str())
                .fetch_optional(c)
                .await?;
                row.map(|row| {
                    Ok(Claimable { device: column::text(&row, "device")?, owned: row.try_get("owned")? })
                })
                .transpose()
            })
        })
        .await
    }

    /// Makes the user the owner of the device whose code this is. The code is used up by it: however many try
    /// together, one succeeds.
    pub async fn claim(
        &self,
        tenant: &TenantName,
        digest: ClaimDigest,
        user: &UserId,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Claim, StoreError> {
        let (tenant, user, by) = (tenant.clone(), user.clone(), by.clone());
        self.write(move |c| {
            Box::pin(async move {
                let served = tenants::exists(c, &tenant).await?;
                let found = device_of(c, &tenant, digest).await?;
                // Nothing of a tenant that is being deleted comes to an owner any more.
                let Some(device) = found.filter(|_| served) else { return Ok(Claim::NoSuchCode) };
                if ownership::owner(c, &device, at).await?.is_some() {
                    return Ok(Claim::AlreadyOwned);
                }
                forget_device(c, &device).await?;
                let grant = Grant { level: Level::Owner, services: ServiceSet::all(), until: None };
                let grant_sequence = grants::note_change(c, &device, Some(&user), at).await?;
                grants::insert(c, &device, &user, &grant, grant_sequence, at).await?;
                let entry =
                    AuditEntry::done(&by, "device.claim", devices::object(&device), format!("user={user}"));
                audit::append(c, &entry, at).await?;
                events::append(c, &claimed(&device, &user, at), at).await?;
                Ok(Claim::Done { device, grant_sequence })
            })
        })
        .await
    }
}

/// That a device has this owner now.
pub(crate) fn claimed(device: &DeviceRef, user: &UserId, at: Timestamp) -> NewEvent {
    let event = NewEvent { user: Some(user.clone()), ..NewEvent::of_device(device, "device.claimed", at) };
    event.with(json!({ "owner": user }))
}

/// Deletes a device's code.
pub(crate) async fn forget_device(c: &mut SqliteConnection, device: &DeviceRef) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM claim_codes WHERE tenant = ? AND device = ?")
        .bind(device.tenant.as_str())
        .bind(device.device.as_str())
        .execute(c)
        .await?;
    Ok(())
}

async fn code_of(c: &mut SqliteConnection, device: &DeviceRef) -> Result<Option<ClaimCodeRow>, StoreError> {
    let row = sqlx::query("SELECT digest, delivered_at FROM claim_codes WHERE tenant = ? AND device = ?")
        .bind(device.tenant.as_str())
        .bind(device.device.as_str())
        .fetch_optional(c)
        .await?;
    row.as_ref().map(code_row).transpose()
}

async fn device_of(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    digest: ClaimDigest,
) -> Result<Option<DeviceRef>, StoreError> {
    let row = sqlx::query("SELECT device FROM claim_codes WHERE digest = ? AND tenant = ?")
        .bind(&digest.0[..])
        .bind(tenant.as_str())
        .fetch_optional(c)
        .await?;
    row.map(|row| Ok(DeviceRef::new(tenant.clone(), column::text(&row, "device")?))).transpose()
}

fn code_row(row: &SqliteRow) -> Result<ClaimCodeRow, StoreError> {
    Ok(ClaimCodeRow {
        digest: ClaimDigest(column::octets(row, "digest")?),
        delivered_at: column::optional_time(row, "delivered_at")?,
    })
}
