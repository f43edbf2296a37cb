//! What devices report, from the intake to a listener's WebSocket: 5,000 events a second on one node and its SQLite.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tests::{Cloud, Door, EnrolledDevice, Provider};
use tokio::{
    task::JoinSet,
    time::{Instant, interval_at, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    choice::Choice,
    report::{OURS, Report},
};

pub(crate) async fn measure(choice: &Choice, report: &mut Report) {
    let time = choice.time();
    println!("events: {} devices, {} reports of {ITEMS} items a second each", DEVICES, 1000 / EVERY_MS);
    let provider = Provider::start().await;
    let mut cloud = Cloud::plan().provider(&provider).log_level("warn").start().await;
    let alice = provider.token("alice");
    let user = cloud.user_id(&alice).await;
    let mut doors = vec![];
    for number in 0..DEVICES {
        let id = format!("meter-{number}");
        let device = EnrolledDevice::enrol(&cloud, &id).await;
        cloud.grant(&id, &user, json!({"level": "viewer"})).await;
        doors.push((id, cloud.device().showing(&device.identity())));
    }
    let ticket = cloud.user().post("/v1/tickets").bearer(&alice).json(&json!({})).send().await;
    let ticket = ticket.expect(201).await.json().await["ticket"].as_str().unwrap().to_owned();
    let path = format!("/v1/topics/default.telemetry?ticket={ticket}");
    let mut topic = cloud.user().websocket(&path, &[]).await.unwrap();

    let batches = u64::try_from(time.as_millis()).unwrap() / EVERY_MS;
    let (begin, mut reporters) = (Instant::now(), JoinSet::new());
    for (nth, (_, door)) in (0..).zip(doors) {
        // One after the other within the interval, as clocks of many devices would have it.
        let first = begin + Duration::from_millis(EVERY_MS * nth / DEVICES);
        reporters.spawn(report_on(door, batches, begin, first));
    }
    let total = batches * ITEMS * DEVICES;
    let (mut next_of, mut delays) = (HashMap::<String, u64>::new(), Histogram::<u64>::new(3).unwrap());
    for received in 0..total {
        let text = loop {
            let message = timeout(Duration::from_secs(30), topic.next()).await;
            match message.unwrap_or_else(|_| panic!("{received} of {total} came")) {
                Some(Ok(Message::Text(text))) => break text,
                Some(Ok(Message::Ping(_))) => {}
                end => panic!("after {received} of {total}: {end:?}"),
            }
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        let next = next_of.entry(event["subject"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(event["data"]["n"].as_u64(), Some(*next), "in order, none lost, none twice: {event}");
        *next += 1;
        let sent = Duration::from_micros(event["data"]["sent"].as_u64().unwrap());
        let delay = begin.elapsed().saturating_sub(sent);
        delays.record(u64::try_from(delay.as_micros()).unwrap()).unwrap();
    }
    let took = begin.elapsed();
    let mut answers = Histogram::<u64>::new(3).unwrap();
    for times in reporters.join_all().await {
        answers.add(times).unwrap();
    }
    let milliseconds = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1000.0;
    report.put("S6", "received", "/s", OURS, total as f64 / took.as_secs_f64());
    report.put("S6", "from its sending to a listener, p50", "ms", OURS, milliseconds(&delays, 0.5));
    report.put("S6", "from its sending to a listener, p99", "ms", OURS, milliseconds(&delays, 0.99));
    report.put("S6", "a report with its handshake, p99", "ms", OURS, milliseconds(&answers, 0.99));
    report.put(
        "S6",
        "server, resident at its most",
        "MiB",
        OURS,
        cloud.process().peak_resident_kib() as f64 / 1024.0,
    );
}

/// Reports in a steady pace, each on a connection of its own; how long each took, in microseconds.
async fn report_on(door: Door, batches: u64, begin: Instant, first: Instant) -> Histogram<u64> {
    let mut answers = Histogram::<u64>::new(3).unwrap();
    let mut pace = interval_at(first, Duration::from_millis(EVERY_MS));
    for batch in 0..batches {
        pace.tick().await;
        let sent = begin.elapsed();
        let item = |nth| json!({"data": {"n": batch * ITEMS + nth, "sent": sent.as_micros() as u64}});
        let items: Vec<Value> = (0..ITEMS).map(item).collect();
        let answer = door.post("/device/v1/telemetry").json(&Value::Array(items)).send().await;
        let answer = answer.expect(200).await.json().await;
        let results = answer["results"].as_array().unwrap();
        assert!(results.iter().all(|result| result["status"] == "accepted"), "{answer}");
        answers.record(u64::try_from((begin.elapsed() - sent).as_micros()).unwrap()).unwrap();
    }
    answers
}

const DEVICES: u64 = 10;
const ITEMS: u64 = 100;
const EVERY_MS: u64 = 200;
