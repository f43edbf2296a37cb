//! Logins: the browsers in which people are signed in.

use std::time::Duration;

use model::{Actor, TenantName, Timestamp, UserId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{AuditEntry, Store, StoreError, audit, column};

/// SHA-256 of the secret that a browser holds.
pub type BrowserDigest = [u8; 32];

/// A login that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLogin {
    /// Of the secret in the browser's cookie.
    pub digest: BrowserDigest,
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserId,
    /// When it ends, however busy it is.
    pub expires_at: Timestamp,
}

/// A login and the person it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// Of the secret in the browser's cookie.
    pub digest: BrowserDigest,
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserId,
    /// The provider that vouched.
    pub issuer: String,
    /// The provider's name of the user.
    pub subject: String,
    /// For showing only.
    pub email: Option<String>,
    /// When it was last used, roughly.
    pub seen_at: Timestamp,
    /// When it ends, however busy it is.
    pub expires_at: Timestamp,
}

impl Store {
    /// Keeps a login. A user has at most `most`: beyond that the oldest end.
    pub async fn begin_login(
        &self,
        login: NewLogin,
        most: u32,
        by: &Actor,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let object = format!("user:{}/{}", login.tenant, login.user);
        let entry = AuditEntry::done(by, "login.begin", object, "");
        self.write(move |c| {
            Box::pin(async move {
                let insert = "INSERT INTO logins (digest, tenant, user, created_at, seen_at, expires_at)
                              VALUES (?, ?, ?, ?, ?, ?)";
                sqlx::query(insert)
                    .bind(&login.digest[..])
                    .bind(login.tenant.as_str())
                    .bind(login.user.as_str())
                    .bind(at.0)
                    .bind(at.0)
                    .bind(login.expires_at.0)
                    .execute(&mut *c)
                    .await?;
                let beyond = "DELETE FROM logins WHERE digest IN (SELECT digest FROM logins
                              WHERE tenant = ? AND user = ? AND digest <> ?
                              ORDER BY created_at DESC LIMIT -1 OFFSET ?)";
                sqlx::query(beyond)
                    .bind(login.tenant.as_str())
                    .bind(login.user.as_str())
                    .bind(&login.digest[..])
                    .bind(i64::from(most.saturating_sub(1)))
                    .execute(&mut *c)
                    .await?;
                audit::append(c, &entry, at).await?;
                Ok(())
            })
        })
        .await
    }

    /// The login of a digest, also one that is over: the caller looks at its times.
    pub async fn login(&self, digest: BrowserDigest) -> Result<Option<LoginRow>, StoreError> {
        self.read(move |c| Box::pin(async move { by_digest(c, &digest).await })).await
    }

    /// Notes that a login is used.
    pub async fn see_login(&self, digest: BrowserDigest, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                sqlx::query("UPDATE logins SET seen_at = max(seen_at, ?) WHERE digest = ?")
                    .bind(at.0)
                    .bind(&digest[..])
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Ends a login and everything that was handed over from it. False if there was none.
    pub async fn end_login(
        &self,
        digest: BrowserDigest,
        by: &Actor,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let actor = by.clone();
        self.write(move |c| {
            Box::pin(async move {
                let Some(login) = by_digest(c, &digest).await? else { return Ok(false) };
                sqlx::query("DELETE FROM logins WHERE digest = ?").bind(&digest[..]).execute(&mut *c).await?;
                let object = format!("user:{}/{}", login.tenant, login.user);
                audit::append(c, &AuditEntry::done(&actor, "login.end", object, ""), at).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Removes logins whose time is over, or that were not used for `idle`; and codes that nobody came for.
    pub async fn forget_ended_logins(&self, idle: Duration, at: Timestamp) -> Result<u64, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                sqlx::query("DELETE FROM handovers WHERE expires_at <= ?")
                    .bind(at.0)
                    .execute(&mut *c)
                    .await?;
                let ended = sqlx::query("DELETE FROM logins WHERE expires_at <= ? OR seen_at <= ?")
                    .bind(at.0)
                    .bind(at.minus(idle).0)
                    .execute(c)
                    .await?;
                Ok(ended.rows_affected())
            })
        })
        .await
    }
}

