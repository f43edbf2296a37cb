//! Deleting a tenant: first it is none any more, then what it held goes in small steps, its row last.
//!
//! Which tables hold something of a tenant is read from the schema, so that a table that is added later is
//! among them. Kept are its certificates, revoked ones, and what the audit log says of it: lists of revoked
//! certificates and auditors need them after it.

use std::collections::BTreeSet;

use model::{Actor, TenantName, Timestamp};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::{AuditEntry, Store, StoreError, audit, events, tenants};

impl Store {
    /// Marks a tenant as being deleted: from here on nobody enrols, signs in or claims in it. False if it was
    /// marked before. `default` stays.
    pub async fn begin_tenant_deletion(
        &self,
        name: &TenantName,
        by: &Actor,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (name, actor) = (name.clone(), by.audit_name());
        self.write(move |c| {
            Box::pin(async move {
                if name == TenantName::default() {
                    return Err(StoreError::Conflict { what: "the default tenant stays" });
                }
                let tenant = tenants::by_name(c, &name).await?.ok_or(StoreError::NotFound("tenant"))?;
                if tenant.deleting_at.is_some() {
                    return Ok(false);
                }
                sqlx::query("UPDATE tenants SET deleting_at = ?, deleting_by = ? WHERE name = ?")
                    .bind(at.0)
                    .bind(&actor)
                    .bind(name.as_str())
                    .execute(&mut *c)
                    .await?;
                audit::append(c, &entry(actor, &name, "begun"), at).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Takes away at most so many rows of a tenant that is being deleted, in one transaction; those that others
    /// refer to come last. Returns how many; 0 once nothing is left.
    pub async fn purge_tenant(&self, name: &TenantName, at_most: u32) -> Result<u64, StoreError> {
        let name = name.clone();
        self.write(move |c| {
            Box::pin(async move {
                require_deleting(c, &name).await?;
                for table in tables(c).await? {
                    let gone = sqlx::query(AssertSqlSafe(table.deletion()))
                        .bind(name.as_str())
                        .bind(at_most)
                        .execute(&mut *c)
                        .await?;
                    if gone.rows_affected() > 0 {
                        return Ok(gone.rows_affected());
                    }
                }
                Ok(0)
            })
        })
        .await
    }

    /// Removes the row of a tenant of which nothing else is left; a conflict while something is.
    pub async fn end_tenant_deletion(&self, name: &TenantName, at: Timestamp) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |c| {
            Box::pin(async move {
                let actor = require_deleting(c, &name).await?;
                for table in tables(c).await? {
                    let left: bool = sqlx::query_scalar(AssertSqlSafe(table.question()))
                        .bind(name.as_str())
                        .fetch_one(&mut *c)
                        .await?;
                    if left {
                        return Err(StoreError::Conflict { what: "something of the tenant is left" });
                    }
                }
                let last: i64 =
                    sqlx::query_scalar("DELETE FROM tenants WHERE name = ? RETURNING grant_sequence")
                        .bind(name.as_str())
                        .fetch_one(&mut *c)
                        .await?;
                sqlx::query(
                    "INSERT INTO counters (name, value) VALUES (?, ?)
                     ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                )
                .bind(tenants::FIRST_SEQUENCE)
                .bind(last + 1)
                .execute(&mut *c)
                .await?;
                events::append(c, &tenants::announcement(&name, "tenant.deleted", at), at).await?;
                audit::append(c, &entry(actor, &name, "ok"), at).await.map(drop)
            })
        })
        .await
    }
}

/// Who ordered the deletion that goes on; a refusal if none does.
async fn require_deleting(c: &mut SqliteConnection, name: &TenantName) -> Result<String, StoreError> {
    let actor =
        sqlx::query_scalar("SELECT deleting_by FROM tenants WHERE name = ? AND deleting_at IS NOT NULL")
            .bind(name.as_str());
    actor.fetch_optional(c).await?.ok_or(StoreError::NotFound("tenant that is being deleted"))
}

fn entry(actor: String, name: &TenantName, outcome: &'static str) -> AuditEntry {
    let object = tenants::object(name);
    AuditEntry { actor, action: "tenant.remove", object, outcome, detail: String::new() }
}

/// A table with rows of tenants. Its words come from the schema, never from a caller.
struct Table {
    name: String,
    /// The columns of its key.
    key: Vec<String>,
    /// The tables that its rows refer to.
    parents: BTreeSet<String>,
}

impl Table {
    /// Takes away at most `?2` rows of the tenant `?1`.
    fn deletion(&self) -> String {
        let (name, key) = (&self.name, self.key.join(", "));
        format!(
            "DELETE FROM \"{name}\" WHERE tenant = ?1 AND ({key}) IN
             (SELECT {key} FROM \"{name}\" WHERE tenant = ?1 LIMIT ?2)"
        )
    }

    /// Whether a row of the tenant `?1` is left.
    fn question(&self) -> String {
        format!("SELECT EXISTS (SELECT 1 FROM \"{}\" WHERE tenant = ?1)", self.name)
    }
}

/// Every table to be purged, each before those that its rows refer to.
async fn tables(c: &mut SqliteConnection) -> Result<Vec<Table>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT t.name FROM pragma_table_list AS t, pragma_table_info (t.name) AS c
         WHERE t.type = 'table' AND t.schema = 'main' AND c.name = 'tenant' ORDER BY t.name",
    )
    .fetch_all(&mut *c)
    .await?;
    let mut waiting = vec![];
    for name in names.into_iter().filter(|name| !KEPT.contains(&name.as_str())) {
        let mut key: Vec<String> = sqlx::query_scalar(
            "SELECT '\"' || name || '\"' FROM pragma_table_info (?) WHERE pk > 0 ORDER BY pk",
        )
        .bind(&name)
        .fetch_all(&mut *c)
        .await?;
        if key.is_empty() {
            key.push("rowid".into());
        }
        let parents = sqlx::query("SELECT \"table\" FROM pragma_foreign_key_list (?)")
            .bind(&name)
            .fetch_all(&mut *c)
            .await?
            .iter()
            .map(|row| row.try_get("table"))
            .collect::<Result<_, _>>()?;
        waiting.push(Table { name, key, parents });
    }
    in_order(waiting)
}

/// Children before parents.
fn in_order(mut waiting: Vec<Table>) -> Result<Vec<Table>, StoreError> {
    let mut ordered = vec![];
    while !waiting.is_empty() {
        let is_referred_to = |table: &Table| {
            waiting.iter().any(|other| other.name != table.name && other.parents.contains(&table.name))
        };
        let Some(free) = waiting.iter().position(|table| !is_referred_to(table)) else {
            let detail = "tables refer to each other in a circle".into();
            return Err(StoreError::Corrupt { what: "schema", detail });
        };
        ordered.push(waiting.remove(free));
    }
    Ok(ordered)
}

/// What outlives its tenant.
const KEPT: [&str; 1] = ["certificates"];

#[cfg(test)]
#[path = "deleting_tests.rs"]
mod tests;
