//! The event log: what happened, in one order, for as long as it is kept.
//!
//! A fact of ownership, grants, certificates or tenants appends its event in its own transaction, so that one
//! is never there without the other. What people see live, what webhooks send and what history shows is read
//! from here by number. [`Store::newest_event`] wakes readers once an event is durable, never before.

use model::{DeviceId, DeviceRef, TenantName, Timestamp, UserId};
use serde_json::{Value, json};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Store, StoreError, column};

/// Something to be remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Whose.
    pub tenant: TenantName,
    /// The part of the topic after the tenant, as in `device.connected`.
    pub subject: String,
    /// The device that it is about.
    pub device: Option<DeviceId>,
    /// The user that it is about.
    pub user: Option<UserId>,
    /// When it happened; a device tells this of its telemetry.
    pub at: Timestamp,
    /// The device's own name for it. A device's second event of a name is not kept.
    pub source_id: Option<String>,
    /// What else is to be said, in JSON.
    pub data: Value,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Its number; later ones are greater. Some numbers are never given.
    pub seq: u64,
    /// When it was appended.
    pub received_at: Timestamp,
    /// What happened.
    pub event: NewEvent,
}

impl NewEvent {
    /// An event about a device, with nothing else to say.
    pub fn of_device(device: &DeviceRef, subject: &str, at: Timestamp) -> Self {
        Self {
            tenant: device.tenant.clone(),
            subject: subject.into(),
            device: Some(device.device.clone()),
            user: None,
            at,
            source_id: None,
            data: json!({}),
        }
    }

    /// The same with this to say.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

impl Store {
    /// Appends events in this order, all or none, and returns their numbers once they are durable; `None` for
    /// one whose name its device used before, and for a report of a time before the device's last release.
    pub async fn append_events(
        &self,
        events: Vec<NewEvent>,
        received_at: Timestamp,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        self.write(move |c| {
            Box::pin(async move {
                let mut numbers = Vec::with_capacity(events.len());
                for event in &events {
                    numbers.push(append(c, event, received_at).await?);
                }
                Ok(numbers)
            })
        })
        .await
    }

    /// When a device went from one owner to nobody or the next, last; what it reports of a time before is not kept.
    pub async fn passed_on(&self, device: &DeviceRef) -> Result<Option<Timestamp>, StoreError> {
        let device = device.clone();
        self.read(move |c| {
            Box::pin(async move {
                let at: Option<i64> =
                    sqlx::query_scalar("SELECT at FROM event_floors WHERE tenant = ? AND device = ?")
                        .bind(device.tenant.as_str())
                        .bind(device.device.as_str())
                        .fetch_optional(c)
                        .await?;
                Ok(at.map(Timestamp))
            })
        })
        .await
    }

    /// The events after a number, in their order, at most `limit`.
    pub async fn events_after(&self, seq: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?")
                    .bind(i64::try_from(seq).unwrap_or(i64::MAX))
                    .bind(limit)
                    .fetch_all(c)
                    .await?;
                rows.iter().map(event_row).collect()
            })
        })
        .await
    }
}

/// Appends an event as part of the transaction of its fact. `None` if its device used its name before, for what is
/// heard of a tenant after its end, and for what a device reports of the time of an earlier owner: the next one must
/// not find it.
pub(crate) async fn append(
    c: &mut SqliteConnection,
    event: &NewEvent,
    received_at: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let (tenant, device) = (event.tenant.as_str(), event.device.as_ref().map(DeviceId::as_str));
    let seq: Option<i64> = sqlx::query_scalar(
        "INSERT INTO events (tenant, subject, device, user, at, received_at, source_id, data)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM tenants WHERE name = ?1)
         AND NOT (?2 IN ('telemetry', 'notification')
                  AND EXISTS (SELECT 1 FROM event_floors WHERE tenant = ?1 AND device = ?3 AND at > ?5))
         ON CONFLICT DO NOTHING RETURNING seq",
    )
    .bind(tenant)
    .bind(&event.subject)
    .bind(device)
    .bind(event.user.as_ref().map(UserId::as_str))
    .bind(event.at.0)
    .bind(received_at.0)
    .bind(&event.source_id)
    .bind(event.data.to_string())
    .fetch_optional(&mut *c)
    .await?;
    let Some(seq) = seq else { return Ok(None) };
    if device.is_some() && FLOORS.contains(&event.subject.as_str()) {
        sqlx::query(
            "INSERT INTO event_floors (tenant, device, seq, at) VALUES (?, ?, ?, ?)
             ON CONFLICT (tenant, device) DO UPDATE SET seq = excluded.seq, at = excluded.at",
        )
        .bind(tenant)
        .bind(device)
        .bind(seq)
        .bind(received_at.0)
        .execute(c)
        .await?;
    }
    column::number("seq", seq).map(Some)
}

