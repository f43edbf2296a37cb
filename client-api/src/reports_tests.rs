//! Reports: each item judged for itself, kept once, and durable before the answer.

use serde_json::json;
use store::EventRow;

use super::*;
use crate::testing::{NOW, Room};

async fn report(room: &Room, device: &DeviceRef, path: &str, body: &Value) -> Vec<Value> {
    let path = format!("/device/v1/{path}");
    let (status, answer) = room.as_device(device, "POST", &path, &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["results"].as_array().unwrap().clone()
}

async fn telemetry(room: &Room, device: &DeviceRef, body: Value) -> Vec<Value> {
    report(room, device, "telemetry", &body).await
}

async fn log(room: &Room) -> Vec<EventRow> {
    let rows = room.store.events_after(0, 10_000).await.unwrap();
    rows.into_iter().filter(|row| ["telemetry", "notification"].contains(&&*row.event.subject)).collect()
}

#[tokio::test]
async fn good_items_are_kept_and_bad_ones_say_why() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    let results = telemetry(
        &room,
        &device,
        json!([
            {"id": "a", "ts": "2027-01-15T07:59:59.500Z", "data": {"t": 21.5, "ok": true}},
            {"data": 7},
            {"id": "b c", "data": {}},
            {"data": {"n": 1}},
        ]),
    )
    .await;
    let said: Vec<_> = results.iter().map(|result| (&result["status"], &result["code"])).collect();
    let malformed = json!("malformed");
    let (accepted, rejected) = (json!("accepted"), json!("rejected"));
    assert_eq!(
        said,
        [
            (&accepted, &Value::Null),
            (&rejected, &malformed),
            (&rejected, &malformed),
            (&accepted, &Value::Null)
        ]
    );
    assert!(results[1]["detail"].as_str().unwrap().contains("map"), "{}", results[1]);
    assert_eq!((&results[0]["id"], results[0].get("ts")), (&json!("a"), None));
    assert_eq!(results[3]["ts"], "2027-01-15T08:00:00.000Z", "stamped on arrival");
    let rows = log(&room).await;
    assert_eq!(
        rows.iter().map(|row| json!(row.seq)).collect::<Vec<_>>(),
        [results[0]["seq"].clone(), results[3]["seq"].clone()]
    );
    let event = &rows[0].event;
    assert_eq!((event.subject.as_str(), event.device.as_ref()), ("telemetry", Some(&device.device)));
    assert_eq!(event.data, json!({"t": 21.5, "ok": true}));
    assert_eq!((event.at, rows[0].received_at), (NOW.minus(Duration::from_millis(500)), NOW));
    assert_eq!(rows[1].event.at, NOW);
}

#[tokio::test]
async fn an_item_that_is_sent_again_is_kept_once_and_says_so() {
    let room = Room::new().await;
    let (device, other) = (room.device("default", "cam-01").await, room.device("default", "cam-02").await);
    let item = json!({"id": "a", "data": {"n": 1}});
    let first = telemetry(&room, &device, item.clone()).await;
    assert_eq!(first[0]["status"], "accepted");
    let again =
        telemetry(&room, &device, json!([item, {"id": "b", "data": {}}, {"id": "b", "data": {}}])).await;
    let said: Vec<_> = again.iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(said, ["duplicate", "accepted", "duplicate"]);
    assert_eq!(again[0]["id"], "a");
    assert_eq!(telemetry(&room, &other, item).await[0]["status"], "accepted", "ids are a device's own");
    assert_eq!(log(&room).await.len(), 3);
}

#[tokio::test]
async fn what_a_device_kept_from_its_last_owners_time_is_not_shown_to_the_next() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    let released = NewEvent::of_device(&device, "device.released", NOW);
    room.store.append_events(vec![released], NOW).await.unwrap();
    let before = NOW.minus(Duration::from_millis(1)).millis();
    let items = json!([
        {"id": "old", "ts": before, "data": {"t": 1}},
        {"id": "new", "ts": NOW.millis(), "data": {"t": 2}},
        {"id": "new", "ts": NOW.millis(), "data": {"t": 2}},
    ]);
    let results = telemetry(&room, &device, items).await;
    let told: Vec<_> =
        results.iter().map(|result| (&result["id"], &result["status"], &result["code"])).collect();
    assert_eq!(
        json!(told),
        json!([["old", "rejected", "released"], ["new", "accepted", null], ["new", "duplicate", null]])
    );
    let kept: Vec<_> = log(&room).await.into_iter().filter(|row| row.event.subject == "telemetry").collect();
    assert_eq!(kept.iter().map(|row| &row.event.data).collect::<Vec<_>>(), [&json!({"t": 2})]);
}

#[tokio::test]
async fn a_report_is_of_whoever_sent_it_whatever_it_says() {
    let room = Room::new().await;
    let (sender, other) = (room.device("default", "cam-01").await, room.device("default", "cam-02").await);
    let names = json!({"device": "cam-02", "tenant": "acme", "subject": "cam-02", "type": "device.released"});
    let mut around = json!({"id": "a", "data": {}});
    around.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
    let results = telemetry(&room, &sender, json!([{"id": "b", "data": names}, around])).await;
    assert_eq!(results[0]["status"], "accepted");
    for row in log(&room).await {
        let event = row.event;
        assert_eq!((event.tenant.as_str(), event.device.as_ref()), ("default", Some(&sender.device)));
        assert_eq!(event.subject, "telemetry");
    }
    assert_eq!(telemetry(&room, &other, json!({"id": "b", "data": {}})).await[0]["status"], "accepted");
}

