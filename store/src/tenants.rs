//! Tenants. `default` is always there. A tenant that is being deleted is no tenant any more for everybody but
//! `deleting.rs`, which takes away what is left of it.

use model::{Actor, TenantName, Timestamp};
use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, NewEvent, Store, StoreError, audit, column, events};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its name.
    pub name: TenantName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is being deleted; then it is served no more.
    pub deleting_at: Option<Timestamp>,
}

impl Store {
    /// Every tenant, by name, also those being deleted.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM tenants ORDER BY name").fetch_all(c).await?;
                rows.iter().map(tenant_row).collect()
            })
        })
        .await
    }

    /// Whether there is such a tenant, and it is not being deleted.
    pub async fn tenant_exists(&self, name: &TenantName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.read(move |c| Box::pin(async move { exists(c, &name).await })).await
    }

    /// Makes a tenant; a conflict if there is one of that name. Returns the grant sequence that it begins with:
    /// a token with an older one is of an earlier tenant of that name.
    pub async fn create_tenant(
        &self,
        name: &TenantName,
        by: &Actor,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let (name, entry) = (name.clone(), AuditEntry::done(by, "tenant.create", object(name), ""));
        self.write(move |c| {
            Box::pin(async move {
                if let Some(known) = by_name(c, &name).await? {
                    return Err(StoreError::Conflict {
                        what: match known.deleting_at {
                            None => "there is a tenant of that name",
                            Some(_) => "the tenant of that name is still being deleted; try again later",
                        },
                    });
                }
                let first: i64 = sqlx::query_scalar(
                    "INSERT INTO tenants (name, created_at, grant_sequence, first_sequence)
                     SELECT ?, ?, value, value FROM (SELECT coalesce(max(value), 0) AS value FROM counters WHERE name = ?)
                     RETURNING first_sequence",
                )
                .bind(name.as_str())
                .bind(at.0)
                .bind(FIRST_SEQUENCE)
                .fetch_one(&mut *c)
                .await?;
                events::append(c, &announcement(&name, "tenant.created", at), at).await?;
                audit::append(c, &entry, at).await?;
                column::number("first_sequence", first)
            })
        })
        .await
    }

    /// The tenants that were not the first of their name, with the grant sequence that they began with.
    pub async fn first_sequences(&self) -> Result<Vec<(TenantName, u64)>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT name, first_sequence FROM tenants WHERE first_sequence > 0");
                let rows = rows.fetch_all(c).await?;
                let pair = |row: &SqliteRow| {
                    let first = column::number("first_sequence", row.try_get("first_sequence")?)?;
                    Ok((column::text(row, "name")?, first))
                };
                rows.iter().map(pair).collect()
            })
        })
        .await
    }
}

/// How audit rows name a tenant.
pub(crate) fn object(name: &TenantName) -> String {
    format!("tenant:{name}")
}

/// That a tenant came or went: in the log of `default`, since its own begins after it and ends before it. It
/// concerns no device, so that only operators are shown it.
pub(crate) fn announcement(name: &TenantName, subject: &str, at: Timestamp) -> NewEvent {
    NewEvent {
        tenant: TenantName::default(),
        subject: subject.into(),
        device: None,
        user: None,
        at,
        source_id: None,
        data: json!({ "tenant": name }),
    }
}

/// A tenant, also one that is being deleted.
pub(crate) async fn by_name(
    c: &mut SqliteConnection,
    name: &TenantName,
) -> Result<Option<TenantRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM tenants WHERE name = ?").bind(name.as_str());
    row.fetch_optional(c).await?.as_ref().map(tenant_row).transpose()
}

/// Whether there is such a tenant, and it is not being deleted.
pub(crate) async fn exists(c: &mut SqliteConnection, name: &TenantName) -> Result<bool, StoreError> {
    Ok(by_name(c, name).await?.is_some_and(|tenant| tenant.deleting_at.is_none()))
}

/// Fails where there is no such tenant.
pub(crate) async fn require(c: &mut SqliteConnection, name: &TenantName) -> Result<(), StoreError> {
    if exists(c, name).await? { Ok(()) } else { Err(StoreError::NotFound("tenant")) }
}

fn tenant_row(row: &SqliteRow) -> Result<TenantRow, StoreError> {
    Ok(TenantRow {
        name: column::text(row, "name")?,
        created_at: column::time(row, "created_at")?,
        deleting_at: column::optional_time(row, "deleting_at")?,
    })
}

/// The counter with the grant sequence that the next tenant begins with: past those of all that were deleted.
pub(crate) const FIRST_SEQUENCE: &str = "tenant.first_sequence";

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(5);

    #[tokio::test]
    async fn the_default_tenant_is_there() {
        let store = Store::in_memory().await.unwrap();
        assert!(store.tenant_exists(&TenantName::default()).await.unwrap());
        let made = store.tenants().await.unwrap()[0].created_at;
        assert!(made > Timestamp::from_secs(1_700_000_000), "as old as its database: {made:?}");
    }

    #[tokio::test]
    async fn a_tenant_is_made_once_with_an_audit_row() {
        let store = Store::in_memory().await.unwrap();
        let acme: TenantName = "acme".parse().unwrap();
        assert_eq!(store.create_tenant(&acme, &Actor::System, AT).await.unwrap(), 0);
        let twice = store.create_tenant(&acme, &Actor::System, AT).await;
        assert!(matches!(twice, Err(StoreError::Conflict { .. })));
        assert_eq!(store.tenants().await.unwrap().len(), 2);
        let actions: Vec<_> = store.audit(0, 10).await.unwrap().into_iter().map(|r| r.action).collect();
        assert_eq!(actions, ["tenant.create"]);
        assert_eq!(store.first_sequences().await.unwrap(), []);
    }
}
