//! Reading the event log for people: what each may see of it, page by page.

use model::{DeviceId, DeviceRef, Level, TenantName, Timestamp, UserId};
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::{EventRow, Store, StoreError, column, events::event_row};

/// A device whose events a user may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedDevice {
    /// Which.
    pub device: DeviceId,
    /// The user's level on it.
    pub level: Level,
    /// When the grant ends.
    pub until: Option<Timestamp>,
    /// Events up to this number are of owners of before.
    pub floor: u64,
}

/// Which events of a device are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whose.
    pub device: DeviceRef,
    /// Only events after this number.
    pub floor: u64,
    /// Changes of other people's rights are left out, unless this is `None` (an owner asks).
    pub only_changes_of: Option<UserId>,
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub to: Option<Timestamp>,
    /// Exactly this subject.
    pub subject: Option<String>,
    /// Or every subject that begins so; the caller ends it with the dot.
    pub subject_prefix: Option<String>,
    /// Only events whose data has this member, in the notation of SQLite's JSON functions.
    pub member: Option<String>,
    /// The newest first.
    pub newest_first: bool,
    /// The last event of the page before.
    pub after: Option<(Timestamp, u64)>,
    /// How many at most.
    pub limit: u32,
}

impl Store {
    /// The devices that a user has a grant on, also one that has ended, and since when their events are the user's
    /// to see.
    pub async fn watched_devices(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Vec<WatchedDevice>, StoreError> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT grants.device, level, until, coalesce(seq, 0) AS floor FROM grants
                     LEFT JOIN event_floors USING (tenant, device) WHERE tenant = ? AND user = ?",
                )
                .bind(tenant.as_str())
                .bind(user.as_str())
                .fetch_all(c)
                .await?;
                let watched = |row| {
                    Ok(WatchedDevice {
                        device: column::text(row, "device")?,
                        level: column::text(row, "level")?,
                        until: column::optional_time(row, "until")?,
                        floor: column::number("floor", row.try_get("floor")?)?,
                    })
                };
                rows.iter().map(watched).collect()
            })
        })
        .await
    }

    /// A tenant's events after one number and up to another, in their order.
    pub async fn events_of_tenant(
        &self,
        tenant: &TenantName,
        after: u64,
        up_to: u64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT * FROM events WHERE seq > ? AND seq <= ? AND tenant = ? ORDER BY seq",
                )
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(i64::try_from(up_to).unwrap_or(i64::MAX))
                .bind(tenant.as_str())
                .fetch_all(c)
                .await?;
                rows.iter().map(event_row).collect()
            })
        })
        .await
    }

    /// A page of a device's events by their time.
    pub async fn history(&self, query: HistoryQuery) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |c| {
            Box::pin(async move {
                let mut sql = select(&query);
                sql.build().fetch_all(c).await?.iter().map(event_row).collect()
            })
        })
        .await
    }
}