/// The number given last, also if that event was deleted since; 0 before the first.
pub(crate) async fn newest(c: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let seq: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetch_optional(c).await?;
    Ok(seq.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0))
}

pub(crate) fn event_row(row: &SqliteRow) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        seq: column::number("seq", row.try_get("seq")?)?,
        received_at: column::time(row, "received_at")?,
        event: NewEvent {
            tenant: column::text(row, "tenant")?,
            subject: row.try_get("subject")?,
            device: column::optional_text(row, "device")?,
            user: column::optional_text(row, "user")?,
            at: column::time(row, "at")?,
            source_id: row.try_get("source_id")?,
            data: column::text(row, "data")?,
        },
    })
}

/// After one of these, what the log says of the device is for others than before.
pub(crate) const FLOORS: [&str; 3] = ["device.released", "device.transferred", "device.removed"];

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(device: &str, source_id: Option<&str>) -> NewEvent {
        let device = DeviceRef::new(TenantName::default(), device.parse().unwrap());
        let event = NewEvent::of_device(&device, "telemetry", Timestamp(7));
        NewEvent { source_id: source_id.map(Into::into), ..event.with(json!({ "temperature": 21.5 })) }
    }

    #[tokio::test]
    async fn events_come_back_in_their_order_and_a_name_is_kept_once_per_device() {
        let store = Store::in_memory().await.unwrap();
        let batch = vec![
            telemetry("a", Some("1")),
            telemetry("a", None),
            telemetry("a", Some("1")),
            telemetry("b", Some("1")),
            telemetry("a", None),
        ];
        let numbers = store.append_events(batch, Timestamp(9)).await.unwrap();
        assert!(numbers[2].is_none(), "{numbers:?}");
        let kept: Vec<u64> = numbers.into_iter().flatten().collect();
        assert_eq!(kept.len(), 4);
        let read = store.events_after(0, 100).await.unwrap();
        assert_eq!(read.iter().map(|row| row.seq).collect::<Vec<_>>(), kept);
        assert_eq!(read[0].event, telemetry("a", Some("1")));
        assert_eq!(read[0].received_at, Timestamp(9));
        let rest = store.events_after(kept[0], 2).await.unwrap();
        assert_eq!(rest.iter().map(|row| row.seq).collect::<Vec<_>>(), kept[1..3]);
    }

    #[tokio::test]
    async fn what_is_reported_of_an_earlier_owners_time_is_not_kept() {
        let store = Store::in_memory().await.unwrap();
        let report = |at| NewEvent { at: Timestamp(at), ..telemetry("a", None) };
        let kept = async |at| {
            let numbers = store.append_events(vec![report(at)], Timestamp(30)).await.unwrap();
            numbers[0].is_some()
        };
        assert!(kept(7).await, "nobody has had it before");
        let device = DeviceRef::new(TenantName::default(), "a".parse().unwrap());
        assert_eq!(store.passed_on(&device).await.unwrap(), None);
        let released = NewEvent::of_device(&device, "device.released", Timestamp(20));
        store.append_events(vec![released], Timestamp(20)).await.unwrap();
        assert_eq!(store.passed_on(&device).await.unwrap(), Some(Timestamp(20)));
        assert!(!kept(19).await, "of the time of the one before");
        assert!(kept(20).await);
        let other = store.append_events(vec![telemetry("b", None)], Timestamp(30)).await.unwrap();
        assert!(other[0].is_some(), "another device");
        let facts = NewEvent::of_device(&device, "device.disconnected", Timestamp(19));
        assert!(store.append_events(vec![facts], Timestamp(30)).await.unwrap()[0].is_some(), "no report");
    }

    #[tokio::test]
    async fn readers_are_woken_by_what_they_can_read_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcpmux.db");
        let store = Store::open(&path).await.unwrap();
        let mut newest = store.newest_event();
        assert_eq!(*newest.borrow_and_update(), 0);
        let (woken, appended) = tokio::join!(
            async {
                newest.changed().await.unwrap();
                let seq = *newest.borrow_and_update();
                (seq, store.events_after(0, 10).await.unwrap().len())
            },
            store.append_events(vec![telemetry("a", None), telemetry("a", None)], Timestamp(9)),
        );
        assert_eq!(appended.unwrap(), [Some(1), Some(2)]);
        assert_eq!(woken, (2, 2));
        store.check_writing().await.unwrap();
        assert!(!newest.has_changed().unwrap(), "nothing was appended");
        store.close().await;
        assert_eq!(*Store::open(&path).await.unwrap().newest_event().borrow(), 2);
    }
}
