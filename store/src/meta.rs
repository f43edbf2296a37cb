//! The deployment's own few facts, and counters that only grow.

use sqlx::SqliteConnection;

use crate::{Store, StoreError, column};

impl Store {
    /// The value under a key; where there is none yet, the fresh one becomes it, once for ever.
    pub async fn meta_or_insert(&self, key: &'static str, fresh: &str) -> Result<String, StoreError> {
        let fresh = fresh.to_owned();
        self.write(move |c| {
            Box::pin(async move {
                sqlx::query("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING")
                    .bind(key)
                    .bind(fresh)
                    .execute(&mut *c)
                    .await?;
                Ok(sqlx::query_scalar("SELECT value FROM meta WHERE key = ?").bind(key).fetch_one(c).await?)
            })
        })
        .await
    }

    /// The value under a key.
    pub async fn meta(&self, key: &'static str) -> Result<Option<String>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let value = sqlx::query_scalar("SELECT value FROM meta WHERE key = ?").bind(key);
                Ok(value.fetch_optional(c).await?)
            })
        })
        .await
    }

    /// A number greater than any that this deployment's earlier starts got: 1, 2, 3, …
    ///
    /// The registry begins its generations there, so that they grow across restarts too.
    pub async fn next_epoch(&self) -> Result<u32, StoreError> {
        let epoch = self.write(|c| Box::pin(next(c, "epoch"))).await?;
        u32::try_from(epoch).map_err(|_| StoreError::Corrupt { what: "epoch", detail: epoch.to_string() })
    }

    /// Whether rows can be read just now: for readiness.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.read(|c| {
            Box::pin(async move {
                sqlx::query_scalar::<_, i64>("SELECT 1").fetch_one(c).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Raises a counter by one, from 0, and returns it.
pub(crate) async fn next(c: &mut SqliteConnection, name: &'static str) -> Result<u64, StoreError> {
    let value: i64 = sqlx::query_scalar(
        "INSERT INTO counters (name, value) VALUES (?, 1)
         ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
    )
    .bind(name)
    .fetch_one(c)
    .await?;
    column::number("counter", value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn epochs_grow_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcpmux.db");
        for expected in 1..=3 {
            let store = Store::open(&path).await.unwrap();
            assert_eq!(store.next_epoch().await.unwrap(), expected);
            store.close().await;
        }
    }
}
