//! Retention: the oldest go, by age, by number and by room, a few at a time.

use model::{DeviceRef, TenantName};
use serde_json::json;

use super::*;
use crate::NewEvent;

const STEP: ForgettingStep = ForgettingStep { events: 100, bytes: 1 << 20 };
/// Nothing goes by itself.
const ALL: EventsKept =
    EventsKept { since: Timestamp(0), at_most: 1_000_000, bytes: u64::MAX, looked_at: u64::MAX };

async fn append(store: &Store, received: i64, bytes: usize) {
    let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
    let event =
        NewEvent::of_device(&device, "telemetry", Timestamp(0)).with(json!({ "x": "y".repeat(bytes) }));
    store.append_events(vec![event], Timestamp(received)).await.unwrap();
}

async fn store_with(received: &[i64]) -> Store {
    let store = Store::in_memory().await.unwrap();
    for at in received {
        append(&store, *at, 10).await;
    }
    store
}

async fn left(store: &Store) -> Vec<u64> {
    store.events_after(0, 1000).await.unwrap().iter().map(|row| row.seq).collect()
}

async fn forget(store: &Store, kept: EventsKept, step: ForgettingStep) -> (u64, bool) {
    let Forgotten { events, more } = store.forget_events(kept, step).await.unwrap();
    (events, more)
}

/// The total counted anew.
async fn counted(store: &Store) -> u64 {
    let sql = AssertSqlSafe(format!("SELECT coalesce(sum({BYTES}), 0) FROM events"));
    let sum: i64 = store
        .read(move |c| Box::pin(async move { Ok(sqlx::query_scalar(sql).fetch_one(c).await?) }))
        .await
        .unwrap();
    u64::try_from(sum).unwrap()
}

#[tokio::test]
async fn the_oldest_go_by_age_and_by_number_a_few_at_a_time() {
    let store = store_with(&[10, 20, 30, 40, 50, 60]).await;
    assert_eq!(store.events_forgotten().await.unwrap(), 0);
    let by_age = EventsKept { since: Timestamp(40), ..ALL };
    let two = ForgettingStep { events: 2, ..STEP };
    assert_eq!(forget(&store, by_age, two).await, (2, true));
    assert_eq!(left(&store).await, [3, 4, 5, 6]);
    assert_eq!(forget(&store, by_age, two).await, (1, false));
    assert_eq!(forget(&store, by_age, two).await, (0, false));
    assert_eq!(store.events_forgotten().await.unwrap(), 3);
    let by_number = EventsKept { at_most: 2, ..ALL };
    assert_eq!(forget(&store, by_number, STEP).await, (1, false));
    assert_eq!(left(&store).await, [5, 6]);
    assert_eq!(store.events_forgotten().await.unwrap(), 4);
    assert_eq!(*store.newest_event().borrow(), 6, "numbers go on from there");
}

#[tokio::test]
async fn the_oldest_go_until_the_rest_has_room() {
    let store = Store::in_memory().await.unwrap();
    for (number, bytes) in [5000, 100, 100, 9000, 100].into_iter().enumerate() {
        append(&store, number as i64, bytes).await;
    }
    let all = store.events_bytes().await.unwrap();
    assert_eq!(all, counted(&store).await);
    assert!((14_300..16_000).contains(&all), "{all}");
    assert_eq!(forget(&store, EventsKept { bytes: all, ..ALL }, STEP).await, (0, false), "all has room");
    assert_eq!(forget(&store, EventsKept { bytes: all - 1, ..ALL }, STEP).await, (1, false));
    assert_eq!(left(&store).await, [2, 3, 4, 5], "the large one that was oldest made room enough");
    assert_eq!(store.events_bytes().await.unwrap(), counted(&store).await);
    let one_by_one = ForgettingStep { bytes: 1, ..STEP };
    let little = EventsKept { bytes: 1000, ..ALL };
    for expected in [(1, true), (1, true), (1, true), (0, false)] {
        assert_eq!(forget(&store, little, one_by_one).await, expected);
    }
    assert_eq!(left(&store).await, [5], "the newest stays, and steps count bytes too");
    assert_eq!(store.events_bytes().await.unwrap(), counted(&store).await);
    let none = EventsKept { bytes: 0, ..ALL };
    assert_eq!(forget(&store, none, STEP).await, (1, true));
    assert_eq!(store.events_bytes().await.unwrap(), 0);
}

#[tokio::test]
async fn what_nobody_has_looked_at_stays() {
    let store = store_with(&[10, 20, 30]).await;
    let none = EventsKept { at_most: 0, bytes: 0, since: Timestamp(100), looked_at: 2 };
    assert_eq!(forget(&store, none, STEP).await, (2, true));
    assert_eq!(forget(&store, none, STEP).await, (0, false));
    assert_eq!(left(&store).await, [3]);
}

#[tokio::test]
async fn the_total_follows_whatever_deletes_and_counts_what_was_there_before_it() {
    let store = store_with(&[10, 20]).await;
    let other: TenantName = "acme".parse().unwrap();
    let by = model::Actor::System;
    store.create_tenant(&other, &by, Timestamp(0)).await.unwrap();
    let device = DeviceRef::new(other.clone(), "cam-01".parse().unwrap());
    let event = NewEvent { source_id: Some("a".into()), ..NewEvent::of_device(&device, "x.y", Timestamp(0)) };
    let twice = vec![event.clone(), event];
    let numbers = store.append_events(twice, Timestamp(30)).await.unwrap();
    assert_eq!(numbers.iter().flatten().count(), 1, "a repeated name adds nothing");
    assert_eq!(store.events_bytes().await.unwrap(), counted(&store).await);
    let before = store.events_bytes().await.unwrap();
    store.begin_tenant_deletion(&other, &by, Timestamp(40)).await.unwrap();
    while store.purge_tenant(&other, 100).await.unwrap() > 0 {}
    let after = store.events_bytes().await.unwrap();
    assert!(after < before, "{after} of {before}");
    assert_eq!(after, counted(&store).await);

    // As a database of before finds it: without a total.
    store
        .write(|c| {
            Box::pin(async move {
                let undo = "DELETE FROM counters WHERE name = 'events_bytes';
                    DROP TRIGGER events_add_their_bytes; DROP TRIGGER events_take_their_bytes_with_them;
                    DROP TRIGGER events_stay_as_they_are;";
                sqlx::raw_sql(undo).execute(&mut *c).await?;
                sqlx::raw_sql(include_str!("../migrations/0008_event_bytes.sql")).execute(c).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    assert_eq!(store.events_bytes().await.unwrap(), after);
}

#[tokio::test]
async fn an_event_does_not_change() {
    let store = store_with(&[10]).await;
    let changed = store
        .write::<(), _>(|c| {
            Box::pin(async move {
                sqlx::query("UPDATE events SET data = '{}'").execute(c).await?;
                Ok(())
            })
        })
        .await;
    assert!(changed.unwrap_err().to_string().contains("an event does not change"));
}
