//! Retention: the oldest events go, a few at a time, so that nobody who writes waits for it.

use model::Timestamp;

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{Store, StoreError, column};

/// What is kept of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventsKept {
    /// Events received before this moment go.
    pub since: Timestamp,
    /// At most so many of the newest stay.
    pub at_most: u64,
    /// They take so much room at most, as [`Store::events_bytes`] counts.
    pub bytes: u64,
    /// Events after this number stay whatever the limits are: somebody has yet to look at them.
    pub looked_at: u64,
}

/// How much one step deletes at most, so that nobody waits long for the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgettingStep {
    /// Events.
    pub events: u32,
    /// Their bytes; one event is deleted whatever it has.
    pub bytes: u64,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// So many events were deleted.
    pub events: u64,
    /// Whether there may be more to delete.
    pub more: bool,
}

impl Store {
    /// Deletes the oldest events beyond what is kept, no more than a step's worth.
    pub async fn forget_events(
        &self,
        kept: EventsKept,
        step: ForgettingStep,
    ) -> Result<Forgotten, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let newest = crate::events::newest(c).await?;
                let too_many = newest.saturating_sub(kept.at_most);
                let too_large = bytes(c).await?.saturating_sub(kept.bytes);
                // In the order of numbers, so that what is left is always the log's whole end. `before` is how much
                // lies before an event.
                let (looked, last): (i64, Option<i64>) = sqlx::query_as(AssertSqlSafe(format!(
                    "SELECT count(*), max(seq) FILTER (WHERE seq <= ?1 OR received_at < ?2 OR before < ?3)
                     FROM (SELECT seq, received_at, sum(bytes) OVER (ORDER BY seq) - bytes AS before
                           FROM (SELECT seq, received_at, {BYTES} AS bytes FROM events
                                 WHERE seq <= ?4 ORDER BY seq LIMIT ?5))
                     WHERE before < ?6"
                )))
                .bind(column::whole(too_many))
                .bind(kept.since.0)
                .bind(column::whole(too_large))
                .bind(column::whole(kept.looked_at))
                .bind(step.events)
                .bind(column::whole(step.bytes.max(1)))
                .fetch_one(&mut *c)
                .await?;
                let Some(last) = last else { return Ok(Forgotten { events: 0, more: false }) };
                sqlx::query(
                    "INSERT INTO counters (name, value) VALUES (?, ?)
                     ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                )
                .bind(FORGOTTEN)
                .bind(last)
                .execute(&mut *c)
                .await?;
                let deleted = sqlx::query("DELETE FROM events WHERE seq <= ?").bind(last).execute(c).await?;
                let events = deleted.rows_affected();
                Ok(Forgotten { events, more: i64::try_from(events) == Ok(looked) })
            })
        })
        .await
    }

    /// How much room the log takes, indexes included, counted from what its events hold; the file's pages may take a
    /// third more.
    pub async fn events_bytes(&self) -> Result<u64, StoreError> {
        self.read(|c| Box::pin(async move { bytes(c).await })).await
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

async fn bytes(c: &mut SqliteConnection) -> Result<u64, StoreError> {
    let value: i64 =
        sqlx::query_scalar("SELECT value FROM counters WHERE name = 'events_bytes'").fetch_one(c).await?;
    column::number("value", value)
}

/// What an event counts as; the triggers that keep the total count the same.
const BYTES: &str = "octet_length(data) + octet_length(subject) + coalesce(octet_length(user), 0)
    + 3 * (octet_length(tenant) + coalesce(octet_length(device), 0) + coalesce(octet_length(source_id), 0)) + 48";
const FORGOTTEN: &str = "events_forgotten";

#[cfg(test)]
#[path = "forgetting_tests.rs"]
mod tests;
