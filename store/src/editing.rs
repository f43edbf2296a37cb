//! What people may change of a device: its name and its tags, and nothing else.

use model::{Actor, DeviceName, DeviceRef, Tag, Timestamp, UserId};

use crate::{AuditEntry, DeviceRow, Store, StoreError, audit, devices, sharing};

/// A change; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceEdit {
    /// Another name, or none.
    pub name: Option<Option<DeviceName>>,
    /// Other tags in place of all that are there.
    pub tags: Option<Vec<Tag>>,
}

impl Store {
    /// Changes a device that a user owns, if it is still at this revision, and returns it as it is then; `None`
    /// if somebody was faster.
    pub async fn edit_device(
        &self,
        device: &DeviceRef,
        owner: &UserId,
        edit: DeviceEdit,
        revision: u64,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Option<DeviceRow>, StoreError> {
        let (device, owner) = (device.clone(), owner.clone());
        let entry = AuditEntry::done(by, "device.edit", devices::object(&device), "");
        self.write(move |c| {
            Box::pin(async move {
                sharing::require_owner(c, &device, &owner, at).await?;
                let DeviceEdit { name, tags } = edit;
                let tags = tags.map(|tags| tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" "));
                let row = sqlx::query(
                    "UPDATE devices SET revision = revision + 1,
                         name = CASE WHEN ?1 THEN ?2 ELSE name END,
                         folded = CASE WHEN ?1 THEN ?3 ELSE folded END,
                         tags = coalesce(?4, tags)
                     WHERE tenant = ?5 AND id = ?6 AND revision = ?7 RETURNING *",
                )
                .bind(name.is_some())
                .bind(name.as_ref().and_then(|name| name.as_ref().map(DeviceName::as_str)))
                .bind(name.as_ref().and_then(|name| name.as_ref().map(|name| name.as_str().to_lowercase())))
                .bind(tags)
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .bind(i64::try_from(revision).unwrap_or(i64::MAX))
                .fetch_optional(&mut *c)
                .await?;
                let Some(row) = row else { return Ok(None) };
                audit::append(c, &entry, at).await?;
                devices::device_row(&row).map(Some)
            })
        })
        .await
    }
}
