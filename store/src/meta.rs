//! Counters that only grow, and whether the store answers.

use sqlx::SqliteConnection;

use crate::{Store, StoreError, column};

impl Store {
    /// A number greater than any that this deployment's earlier starts got: 1, 2, 3, …
    ///
    /// The registry begins its generations there, so that they grow across restarts too.
    pub async fn next_epoch(&self) -> Result<u32, StoreError> {
        let epoch = self.write(|c| Box::pin(next(c, "epoch"))).await?;
        u32::try_from(epoch).map_err(|_| StoreError::Corrupt { what: "epoch", detail: epoch.to_string() })
    }

    /// Whether rows can be read just now: without that a cloud is not ready.
    pub async fn check_reading(&self) -> Result<(), StoreError> {
        self.read(|c| {
            Box::pin(async move {
                sqlx::query_scalar::<_, i64>("SELECT count(*) FROM meta").fetch_one(c).await?;
                Ok(())
            })
        })
        .await
    }

    /// Whether a row can be written just now: without that devices are served, but nothing can be changed.
    pub async fn check_writing(&self) -> Result<(), StoreError> {
        self.write(|c| Box::pin(async move { next(c, "checks").await.map(drop) })).await
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
    use std::time::Duration;

    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_store_that_another_holds_can_be_read_and_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcpmux.db");
        let store = Store::open(&path).await.unwrap();
        store.check_reading().await.unwrap();
        store.check_writing().await.unwrap();
        let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        store.check_reading().await.unwrap();
        let written = timeout(Duration::from_millis(100), store.check_writing()).await;
        assert!(written.is_err(), "it waits for the other: {written:?}");
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
        store.check_writing().await.unwrap();
    }

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
