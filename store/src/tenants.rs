//! Tenants. `default` is always there.

use model::{Actor, TenantName, Timestamp};
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::{AuditEntry, Store, StoreError, audit, column, events};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantRow {
    /// Its name.
    pub name: TenantName,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// Every tenant, by name.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let rows =
                    sqlx::query("SELECT name, created_at FROM tenants ORDER BY name").fetch_all(c).await?;
                let tenant = |row| {
                    Ok(TenantRow {
                        name: column::text(row, "name")?,
                        created_at: column::time(row, "created_at")?,
                    })
                };
                rows.iter().map(tenant).collect()
            })
        })
        .await
    }

    /// Whether there is such a tenant.
    pub async fn tenant_exists(&self, name: &TenantName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.read(move |c| Box::pin(async move { exists(c, &name).await })).await
    }

    /// Makes a tenant; a conflict if there is one of that name.
    pub async fn create_tenant(
        &self,
        name: &TenantName,
        by: &Actor,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (name, entry) =
            (name.clone(), AuditEntry::done(by, "tenant.create", format!("tenant:{name}"), ""));
        self.write(move |c| {
            Box::pin(async move {
                let made = sqlx::query(
                    "INSERT INTO tenants (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(name.as_str())
                .bind(at.0)
                .execute(&mut *c)
                .await?;
                if made.rows_affected() == 0 {
                    return Err(StoreError::Conflict { what: "there is a tenant of that name" });
                }
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }

    /// Removes a tenant that has neither devices nor users, with its passcodes. `default` stays.
    pub async fn remove_tenant(
        &self,
        name: &TenantName,
        by: &Actor,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (name, entry) =
            (name.clone(), AuditEntry::done(by, "tenant.remove", format!("tenant:{name}"), ""));
        self.write(move |c| {
            Box::pin(async move {
                if name == TenantName::default() {
                    return Err(StoreError::Conflict { what: "the default tenant stays" });
                }
                if !exists(c, &name).await? {
                    return Err(StoreError::NotFound("tenant"));
                }
                let name = name.as_str();
                let devices = "SELECT EXISTS (SELECT 1 FROM devices WHERE tenant = ?)";
                if sqlx::query_scalar::<_, bool>(devices).bind(name).fetch_one(&mut *c).await? {
                    return Err(StoreError::Conflict { what: "the tenant has devices; remove them first" });
                }
                let users = "SELECT EXISTS (SELECT 1 FROM users WHERE tenant = ?)";
                if sqlx::query_scalar::<_, bool>(users).bind(name).fetch_one(&mut *c).await? {
                    return Err(StoreError::Conflict { what: "the tenant has users" });
                }
                sqlx::query("DELETE FROM passcodes WHERE tenant = ?").bind(name).execute(&mut *c).await?;
                events::forget_tenant(c, name).await?;
                sqlx::query("DELETE FROM tenants WHERE name = ?").bind(name).execute(&mut *c).await?;
                audit::append(c, &entry, at).await.map(drop)
            })
        })
        .await
    }
}

pub(crate) async fn exists(c: &mut SqliteConnection, name: &TenantName) -> Result<bool, StoreError> {
    let found =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tenants WHERE name = ?)").bind(name.as_str());
    Ok(found.fetch_one(c).await?)
}

/// Fails where there is no such tenant.
pub(crate) async fn require(c: &mut SqliteConnection, name: &TenantName) -> Result<(), StoreError> {
    if exists(c, name).await? { Ok(()) } else { Err(StoreError::NotFound("tenant")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(5);

    #[tokio::test]
    async fn the_default_tenant_is_there_and_stays() {
        let store = Store::in_memory().await.unwrap();
        let default = TenantName::default();
        assert!(store.tenant_exists(&default).await.unwrap());
        let made = store.tenants().await.unwrap()[0].created_at;
        assert!(made > Timestamp::from_secs(1_700_000_000), "as old as its database: {made:?}");
        let kept = store.remove_tenant(&default, &Actor::System, AT).await;
        assert!(matches!(kept, Err(StoreError::Conflict { .. })));
    }

    #[tokio::test]
    async fn a_tenant_is_made_once_and_removed_once_with_an_audit_row_each() {
        let store = Store::in_memory().await.unwrap();
        let acme: TenantName = "acme".parse().unwrap();
        store.create_tenant(&acme, &Actor::System, AT).await.unwrap();
        let twice = store.create_tenant(&acme, &Actor::System, AT).await;
        assert!(matches!(twice, Err(StoreError::Conflict { .. })));
        assert_eq!(store.tenants().await.unwrap().len(), 2);
        store.remove_tenant(&acme, &Actor::System, AT).await.unwrap();
        let gone = store.remove_tenant(&acme, &Actor::System, AT).await;
        assert!(matches!(gone, Err(StoreError::NotFound("tenant"))));
        let actions: Vec<_> = store.audit(0, 10).await.unwrap().into_iter().map(|r| r.action).collect();
        assert_eq!(actions, ["tenant.create", "tenant.remove"]);
    }
}
