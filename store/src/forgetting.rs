//! Retention: the oldest events go, a few at a time, so that nobody who writes waits for it.

use model::Timestamp;

use crate::{Store, StoreError, column};

/// What is kept of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventsKept {
    /// Events received before this moment go.
    pub since: Timestamp,
    /// At most so many of the newest stay.
    pub at_most: u64,
}

impl Store {
    /// Deletes the oldest events beyond what is kept, at most `batch` of them. Returns how many; fewer than `batch`
    /// when nothing is left to delete.
    pub async fn forget_events(&self, kept: EventsKept, batch: u32) -> Result<u64, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let newest = crate::events::newest(c).await?;
                let too_many = i64::try_from(newest.saturating_sub(kept.at_most)).unwrap_or(i64::MAX);
                // In the order of numbers, so that what is left is always the log's whole end.
                let last: Option<i64> = sqlx::query_scalar(
                    "SELECT max(seq) FROM (SELECT seq, received_at FROM events ORDER BY seq LIMIT ?)
                     WHERE seq <= ? OR received_at < ?",
                )
                .bind(batch)
                .bind(too_many)
                .bind(kept.since.0)
                .fetch_one(&mut *c)
                .await?;
                let Some(last) = last else { return Ok(0) };
                sqlx::query(
                    "INSERT INTO counters (name, value) VALUES (?, ?)
                     ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                )
                .bind(FORGOTTEN)
                .bind(last)
                .execute(&mut *c)
                .await?;
                let deleted = sqlx::query("DELETE FROM events WHERE seq <= ?").bind(last).execute(c).await?;
                Ok(deleted.rows_affected())
            })
        })
        .await
    }

    /// The number of the newest event that retention deleted; 0 before the first. Who read up to an earlier one has
    /// missed something for good.
    pub async fn events_forgotten(&self) -> Result<u64, StoreError> {
        self.read(|c| {
            Box::pin(async move {
                let value: Option<i64> = sqlx::query_scalar("SELECT value FROM counters WHERE name = ?")
                    .bind(FORGOTTEN)
                    .fetch_optional(c)
                    .await?;
                column::number("value", value.unwrap_or(0))
            })
        })
        .await
    }
}

const FORGOTTEN: &str = "events_forgotten";

#[cfg(test)]
mod tests {
    use model::{DeviceRef, TenantName};

    use super::*;
    use crate::NewEvent;

    async fn store_with(received: &[i64]) -> Store {
        let store = Store::in_memory().await.unwrap();
        let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
        for at in received {
            let event = NewEvent::of_device(&device, "telemetry", Timestamp(0));
            store.append_events(vec![event], Timestamp(*at)).await.unwrap();
        }
        store
    }

    async fn left(store: &Store) -> Vec<u64> {
        store.events_after(0, 100).await.unwrap().iter().map(|row| row.seq).collect()
    }

    #[tokio::test]
    async fn the_oldest_go_by_age_and_by_number_a_few_at_a_time() {
        let store = store_with(&[10, 20, 30, 40, 50, 60]).await;
        assert_eq!(store.events_forgotten().await.unwrap(), 0);
        let by_age = EventsKept { since: Timestamp(40), at_most: 100 };
        assert_eq!(store.forget_events(by_age, 2).await.unwrap(), 2);
        assert_eq!(left(&store).await, [3, 4, 5, 6]);
        assert_eq!(store.forget_events(by_age, 2).await.unwrap(), 1);
        assert_eq!(store.forget_events(by_age, 2).await.unwrap(), 0);
        assert_eq!(store.events_forgotten().await.unwrap(), 3);
        let by_number = EventsKept { since: Timestamp(0), at_most: 2 };
        assert_eq!(store.forget_events(by_number, 100).await.unwrap(), 1);
        assert_eq!(left(&store).await, [5, 6]);
        assert_eq!(store.events_forgotten().await.unwrap(), 4);
        assert_eq!(*store.newest_event().borrow(), 6, "numbers go on from there");
    }
}
