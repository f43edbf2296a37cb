//! From a login to a device's own host: one-time codes, and what the browser holds there then.

use model::{TenantName, Timestamp};
use sqlx::Row;

use crate::{BrowserDigest, LoginRow, Store, StoreError, column, logins};

/// A one-time code, as it is handed to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHandover {
    /// Of the code.
    pub digest: BrowserDigest,
    /// Whose login.
    pub tenant: TenantName,
    /// Which login.
    pub login: BrowserDigest,
    /// The host's first label, for which alone it is good.
    pub label: String,
    /// Where the browser wants to be in the end.
    pub path: String,
    /// Of the secret that the browser got at the device's host before it was sent here.
    pub binding: BrowserDigest,
    /// When it is over.
    pub expires_at: Timestamp,
}

/// A one-time code that was shown and is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenHandover {
    /// The login behind it.
    pub login: LoginRow,
    /// The host's first label.
    pub label: String,
    /// Where the browser wants to be.
    pub path: String,
    /// Of the secret that the browser must show.
    pub binding: BrowserDigest,
    /// When it was over.
    pub expires_at: Timestamp,
}

/// What a browser holds at a device's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitRow {
    /// The login behind it.
    pub login: LoginRow,
    /// The host's first label.
    pub label: String,
}

impl Store {
    /// Keeps a code. A login has at most `most`: beyond that the oldest are void.
    pub async fn add_handover(
        &self,
        handover: NewHandover,
        most: u32,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                if logins::by_digest(c, &handover.login).await?.is_none() {
                    return Err(StoreError::NotFound("login"));
                }
                let insert = "INSERT INTO handovers
                              (digest, tenant, login, label, path, binding, created_at, expires_at)
                              VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
                sqlx::query(insert)
                    .bind(&handover.digest[..])
                    .bind(handover.tenant.as_str())
                    .bind(&handover.login[..])
                    .bind(&handover.label)
                    .bind(&handover.path)
                    .bind(&handover.binding[..])
                    .bind(at.0)
                    .bind(handover.expires_at.0)
                    .execute(&mut *c)
                    .await?;
                let beyond = "DELETE FROM handovers WHERE digest IN (SELECT digest FROM handovers
                              WHERE login = ? AND digest <> ? ORDER BY created_at DESC LIMIT -1 OFFSET ?)";
                sqlx::query(beyond)
                    .bind(&handover.login[..])
                    .bind(&handover.digest[..])
                    .bind(i64::from(most.saturating_sub(1)))
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes a code: exactly one caller gets it, whether or not it is still good.
    pub async fn take_handover(&self, digest: BrowserDigest) -> Result<Option<TakenHandover>, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let taken = "DELETE FROM handovers WHERE digest = ?
                             RETURNING login, label, path, binding, expires_at";
                let Some(row) = sqlx::query(taken).bind(&digest[..]).fetch_optional(&mut *c).await? else {
                    return Ok(None);
                };
                let login: BrowserDigest = column::octets(&row, "login")?;
                let Some(login) = logins::by_digest(c, &login).await? else { return Ok(None) };
                Ok(Some(TakenHandover {
                    login,
                    label: row.try_get("label")?,
                    path: row.try_get("path")?,
                    binding: column::octets(&row, "binding")?,
                    expires_at: column::time(&row, "expires_at")?,
                }))
            })
        })
        .await
    }

    /// Keeps a visit. A login has at most `most`: beyond that the oldest end.
    pub async fn begin_visit(
        &self,
        digest: BrowserDigest,
        login: &LoginRow,
        label: &str,
        most: u32,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (login, tenant, label) = (login.digest, login.tenant.clone(), label.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                if logins::by_digest(c, &login).await?.is_none() {
                    return Err(StoreError::NotFound("login"));
                }
                sqlx::query(
                    "INSERT INTO visits (digest, tenant, login, label, created_at) VALUES (?, ?, ?, ?, ?)",
                )
                .bind(&digest[..])
                .bind(tenant.as_str())
                .bind(&login[..])
                .bind(&label)
                .bind(at.0)
                .execute(&mut *c)
                .await?;
                let beyond = "DELETE FROM visits WHERE digest IN (SELECT digest FROM visits
                              WHERE login = ? AND digest <> ? ORDER BY created_at DESC LIMIT -1 OFFSET ?)";
                sqlx::query(beyond)
                    .bind(&login[..])
                    .bind(&digest[..])
                    .bind(i64::from(most.saturating_sub(1)))
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// The visit of a digest and its login, also one that is over.
    pub async fn visit(&self, digest: BrowserDigest) -> Result<Option<VisitRow>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let row = sqlx::query("SELECT login, label FROM visits WHERE digest = ?")
                    .bind(&digest[..])
                    .fetch_optional(&mut *c)
                    .await?;
                let Some(row) = row else { return Ok(None) };
                let login: BrowserDigest = column::octets(&row, "login")?;
                let label = row.try_get("label")?;
                Ok(logins::by_digest(c, &login).await?.map(|login| VisitRow { login, label }))
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use model::Actor;

    use super::*;
    use crate::logins::tests::{begin, store_with_user};

    fn handover(digest: u8) -> NewHandover {
        NewHandover {
            digest: [digest; 32],
            tenant: TenantName::default(),
            login: [1; 32],
            label: "cam-01".into(),
            path: "/x?y".into(),
            binding: [7; 32],
            expires_at: Timestamp(30_000),
        }
    }

    #[tokio::test]
    async fn of_twenty_who_show_a_code_at_once_one_gets_it() {
        let (store, alice) = store_with_user("alice").await;
        begin(&store, &alice, 1, Timestamp(0)).await;
        store.add_handover(handover(2), 5, Timestamp(0)).await.unwrap();
        let taken = join_all((0..20).map(|_| store.take_handover([2; 32]))).await;
        let taken: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].label.as_str(), taken[0].path.as_str()), ("cam-01", "/x?y"));
        assert_eq!(store.take_handover([2; 32]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_end_of_a_login_ends_its_codes_and_visits() {
        let (store, alice) = store_with_user("alice").await;
        begin(&store, &alice, 1, Timestamp(0)).await;
        store.add_handover(handover(2), 5, Timestamp(0)).await.unwrap();
        let login = store.login([1; 32]).await.unwrap().unwrap();
        store.begin_visit([3; 32], &login, "cam-01", 5, Timestamp(0)).await.unwrap();
        assert_eq!(store.visit([3; 32]).await.unwrap().unwrap().label, "cam-01");
        store.end_login([1; 32], &Actor::System, Timestamp(1)).await.unwrap();
        assert_eq!(store.visit([3; 32]).await.unwrap(), None);
        assert_eq!(store.take_handover([2; 32]).await.unwrap(), None);
        let late = store.begin_visit([4; 32], &login, "cam-01", 5, Timestamp(2)).await;
        assert!(matches!(late, Err(StoreError::NotFound("login"))));
        assert!(matches!(
            store.add_handover(handover(5), 5, Timestamp(2)).await,
            Err(StoreError::NotFound("login"))
        ));
    }

    #[tokio::test]
    async fn a_login_has_a_bounded_number_of_codes_and_visits() {
        let (store, alice) = store_with_user("alice").await;
        begin(&store, &alice, 1, Timestamp(0)).await;
        let login = store.login([1; 32]).await.unwrap().unwrap();
        for number in 10..15_u8 {
            let at = Timestamp(i64::from(number));
            store.add_handover(handover(number), 3, at).await.unwrap();
            store.begin_visit([number; 32], &login, "cam-01", 3, at).await.unwrap();
        }
        let mut left = vec![];
        for number in 10..15_u8 {
            let code = store.take_handover([number; 32]).await.unwrap().is_some();
            left.push((code, store.visit([number; 32]).await.unwrap().is_some()));
        }
        assert_eq!(left, [(false, false), (false, false), (true, true), (true, true), (true, true)]);
    }
}