pub(crate) async fn by_digest(
    c: &mut SqliteConnection,
    digest: &BrowserDigest,
) -> Result<Option<LoginRow>, StoreError> {
    let row = sqlx::query(
        "SELECT logins.*, users.issuer, users.subject, users.email FROM logins
         JOIN users ON users.tenant = logins.tenant AND users.id = logins.user
         JOIN tenants ON tenants.name = logins.tenant AND tenants.deleting_at IS NULL
         WHERE logins.digest = ?",
    )
    .bind(&digest[..])
    .fetch_optional(c)
    .await?;
    row.as_ref().map(login_row).transpose()
}

fn login_row(row: &SqliteRow) -> Result<LoginRow, StoreError> {
    Ok(LoginRow {
        digest: column::octets(row, "digest")?,
        tenant: column::text(row, "tenant")?,
        user: column::text(row, "user")?,
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        email: row.try_get("email")?,
        seen_at: column::time(row, "seen_at")?,
        expires_at: column::time(row, "expires_at")?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const HOUR: Duration = Duration::from_secs(3600);

    pub(crate) async fn store_with_user(subject: &str) -> (Store, UserId) {
        let store = Store::in_memory().await.unwrap();
        let user = user(&store, subject).await;
        (store, user)
    }

    async fn user(store: &Store, subject: &str) -> UserId {
        let fresh = UserId::from_random([subject.len() as u8; 16]);
        let tenant = TenantName::default();
        let made = store.find_or_create_user(&tenant, "https://idp", subject, None, fresh, Timestamp(1));
        made.await.unwrap().id
    }

    pub(crate) async fn begin(store: &Store, user: &UserId, digest: u8, at: Timestamp) {
        let login = NewLogin {
            digest: [digest; 32],
            tenant: TenantName::default(),
            user: user.clone(),
            expires_at: at.plus(12 * HOUR),
        };
        store.begin_login(login, 3, &Actor::System, at).await.unwrap();
    }

    #[tokio::test]
    async fn a_user_has_some_logins_and_the_oldest_make_room_for_the_newest() {
        let (store, alice) = store_with_user("alice").await;
        let bob = user(&store, "bob").await;
        begin(&store, &bob, 99, Timestamp(0)).await;
        for number in 0..5_u8 {
            begin(&store, &alice, number, Timestamp(i64::from(number))).await;
        }
        let mut kept = vec![];
        for number in [0, 1, 2, 3, 4, 99] {
            kept.extend(store.login([number; 32]).await.unwrap().map(|login| login.digest[0]));
        }
        assert_eq!(kept, [2, 3, 4, 99], "bob pays nothing for alice");
        let login = store.login([4; 32]).await.unwrap().unwrap();
        assert_eq!((login.subject.as_str(), login.issuer.as_str()), ("alice", "https://idp"));
    }

    #[tokio::test]
    async fn a_login_ends_once_and_old_ones_are_forgotten() {
        let (store, alice) = store_with_user("alice").await;
        begin(&store, &alice, 1, Timestamp(0)).await;
        begin(&store, &alice, 2, Timestamp(0)).await;
        begin(&store, &alice, 3, Timestamp(0)).await;
        assert!(store.end_login([1; 32], &Actor::System, Timestamp(1)).await.unwrap());
        assert!(!store.end_login([1; 32], &Actor::System, Timestamp(1)).await.unwrap());
        let later = Timestamp(0).plus(2 * HOUR);
        store.see_login([2; 32], later).await.unwrap();
        assert_eq!(store.forget_ended_logins(HOUR, later).await.unwrap(), 1);
        assert_eq!(store.login([3; 32]).await.unwrap(), None);
        assert_eq!(store.login([2; 32]).await.unwrap().unwrap().seen_at, later);
        assert_eq!(store.forget_ended_logins(13 * HOUR, Timestamp(0).plus(12 * HOUR)).await.unwrap(), 1);
    }
}
