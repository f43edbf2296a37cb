//! The devices that a person may reach, found by what people know of them.

use model::{DeviceId, Grant, Tag, TenantName, Timestamp, UserId};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use crate::{DeviceRow, Store, StoreError, column, devices, grants};

/// A device that somebody may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// The device.
    pub device: DeviceRow,
    /// What the user may do there.
    pub grant: Grant,
    /// Who owns it.
    pub owner: Option<UserId>,
}

/// Which devices are wanted.
#[derive(Debug, Clone, Default)]
pub struct Sought {
    /// This one alone.
    pub device: Option<DeviceId>,
    /// Those after this one.
    pub after: Option<DeviceId>,
    /// Those with this in their id, their name or a tag, in lower case.
    pub text: Option<String>,
    /// Those with this tag.
    pub tag: Option<Tag>,
}

impl Store {
    /// The devices on which a user has a grant that lives at `at`, by id, at most `limit`.
    pub async fn devices_of_user(
        &self,
        tenant: &TenantName,
        user: &UserId,
        sought: Sought,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Reachable>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| {
            Box::pin(async move {
                let rows = query(&tenant, &user, &sought, at, limit).build().fetch_all(c).await?;
                rows.iter().map(reachable).collect()
            })
        })
        .await
    }

    /// One of them.
    pub async fn device_of_user(
        &self,
        tenant: &TenantName,
        user: &UserId,
        device: &DeviceId,
        at: Timestamp,
    ) -> Result<Option<Reachable>, StoreError> {
        let sought = Sought { device: Some(device.clone()), ..Sought::default() };
        Ok(self.devices_of_user(tenant, user, sought, at, 1).await?.pop())
    }
}

fn query(
    tenant: &TenantName,
    user: &UserId,
    sought: &Sought,
    at: Timestamp,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT d.*, g.level AS level, g.services AS granted, g.until AS until,
             (SELECT o.user FROM grants o WHERE o.tenant = d.tenant AND o.device = d.id AND o.level = 'owner'
                  AND (o.until IS NULL OR o.until > ",
    );
    query.push_bind(at.0);
    query.push(") ORDER BY o.user LIMIT 1) AS owner FROM grants g JOIN devices d ON d.tenant = g.tenant AND d.id = g.device WHERE g.tenant = ");
    query.push_bind(tenant.as_str().to_owned());
    query.push(" AND g.user = ").push_bind(user.as_str().to_owned());
    query.push(" AND (g.until IS NULL OR g.until > ").push_bind(at.0).push(")");
    if let Some(device) = &sought.device {
        query.push(" AND g.device = ").push_bind(device.as_str().to_owned());
    }
    if let Some(after) = &sought.after {
        query.push(" AND g.device > ").push_bind(after.as_str().to_owned());
    }
    if let Some(text) = &sought.text {
        // Found as it is written: nothing in it is a pattern.
        for (word, column) in [(" AND (", "d.id"), (" OR ", "d.folded"), (" OR ", "d.tags")] {
            query
                .push(word)
                .push(format!("instr(coalesce({column}, ''), "))
                .push_bind(text.clone())
                .push(") > 0");
        }
        query.push(")");
    }
    if let Some(tag) = &sought.tag {
        query
            .push(" AND instr(' ' || coalesce(d.tags, '') || ' ', ")
            .push_bind(format!(" {tag} "))
            .push(") > 0");
    }
    query.push(" ORDER BY g.device LIMIT ").push_bind(limit);
    query
}

fn reachable(row: &SqliteRow) -> Result<Reachable, StoreError> {
    Ok(Reachable {
        device: devices::device_row(row)?,
        grant: grants::grant_with_services(row, "granted")?,
        owner: column::optional_text(row, "owner")?,
    })
}
