//! People, as this cloud knows them: one row per (issuer, subject) of a tenant.

use model::{Actor, TenantName, Timestamp, UserId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, Store, StoreError, audit, column, tenants};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Whose.
    pub tenant: TenantName,
    /// Our name of the user.
    pub id: UserId,
    /// The provider that vouches.
    pub issuer: String,
    /// The provider's name of the user.
    pub subject: String,
    /// The address told at the last sign-in; for showing only.
    pub email: Option<String>,
    /// When the user was first seen.
    pub created_at: Timestamp,
}

impl Store {
    /// The user of an (issuer, subject); made with the `fresh` id at the first sight, once however
    /// many ask together. A changed e-mail address is noted.
    pub async fn find_or_create_user(
        &self,
        tenant: &TenantName,
        issuer: &str,
        subject: &str,
        email: Option<&str>,
        fresh: UserId,
        at: Timestamp,
    ) -> Result<UserRow, StoreError> {
        let key = (tenant.clone(), issuer.to_owned(), subject.to_owned());
        let email = email.map(str::to_owned);
        let (read_key, known_email) = (key.clone(), email.clone());
        let known = self
            .read(move |c| {
                Box::pin(async move { by_subject(c, &read_key.0, &read_key.1, &read_key.2).await })
            })
            .await?;
        if let Some(known) = known
            && (known_email.is_none() || known.email == known_email)
        {
            return Ok(known);
        }
        self.write(move |c| {
            Box::pin(async move {
                let (tenant, issuer, subject) = key;
                if let Some(mut known) = by_subject(c, &tenant, &issuer, &subject).await? {
                    if email.is_some() && known.email != email {
                        sqlx::query("UPDATE users SET email = ? WHERE tenant = ? AND id = ?")
                            .bind(&email)
                            .bind(tenant.as_str())
                            .bind(known.id.as_str())
                            .execute(c)
                            .await?;
                        known.email = email;
                    }
                    return Ok(known);
                }
                let user = UserRow { tenant, id: fresh, issuer, subject, email, created_at: at };
                insert(c, &user).await?;
                Ok(user)
            })
        })
        .await
    }

    /// A user by our name.
    pub async fn user(&self, tenant: &TenantName, id: &UserId) -> Result<Option<UserRow>, StoreError> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query("SELECT * FROM users WHERE tenant = ? AND id = ?")
                    .bind(tenant.as_str())
                    .bind(id.as_str())
                    .fetch_optional(c)
                    .await?;
                row.as_ref().map(user_row).transpose()
            })
        })
        .await
    }
}

async fn insert(c: &mut SqliteConnection, user: &UserRow) -> Result<(), StoreError> {
    tenants::require(c, &user.tenant).await?;
    sqlx::query(
        "INSERT INTO users (tenant, id, issuer, subject, email, created_at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(user.tenant.as_str())
    .bind(user.id.as_str())
    .bind(&user.issuer)
    .bind(&user.subject)
    .bind(&user.email)
    .bind(user.created_at.0)
    .execute(&mut *c)
    .await?;
    let object = format!("user:{}/{}", user.tenant, user.id);
    let detail = format!("issuer={}", user.issuer);
    audit::append(c, &AuditEntry::done(&Actor::System, "user.create", object, detail), user.created_at)
        .await?;
    Ok(())
}

/// The user of a subject; none of a tenant that is being deleted.
async fn by_subject(
    c: &mut SqliteConnection,
    tenant: &TenantName,
    issuer: &str,
    subject: &str,
) -> Result<Option<UserRow>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM users WHERE tenant = ? AND issuer = ? AND subject = ?
         AND tenant IN (SELECT name FROM tenants WHERE deleting_at IS NULL)",
    )
    .bind(tenant.as_str())
    .bind(issuer)
    .bind(subject)
    .fetch_optional(c)
    .await?;
    row.as_ref().map(user_row).transpose()
}

fn user_row(row: &SqliteRow) -> Result<UserRow, StoreError> {
    Ok(UserRow {
        tenant: column::text(row, "tenant")?,
        id: column::text(row, "id")?,
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        email: row.try_get("email")?,
        created_at: column::time(row, "created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn fifty_first_calls_at_once_make_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tcpmux.db")).await.unwrap();
        let tenant = TenantName::default();
        let calls = (0..50_u8).map(|n| {
            let fresh = UserId::from_random([n; 16]);
            store.find_or_create_user(&tenant, "https://idp", "alice", Some("a@x"), fresh, Timestamp(1))
        });
        let users: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        assert!(users.iter().all(|user| user == &users[0]));
        assert_eq!(store.audit(0, 100).await.unwrap().len(), 1);
        assert_eq!(store.user(&tenant, &users[0].id).await.unwrap().as_ref(), Some(&users[0]));
    }

    #[tokio::test]
    async fn the_same_subject_of_another_issuer_or_tenant_is_another_user() {
        let store = Store::in_memory().await.unwrap();
        let (default, acme): (TenantName, TenantName) = (TenantName::default(), "acme".parse().unwrap());
        store.create_tenant(&acme, &Actor::System, Timestamp(0)).await.unwrap();
        let mut ids = std::collections::HashSet::new();
        for (number, (tenant, issuer)) in
            [(&default, "https://a"), (&default, "https://b"), (&acme, "https://a")].into_iter().enumerate()
        {
            let fresh = UserId::from_random([number as u8; 16]);
            let user =
                store.find_or_create_user(tenant, issuer, "s", None, fresh, Timestamp(1)).await.unwrap();
            assert!(ids.insert(user.id.clone()));
            let elsewhere = if tenant == &default { &acme } else { &default };
            assert_eq!(store.user(elsewhere, &user.id).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn no_sign_in_makes_a_tenant() {
        let store = Store::in_memory().await.unwrap();
        let nobody: TenantName = "nobody".parse().unwrap();
        let fresh = UserId::from_random([1; 16]);
        let refused = store.find_or_create_user(&nobody, "https://a", "s", None, fresh, Timestamp(1)).await;
        assert!(matches!(refused, Err(StoreError::NotFound("tenant"))));
    }
}
