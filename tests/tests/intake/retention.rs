//! Retention while devices report: what is younger than the limits stays whole and in order, whoever listens hears
//! all of it, and whoever comes back too late is told so.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tests::{Answer, Cloud, EnrolledDevice, Provider, eventually_within, run_ok};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::say;

#[tokio::test]
async fn the_log_keeps_to_its_room_while_devices_report_and_loses_nothing_that_fits() {
    retention_under_load(120).await;
}

#[tokio::test]
#[ignore = "takes minutes: scripts/prove retention"]
async fn proof_retention_under_load() {
    let slowest = retention_under_load(1500).await;
    assert!(slowest < LONGEST_PAUSE, "a report waited {slowest:?}");
}

/// Lets devices report this many batches each into a log of one MiB; how long the slowest took.
async fn retention_under_load(batches: u64) -> Duration {
    let provider = Provider::start().await;
    let config = "[events]\nmax_mib = 1\n[device_gateway]\ntelemetry_per_second = 1000000";
    let cloud = Cloud::plan().config(config).provider(&provider).start().await;
    let alice = provider.token("alice");
    let user = cloud.user_id(&alice).await;
    let mut doors = vec![];
    for number in 0..DEVICES {
        let id = format!("meter-{number}");
        let device = EnrolledDevice::enrol(&cloud, &id).await;
        cloud.grant(&id, &user, json!({"level": "viewer"})).await;
        doors.push(cloud.device().showing(&device.identity()));
    }
    let listen = async |last: Option<u64>| {
        let mut call = cloud.user().get("/v1/events?type=telemetry").bearer(&alice);
        if let Some(last) = last {
            call = call.header("last-event-id", format!("ev_{last}"));
        }
        call.send().await
    };
    let mut live = Listener::new(listen(None).await.expect(200).await);
    // A listener that falls behind by a thousand events is sent away, and rightly: this one never does.
    let ahead = Arc::new(Semaphore::new(AHEAD));
    let mut reporters = JoinSet::new();
    for door in doors {
        let ahead = Arc::clone(&ahead);
        reporters.spawn(async move {
            let (mut numbers, mut slowest) = (vec![], Duration::ZERO);
            for batch in 0..batches {
                let items: Vec<_> = (0..BATCH)
                    .map(|nth| json!({"data": {"n": batch * BATCH + nth, "x": "y".repeat(1000)}}))
                    .collect();
                ahead.acquire_many(u32::try_from(BATCH).unwrap()).await.unwrap().forget();
                let begin = Instant::now();
                let answer = door.post("/device/v1/telemetry").json(&json!(items)).send().await;
                let answer = answer.expect(200).await.json().await;
                slowest = slowest.max(begin.elapsed());
                let results = answer["results"].as_array().unwrap();
                numbers.extend(results.iter().map(|result| result["seq"].as_u64().unwrap()));
            }
            (numbers, slowest)
        });
    }
    let total = batches * BATCH * DEVICES;
    // Whoever reads at once hears everything, whatever is deleted behind it.
    let mut next_of = std::collections::HashMap::<String, u64>::new();
    let mut heard = Vec::with_capacity(usize::try_from(total).unwrap());
    while (heard.len() as u64) < total {
        let (seq, event) = live.next().await;
        let next = next_of.entry(event["subject"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(event["data"]["n"].as_u64(), Some(*next), "in order, none lost, none twice: {event}");
        *next += 1;
        heard.push(seq);
        ahead.add_permits(1);
    }
    let (mut numbers, mut slowest) = (vec![], Duration::ZERO);
    for (of_device, slow) in reporters.join_all().await {
        numbers.extend(of_device);
        slowest = slowest.max(slow);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, heard, "what was answered is what was told");
    let kept = eventually_within(Duration::from_secs(30), "the log fits its room", || async {
        let kept = log(&cloud).await;
        if kept.bytes <= 1 << 20 { Ok(kept) } else { Err(format!("{} bytes", kept.bytes)) }
    })
    .await;
    say(&format!(
        "{total} events, {} left with {} bytes; the slowest report took {slowest:?}",
        kept.numbers.len(),
        kept.bytes
    ));
    // What is left is the log's end, whole, and as much as fits.
    assert_eq!(kept.numbers, heard[heard.len() - kept.numbers.len()..]);
    assert!(kept.numbers.len() < heard.len() / 2, "control: most was deleted");
    assert!(kept.bytes > (1 << 20) - 20_000, "no more was deleted than had to be: {}", kept.bytes);

    // Who was here before what was deleted is told; who was here after it goes on without a gap.
    let oldest = kept.numbers[0];
    for gone in [1, heard[0], oldest - 2] {
        let refused = listen(Some(gone)).await.expect(410).await.text().await;
        assert!(refused.contains("history"), "{refused}");
    }
    for last in [oldest - 1, oldest, heard[heard.len() - 3]] {
        let mut resumed = Listener::new(listen(Some(last)).await.expect(200).await);
        for expected in heard.iter().filter(|seq| **seq > last) {
            assert_eq!(resumed.next().await.0, *expected, "after {last}");
        }
    }
    slowest
}

/// Reads server-sent events one by one.
struct Listener {
    answer: Answer,
    text: String,
}

impl Listener {
    fn new(answer: Answer) -> Self {
        Self { answer, text: String::new() }
    }

    async fn next(&mut self) -> (u64, serde_json::Value) {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let line = |name| block.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(id), Some(data)) = (line("id: ev_"), line("data: ")) {
                    return (id.parse().unwrap(), serde_json::from_str(data).unwrap());
                }
                assert!(!block.contains("come back"), "{block}");
            }
            let piece = timeout(Duration::from_secs(60), self.answer.next()).await.expect("an event in time");
            self.text.push_str(std::str::from_utf8(&piece.expect("the stream goes on").unwrap()).unwrap());
        }
    }
}

/// The log as it lies in the database.
struct Log {
    numbers: Vec<u64>,
    bytes: u64,
}

async fn log(cloud: &Cloud) -> Log {
    let script = "import json, sqlite3, sys\n\
        base = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
        base.execute('BEGIN')\n\
        rows = base.execute(\"SELECT seq FROM events WHERE subject = 'telemetry' ORDER BY seq\")\n\
        numbers = [row[0] for row in rows]\n\
        total = base.execute(\"SELECT value FROM counters WHERE name = 'events_bytes'\").fetchone()[0]\n\
        print(json.dumps([numbers, total]))\n";
    let database = cloud.data().join("tcpmux.db").display().to_string();
    let said = run_ok("python3", ["-c", script, &database], b"").await;
    let (numbers, bytes) = serde_json::from_str(&said).unwrap();
    Log { numbers, bytes }
}

const DEVICES: u64 = 4;
const BATCH: u64 = 20;
/// Events that are reported and not heard yet: fewer than wait for a listener, more than all devices report at once.
const AHEAD: usize = 400;
/// No report takes longer, with a step of retention, a disk's flush and a handshake of its own.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
