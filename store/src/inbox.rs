//! What people were told: one row a user and notification. What a user may not see any more is not shown.

use model::{DeviceId, TenantName, Timestamp, UserId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Store, StoreError, column};

/// A notification in somebody's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// The number of its event.
    pub sequence: u64,
    /// From which device; `None` for a notice of the cloud itself.
    pub device: Option<DeviceId>,
    /// When it happened.
    pub at: Timestamp,
    /// The event's data, as JSON.
    pub data: String,
    /// When it was read.
    pub read_at: Option<Timestamp>,
}

/// Which rows of an inbox are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct InboxQuery {
    /// Events after this number alone.
    pub after: u64,
    /// Events before this number alone: the page after a page, newest first.
    pub before: Option<u64>,
    /// Those that were not read.
    pub unread: bool,
    /// The oldest first; the newest first otherwise.
    pub oldest_first: bool,
    /// How many.
    pub limit: u32,
}

impl Store {
    /// A user's inbox, as far as the user may reach the devices now.
    pub async fn inbox(
        &self,
        tenant: &TenantName,
        user: &UserId,
        query: InboxQuery,
        now: Timestamp,
    ) -> Result<Vec<InboxRow>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| {
            Box::pin(async move {
                let order = if query.oldest_first { LISTED_OLDEST_FIRST } else { LISTED };
                let rows = sqlx::query(order)
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .bind(now.0)
                    .bind(whole(query.after))
                    .bind(query.before.map_or(i64::MAX, whole))
                    .bind(query.unread)
                    .bind(query.limit)
                    .fetch_all(c)
                    .await?;
                rows.iter().map(inbox_row).collect()
            })
        })
        .await
    }

    /// Notes that a user has read a notification, once for ever; false if the user sees no such.
    pub async fn note_read(
        &self,
        tenant: &TenantName,
        user: &UserId,
        sequence: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.write(move |c| {
            Box::pin(async move {
                let noted = sqlx::query(READ)
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .bind(now.0)
                    .bind(whole(sequence))
                    .execute(c)
                    .await?;
                Ok(noted.rows_affected() == 1)
            })
        })
        .await
    }

    /// Forgets notifications that were filed before a moment, some at a time; how many.
    pub async fn forget_old_notifications(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let forgotten = sqlx::query(
                    "DELETE FROM inbox WHERE (tenant, user, sequence) IN
                     (SELECT tenant, user, sequence FROM inbox WHERE filed_at < ? LIMIT 500)",
                )
                .bind(before.0)
                .execute(c)
                .await?;
                Ok(forgotten.rows_affected())
            })
        })
        .await
    }
}

/// A device changed hands or went: nobody is told any more what it said before.
pub(crate) async fn forget_device(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    device: &DeviceId,
    before: u64,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM inbox WHERE tenant = ? AND device = ? AND sequence < ?",
        "DELETE FROM deliveries WHERE tenant = ? AND device = ? AND event < ? AND type <> 'grant.changed'",
    ] {
        sqlx::query(statement)
            .bind(tenant.as_str())
            .bind(device.as_str())
            .bind(whole(before))
            .execute(&mut *c)
            .await?;
    }
    Ok(())
}

fn inbox_row(row: &SqliteRow) -> Result<InboxRow, StoreError> {
    Ok(InboxRow {
        sequence: column::number("sequence", row.try_get("sequence")?)?,
        device: column::optional_text(row, "device")?,
        at: column::time(row, "at")?,
        data: row.try_get("data")?,
        read_at: column::optional_time(row, "read_at")?,
    })
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const LISTED: &str = "SELECT * FROM inbox i WHERE i.tenant = ?1 AND i.user = ?2
    AND (i.device IS NULL OR EXISTS (SELECT 1 FROM grants g WHERE g.tenant = i.tenant AND g.user = i.user
        AND g.device = i.device AND (g.until IS NULL OR g.until > ?3)))
    AND i.sequence > coalesce((SELECT f.seq FROM event_floors f WHERE f.tenant = i.tenant AND f.device = i.device), 0)
    AND i.sequence > ?4 AND i.sequence < ?5 AND (NOT ?6 OR i.read_at IS NULL) ORDER BY i.sequence DESC LIMIT ?7";
const LISTED_OLDEST_FIRST: &str = "SELECT * FROM inbox i WHERE i.tenant = ?1 AND i.user = ?2
    AND (i.device IS NULL OR EXISTS (SELECT 1 FROM grants g WHERE g.tenant = i.tenant AND g.user = i.user
        AND g.device = i.device AND (g.until IS NULL OR g.until > ?3)))
    AND i.sequence > coalesce((SELECT f.seq FROM event_floors f WHERE f.tenant = i.tenant AND f.device = i.device), 0)
    AND i.sequence > ?4 AND i.sequence < ?5 AND (NOT ?6 OR i.read_at IS NULL) ORDER BY i.sequence LIMIT ?7";
const READ: &str = "UPDATE inbox SET read_at = coalesce(read_at, ?3) WHERE tenant = ?1 AND user = ?2 AND sequence = ?4
    AND (device IS NULL OR EXISTS (SELECT 1 FROM grants g WHERE g.tenant = inbox.tenant AND g.user = inbox.user
        AND g.device = inbox.device AND (g.until IS NULL OR g.until > ?3)))";
