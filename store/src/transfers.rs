//! Handing a device on: offered by its owner, accepted by another user of the tenant.

use model::{Actor, DeviceRef, Grant, Level, ServiceSet, TenantName, Timestamp, UserId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, Store, StoreError, audit, claims, column, devices, events, grants, ownership};

/// An offer that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRow {
    /// Its name, as in `tr_…`.
    pub id: String,
    /// Which device.
    pub device: DeviceRef,
    /// Its owner.
    pub from: UserId,
    /// Who may accept.
    pub to: UserId,
    /// When it was made.
    pub offered_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// What became of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It stands.
    Made,
    /// The one who offers does not own the device.
    NotOwner,
    /// There is no such user in the tenant.
    NoSuchUser,
}

/// A device that has changed hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// The offer that was accepted.
    pub offer: TransferRow,
    /// Everybody who had a grant before.
    pub users: Vec<UserId>,
    /// The tenant's grant sequence number of the change that ended every grant.
    pub ended_sequence: u64,
    /// That of the new owner's grant.
    pub grant_sequence: u64,
}

impl Store {
    /// Makes an offer, in place of any that the device has.
    pub async fn offer_transfer(&self, offer: TransferRow, by: &Actor) -> Result<Offer, StoreError> {
        let by = by.clone();
        self.write(move |c| {
            Box::pin(async move {
                let TransferRow { id, device, from, to, offered_at: at, expires_at } = offer;
                if ownership::owner(c, &device, at).await?.as_ref() != Some(&from) {
                    return Ok(Offer::NotOwner);
                }
                if !grants::is_user(c, &device.tenant, &to).await? {
                    return Ok(Offer::NoSuchUser);
                }
                forget_device(c, &device).await?;
                sqlx::query(
                    "INSERT INTO transfers (tenant, device, id, from_user, to_user, offered_at, expires_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(device.tenant.as_str())
                .bind(device.device.as_str())
                .bind(id)
                .bind(from.as_str())
                .bind(to.as_str())
                .bind(at.0)
                .bind(expires_at.0)
                .execute(&mut *c)
                .await?;
                let entry =
                    AuditEntry::done(&by, "transfer.offer", devices::object(&device), format!("to={to}"));
                audit::append(c, &entry, at).await?;
                Ok(Offer::Made)
            })
        })
        .await
    }

    /// The offers that a user made or may accept, newest first. At most as many as devices were offered.
    pub async fn transfers_of_user(
        &self,
        tenant: &TenantName,
        user: &UserId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<TransferRow>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT * FROM transfers WHERE tenant = ? AND (from_user = ? OR to_user = ?)
                     AND expires_at > ? ORDER BY offered_at DESC, id LIMIT ?",
                )
                .bind(tenant.as_str())
                .bind(user.as_str())
                .bind(user.as_str())
                .bind(now.0)
                .bind(limit)
                .fetch_all(c)
                .await?;
                rows.iter().map(transfer_row).collect()
            })
        })
        .await
    }

    /// Hands the device on to the user to whom it was offered: every grant ends, the new owner's begins. `None` if no
    /// such offer to this user stands, or its maker does not own the device any more.
    pub async fn accept_transfer(
        &self,
        tenant: &TenantName,
        id: &str,
        user: &UserId,
        by: &Actor,
        at: Timestamp,
    ) -> Result<Option<Transferred>, StoreError> {
        let (tenant, id, user, by) = (tenant.clone(), id.to_owned(), user.clone(), by.clone());
        self.write(move |c| {
            Box::pin(async move {
                let offer = standing(c, &tenant, &id, at).await?;
                let Some(offer) = offer.filter(|offer| offer.to == user) else { return Ok(None) };
                let device = &offer.device;
                if ownership::owner(c, device, at).await?.as_ref() != Some(&offer.from) {
                    return Ok(None);
                }
                let (users, ended_sequence) = ownership::end_all(c, device, at).await?;
                events::append(c, &ownership::released(device, &offer.from, "transfer", at), at).await?;
                let grant = Grant { level: Level::Owner, services: ServiceSet::all(), until: None };
                let grant_sequence = grants::note_change(c, device, Some(&user), at).await?;
                grants::insert(c, device, &user, &grant, grant_sequence, at).await?;
                events::append(c, &claims::claimed(device, &user, at), at).await?;
                let detail = format!("from={} to={user}", offer.from);
                let entry = AuditEntry::done(&by, "transfer.accept", devices::object(device), detail);
                audit::append(c, &entry, at).await?;
                Ok(Some(Transferred { offer, users, ended_sequence, grant_sequence }))
            })
        })
        .await
    }

    /// Ends an offer that this user made or was made. False if there is none.
    pub async fn end_transfer(
        &self,
        tenant: &TenantName,
        id: &str,
        user: &UserId,
        by: &Actor,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (tenant, id, user, by) = (tenant.clone(), id.to_owned(), user.clone(), by.clone());
        self.write(move |c| {
            Box::pin(async move {
                let offer = standing(c, &tenant, &id, at).await?;
                let mine = |offer: &TransferRow| offer.from == user || offer.to == user;
                let Some(offer) = offer.filter(mine) else { return Ok(false) };
                forget_device(c, &offer.device).await?;
                let action = if offer.from == user { "transfer.withdraw" } else { "transfer.decline" };
                let detail = format!("from={} to={}", offer.from, offer.to);
                let entry = AuditEntry::done(&by, action, devices::object(&offer.device), detail);
                audit::append(c, &entry, at).await?;
                Ok(true)
            })
        })
        .await
    }
}

/// Deletes the offer of a device.
pub(crate) async fn forget_device(c: &mut SqliteConnection, device: &DeviceRef) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM transfers WHERE tenant = ? AND device = ?")
        .bind(device.tenant.as_str())
        .bind(device.device.as_str())
        .execute(c)
        .await?;
    Ok(())
}

async fn standing(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    id: &str,
    now: Timestamp,
) -> Result<Option<TransferRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM transfers WHERE tenant = ? AND id = ? AND expires_at > ?")
        .bind(tenant.as_str())
        .bind(id)
        .bind(now.0)
        .fetch_optional(c)
        .await?;
    row.as_ref().map(transfer_row).transpose()
}

fn transfer_row(row: &SqliteRow) -> Result<TransferRow, StoreError> {
    Ok(TransferRow {
        id: row.try_get("id")?,
        device: DeviceRef::new(column::text(row, "tenant")?, column::text(row, "device")?),
        from: column::text(row, "from_user")?,
        to: column::text(row, "to_user")?,
        offered_at: column::time(row, "offered_at")?,
        expires_at: column::time(row, "expires_at")?,
    })
}
