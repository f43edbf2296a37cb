//! Giving a device up: the owner's grant ends, and with it everything that hung on it.

use model::{Actor, DeviceRef, Timestamp, UserId};
use serde_json::json;
use sqlx::SqliteConnection;

use crate::{
    AuditEntry, NewEvent, Store, StoreError, audit, claims, column, devices, events, grants, transfers,
};

/// What ended with an ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Who owned the device.
    pub owner: UserId,
    /// Everybody who had a grant on it, the owner among them.
    pub users: Vec<UserId>,
    /// The tenant's grant sequence number of the one change that ended every grant.
    pub grant_sequence: u64,
}

impl Store {
    /// Ends the ownership of a device and every grant on it; what people wrote about it goes too. `of` is who must
    /// own it, where that matters. `None` if nobody does, or somebody else.
    pub async fn release_device(
        &self,
        device: &DeviceRef,
        of: Option<&UserId>,
        why: &'static str,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Option<Released>, StoreError> {
        let (device, of, by) = (device.clone(), of.cloned(), by.clone());
        self.write(move |c| {
            Box::pin(async move {
                let owner = owner(c, &device, at).await?;
                let Some(owner) = owner.filter(|owner| of.is_none_or(|of| of == *owner)) else {
                    return Ok(None);
                };
                let (users, grant_sequence) = end_all(c, &device, at).await?;
                let detail = format!("user={owner} why={why}");
                let entry = AuditEntry::done(&by, "device.release", devices::object(&device), detail);
                audit::append(c, &entry, at).await?;
                events::append(c, &released(&device, &owner, why, at), at).await?;
                Ok(Some(Released { owner, users, grant_sequence }))
            })
        })
        .await
    }
}

/// Who owns a device now.
pub(crate) async fn owner(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    now: Timestamp,
) -> Result<Option<UserId>, StoreError> {
    let row = sqlx::query(
        "SELECT user FROM grants WHERE tenant = ? AND device = ? AND level = 'owner'
         AND (until IS NULL OR until > ?) ORDER BY changed_at, user LIMIT 1",
    )
    .bind(device.tenant.as_str())
    .bind(device.device.as_str())
    .bind(now.0)
    .fetch_optional(c)
    .await?;
    row.map(|row| column::text(&row, "user")).transpose()
}

/// Ends every grant on a device, and the offers, the code and the names that its people gave it. Returns who had a
/// grant and the number of the change.
pub(crate) async fn end_all(
    c: &mut SqliteConnection,
    device: &DeviceRef,
    at: Timestamp,
) -> Result<(Vec<UserId>, u64), StoreError> {
    let rows = sqlx::query("DELETE FROM grants WHERE tenant = ? AND device = ? RETURNING user")
        .bind(device.tenant.as_str())
        .bind(device.device.as_str())
        .fetch_all(&mut *c)
        .await?;
    let users: Result<Vec<UserId>, StoreError> = rows.iter().map(|row| column::text(row, "user")).collect();
    transfers::forget_device(c, device).await?;
    claims::forget_device(c, device).await?;
    devices::forget_words(c, device).await?;
    Ok((users?, grants::note_change(c, device, None, at).await?))
}

/// That a device's owner has let it go. What was logged of it before is not shown to those who come after.
pub(crate) fn released(device: &DeviceRef, owner: &UserId, why: &str, at: Timestamp) -> NewEvent {
    let event = NewEvent { user: Some(owner.clone()), ..NewEvent::of_device(device, "device.released", at) };
    event.with(json!({ "owner": owner, "why": why }))
}