fn select(query: &HistoryQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM events WHERE tenant = ");
    sql.push_bind(query.device.tenant.to_string());
    sql.push(" AND device = ").push_bind(query.device.device.to_string());
    sql.push(" AND seq > ").push_bind(i64::try_from(query.floor).unwrap_or(i64::MAX));
    if let Some(user) = &query.only_changes_of {
        sql.push(" AND (subject <> 'grant.changed' OR user = ").push_bind(user.to_string()).push(")");
    }
    if let Some(from) = query.from {
        sql.push(" AND at >= ").push_bind(from.0);
    }
    if let Some(to) = query.to {
        sql.push(" AND at < ").push_bind(to.0);
    }
    if let Some(subject) = &query.subject {
        sql.push(" AND subject = ").push_bind(subject.clone());
    }
    if let Some(prefix) = &query.subject_prefix {
        sql.push(" AND substr(subject, 1, length(").push_bind(prefix.clone());
        sql.push(")) = ").push_bind(prefix.clone());
    }
    if let Some(member) = &query.member {
        sql.push(" AND json_type(data, ").push_bind(member.clone()).push(") IS NOT NULL");
    }
    let (beyond, order) = if query.newest_first { ("<", "DESC") } else { (">", "ASC") };
    if let Some((at, seq)) = query.after {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        sql.push(" AND (at, seq) ").push(beyond).push(" (").push_bind(at.0);
        sql.push(", ").push_bind(seq).push(")");
    }
    sql.push(" ORDER BY at ").push(order).push(", seq ").push(order);
    sql.push(" LIMIT ").push_bind(query.limit);
    sql
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::NewEvent;

    fn cam() -> DeviceRef {
        DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap())
    }

    fn all() -> HistoryQuery {
        HistoryQuery {
            device: cam(),
            floor: 0,
            only_changes_of: None,
            from: None,
            to: None,
            subject: None,
            subject_prefix: None,
            member: None,
            newest_first: false,
            after: None,
            limit: 100,
        }
    }

    #[tokio::test]
    async fn history_is_cut_by_time_subject_member_and_page() {
        let store = Store::in_memory().await.unwrap();
        let (alice, bob) = (UserId::from_random([1; 16]), UserId::from_random([2; 16]));
        let other = DeviceRef::new("acme".parse().unwrap(), "cam-01".parse().unwrap());
        store.create_tenant(&other.tenant, &model::Actor::System, Timestamp(1)).await.unwrap();
        let telemetry = |at, data| NewEvent::of_device(&cam(), "telemetry", Timestamp(at)).with(data);
        let changed = |user: &UserId| NewEvent {
            user: Some(user.clone()),
            ..NewEvent::of_device(&cam(), "grant.changed", Timestamp(40))
        };
        let events = vec![
            telemetry(30, json!({"t": 1})),
            telemetry(10, json!({"t": null, "gps": {"lat": 1}})),
            telemetry(20, json!({"u": 1})),
            NewEvent::of_device(&other, "telemetry", Timestamp(15)),
            NewEvent::of_device(&cam(), "device.connected", Timestamp(20)),
            changed(&alice),
            changed(&bob),
        ];
        // The tenant's own beginning is an event too.
        let base = *store.newest_event().borrow();
        store.append_events(events, Timestamp(50)).await.unwrap();
        let seqs = async |query: HistoryQuery| -> Vec<u64> {
            store.history(query).await.unwrap().iter().map(|row| row.seq - base).collect()
        };
        assert_eq!(seqs(all()).await, [2, 3, 5, 1, 6, 7]);
        assert_eq!(seqs(HistoryQuery { newest_first: true, ..all() }).await, [7, 6, 1, 5, 3, 2]);
        let some = HistoryQuery { from: Some(Timestamp(20)), to: Some(Timestamp(30)), ..all() };
        assert_eq!(seqs(some).await, [3, 5]);
        assert_eq!(seqs(HistoryQuery { subject: Some("telemetry".into()), ..all() }).await, [2, 3, 1]);
        assert_eq!(seqs(HistoryQuery { subject_prefix: Some("device.".into()), ..all() }).await, [5]);
        assert_eq!(seqs(HistoryQuery { member: Some(r#"$."t""#.into()), ..all() }).await, [2, 1]);
        assert_eq!(seqs(HistoryQuery { member: Some(r#"$."gps"."lat""#.into()), ..all() }).await, [2]);
        assert_eq!(seqs(HistoryQuery { only_changes_of: Some(alice), ..all() }).await, [2, 3, 5, 1, 6]);
        assert_eq!(seqs(HistoryQuery { floor: base + 5, ..all() }).await, [6, 7]);
        let page = HistoryQuery { limit: 2, after: Some((Timestamp(20), base + 3)), ..all() };
        assert_eq!(seqs(page.clone()).await, [5, 1]);
        assert_eq!(seqs(HistoryQuery { newest_first: true, ..page }).await, [2]);
    }

    #[tokio::test]
    async fn a_release_is_a_floor_for_those_who_come_after() {
        let scene = Store::in_memory().await.unwrap();
        let device = cam();
        scene
            .append_events(vec![NewEvent::of_device(&device, "telemetry", Timestamp(1))], Timestamp(1))
            .await
            .unwrap();
        let (tenant, user) = (TenantName::default(), UserId::from_random([1; 16]));
        let user = scene.find_or_create_user(&tenant, "i", "s", None, user, Timestamp(1)).await.unwrap().id;
        assert_eq!(scene.watched_devices(&tenant, &user).await.unwrap(), []);
        let granted = device.clone();
        scene
            .write(move |c| {
                Box::pin(async move {
                    crate::devices::add(c, &granted, Timestamp(1)).await?;
                    let released = NewEvent::of_device(&granted, "device.released", Timestamp(2));
                    crate::events::append(c, &released, Timestamp(2)).await
                })
            })
            .await
            .unwrap();
        let grant = model::Grant { level: Level::Owner, services: model::ServiceSet::all(), until: None };
        let by = model::Actor::System;
        scene.put_grant(&tenant, &device.device, &user, grant, &by, Timestamp(3)).await.unwrap();
        let watched = scene.watched_devices(&tenant, &user).await.unwrap();
        assert_eq!(watched.len(), 1);
        assert_eq!((watched[0].floor, watched[0].level), (2, Level::Owner));
        let of_tenant = scene.events_of_tenant(&tenant, 1, 2).await.unwrap();
        assert_eq!(of_tenant.iter().map(|row| row.seq).collect::<Vec<_>>(), [2]);
    }
}