#[tokio::test]
async fn a_clock_that_stands_wrong_costs_the_time_and_not_the_values() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    let at = |moment: Timestamp| json!({"ts": moment.millis(), "data": {}});
    let ahead = NOW.plus(AHEAD);
    let items =
        [NOW, ahead, Timestamp(ahead.millis() + 1), EARLIEST, Timestamp(EARLIEST.millis() - 1), Timestamp(0)];
    let results = telemetry(&room, &device, json!(items.map(at))).await;
    let codes: Vec<_> = results.iter().map(|result| result["code"].as_str().unwrap_or("")).collect();
    assert_eq!(codes, ["", "", "clock", "", "clock", "clock"]);
    assert!(results.iter().all(|result| result["status"] == "accepted"));
    let kept: Vec<_> = log(&room).await.iter().map(|row| row.event.at).collect();
    assert_eq!(kept, [NOW, ahead, NOW, EARLIEST, NOW, NOW]);
}

#[tokio::test]
async fn a_notification_is_kept_with_all_that_people_are_told() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    let item = json!({"id": "n", "type": "door.open", "severity": "warning", "title": "Door", "body": "open", "data": {"d": 1}});
    let results = report(&room, &device, "notifications", &json!([item, {"type": "x"}])).await;
    assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!("accepted"), &json!("rejected")));
    let rows = log(&room).await;
    assert_eq!((rows.len(), rows[0].event.subject.as_str()), (1, "notification"));
    let expected = json!({"type": "door.open", "severity": "warning", "title": "Door", "body": "open", "data": {"d": 1}});
    assert_eq!(rows[0].event.data, expected);
    assert_eq!(rows[0].event.source_id.as_deref(), Some("n"));
}

#[tokio::test]
async fn a_report_has_bounds() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    let call = async |body: String| room.as_device(&device, "POST", "/device/v1/telemetry", &body).await;
    for bad in ["", "{", "[]", "7 7", "[{\"data\":{}}"] {
        assert_eq!(call(bad.into()).await.0, 400, "{bad:?}");
    }
    let many = |count: usize| json!(vec![json!({"data": {}}); count]).to_string();
    assert_eq!(call(many(501)).await.0, 400);
    assert_eq!(call(many(500)).await.0, 200);
    let large = |bytes: usize| json!({"data": {"x": "y".repeat(bytes)}});
    assert_eq!(call(large(LARGEST_REPORT).to_string()).await.0, 413);
    let results = telemetry(&room, &device, json!([large(LARGEST_ITEM), large(LARGEST_ITEM - 100)])).await;
    assert_eq!((&results[0]["code"], &results[1]["status"]), (&json!("too_large"), &json!("accepted")));
    let nested = |depth: usize| format!("{{\"data\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let codes = async |text: String| call(text).await.1["results"][0]["code"].clone();
    assert_eq!(codes(nested(DEEPEST - 1)).await, Value::Null);
    assert_eq!(codes(nested(DEEPEST)).await, "too_deep");
    assert_eq!(
        codes(r#"{"data":{"text":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[["}}"#.into()).await,
        Value::Null
    );
    assert_eq!(codes(r#"{"data":{"n":1e999}}"#.into()).await, "malformed", "nobody could read it");
    assert_eq!(codes(r#"{"data":{"s":"\ud800"}}"#.into()).await, "malformed");
}

#[tokio::test]
async fn a_device_that_reports_too_much_is_told_when_to_come_again_and_others_are_not_slowed() {
    let room = Room::new().await;
    let (device, other) = (room.device("default", "cam-01").await, room.device("default", "cam-02").await);
    let many = json!(vec![json!({"data": {}}); 500]).to_string();
    let call = async |device: &DeviceRef, path: &str| room.as_device(device, "POST", path, &many).await;
    for _ in 0..2 {
        assert_eq!(call(&device, "/device/v1/telemetry").await.0, 200);
    }
    let (status, problem) = call(&device, "/device/v1/telemetry").await;
    assert_eq!((status, &problem["code"]), (429, &json!("TMX-4029")), "{problem}");
    assert_eq!(log(&room).await.len(), 1000, "nothing of it was kept");
    assert_eq!(call(&other, "/device/v1/telemetry").await.0, 200);
    let refusal = too_many(Duration::from_millis(4001));
    assert_eq!((refusal.http_status(), refusal.retry_after), (429, Some(5)));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_told_and_nothing_is_promised() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    room.store.close().await;
    let (status, _) = room.as_device(&device, "POST", "/device/v1/telemetry", r#"{"data":{}}"#).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_device_sees_itself() {
    let room = Room::new().await;
    let device = room.device("default", "cam-01").await;
    let (status, seen) = room.as_device(&device, "GET", "/device/v1/self", "").await;
    assert_eq!((status, &seen["id"], &seen["tenant"]), (200, &json!("cam-01"), &json!("default")));
    assert_eq!((&seen["session"], &seen["time"]), (&Value::Null, &json!("2027-01-15T08:00:00.000Z")));
    room.connect(&device, &[]).await;
    let (_, seen) = room.as_device(&device, "GET", "/device/v1/self", "").await;
    assert!(seen["session"]["generation"].is_u64(), "{seen}");
    let gone = crate::testing::device("default", "cam-09");
    assert_eq!(room.as_device(&gone, "GET", "/device/v1/self", "").await.0, 403);
}
