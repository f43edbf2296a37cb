//! Owners' changes of other people's rights. That the owner still is the owner is seen in the same transaction.

use model::{Actor, DeviceRef, Grant, Timestamp, UserId};
use sqlx::SqliteConnection;

use crate::{AuditEntry, Store, StoreError, audit, devices, grants};

impl Store {
    /// Gives a user of the same tenant a right on a device that `owner` owns, in place of any that the user has
    /// there. Returns the tenant's new grant sequence number. Grants of the device that are past their end go
    /// away; of those that live there are at most 200.
    pub async fn share_device(
        &self,
        device: &DeviceRef,
        owner: &UserId,
        user: &UserId,
        grant: Grant,
        by: &Actor,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let (device, owner, user) = (device.clone(), owner.clone(), user.clone());
        let detail = grants::describe(&user, &grant);
        let entry = AuditEntry::done(by, "grant.put", devices::object(&device), detail);
        self.write(move |c| {
            Box::pin(async move {
                require_owner(c, &device, &owner, at).await?;
                grants::require_both(c, &device, &user).await?;
                refuse_owners(c, &device, &user, at).await?;
                sqlx::query("DELETE FROM grants WHERE tenant = ? AND device = ? AND until <= ?")
                    .bind(device.tenant.as_str())
                    .bind(device.device.as_str())
                    .bind(at.0)
                    .execute(&mut *c)
                    .await?;
                let others: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM grants WHERE tenant = ? AND device = ? AND user <> ?",
                )
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .bind(user.as_str())
                .fetch_one(&mut *c)
                .await?;
                if others >= MOST_GRANTS {
                    let what = "a device is shared with at most 200 people; end another's grant first";
                    return Err(StoreError::Conflict { what });
                }
                let sequence = grants::note_change(c, &device, Some(&user), at).await?;
                grants::insert(c, &device, &user, &grant, sequence, at).await?;
                audit::append(c, &entry, at).await?;
                Ok(sequence)
            })
        })
        .await
    }

    /// Ends a user's right on a device, which is no ownership; as an act of `owner`, or of the user where that is
    /// `None`. Returns the tenant's new grant sequence number, `None` if there was no right.
    pub async fn unshare_device(
        &self,
        device: &DeviceRef,
        owner: Option<&UserId>,
        user: &UserId,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let (device, owner, user) = (device.clone(), owner.cloned(), user.clone());
        let detail = format!("user={user}");
        let entry = AuditEntry::done(by, "grant.remove", devices::object(&device), detail);
        self.write(move |c| {
            Box::pin(async move {
                if let Some(owner) = &owner {
                    require_owner(c, &device, owner, at).await?;
                }
                refuse_owners(c, &device, &user, at).await?;
                let removed = sqlx::query("DELETE FROM grants WHERE tenant = ? AND user = ? AND device = ?")
                    .bind(device.tenant.as_str())
                    .bind(user.as_str())
                    .bind(device.device.as_str())
                    .execute(&mut *c)
                    .await?;
                if removed.rows_affected() == 0 {
                    return Ok(None);
                }
                let sequence = grants::note_change(c, &device, Some(&user), at).await?;
                audit::append(c, &entry, at).await?;
                Ok(Some(sequence))
            })
        })
        .await
    }
}

/// A conflict unless this user owns the device now.
pub(crate) async fn require_owner(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    user: &UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    if is_owner(c, device, user, now).await? {
        Ok(())
    } else {
        Err(StoreError::Conflict { what: "you do not own this device any more" })
    }
}

async fn refuse_owners(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    user: &UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    if is_owner(c, device, user, now).await? {
        let what = "ownership does not end here: release the device, or transfer it";
        return Err(StoreError::Conflict { what });
    }
    Ok(())
}

async fn is_owner(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    user: &UserId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let owner = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM grants WHERE tenant = ? AND user = ? AND device = ? AND level = 'owner'
             AND (until IS NULL OR until > ?))",
    )
    .bind(device.tenant.as_str())
    .bind(user.as_str())
    .bind(device.device.as_str())
    .bind(now.0);
    Ok(owner.fetch_one(c).await?)
}

/// People with a right on one device, where owners decide.
const MOST_GRANTS: i64 = 200;
