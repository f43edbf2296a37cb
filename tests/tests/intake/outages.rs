//! D32, its part of events: the shared registry away, emptied, read-only, and the store locked. What was answered is in
//! the log, and whoever listens goes on, or ends with the cause and comes back without a gap.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Answer, Cloud, Provider, Redis, eventually_within};
use tokio::time::timeout;

use super::{Reporter, logged, statuses};

struct Scene {
    cloud: Cloud,
    provider: Provider,
    reporter: Reporter,
    next: u64,
}

impl Scene {
    async fn set(plan: tests::CloudPlan) -> Self {
        let provider = Provider::start().await;
        let cloud = plan.provider(&provider).start().await;
        let reporter = Reporter::enrol(&cloud, "cam-01").await;
        let user = cloud.user_id(&provider.token("alice")).await;
        cloud.grant("cam-01", &user, json!({"level": "viewer"})).await;
        Self { cloud, provider, reporter, next: 0 }
    }

    async fn listen(&self, after: Option<&str>) -> Answer {
        let token = self.provider.token("alice");
        let mut call = self.cloud.user().get("/v1/events?type=telemetry").bearer(&token);
        if let Some(after) = after {
            call = call.header("last-event-id", after);
        }
        call.send().await.expect(200).await
    }

    /// Reports some items, which are answered.
    async fn report(&mut self) {
        let numbers = self.next..self.next + 5;
        assert_eq!(self.reporter.report("telemetry", numbers.clone()).await, ["accepted"; 5]);
        self.next = numbers.end;
    }

    /// Reports some items until they are answered.
    async fn report_until_answered(&mut self) {
        let numbers = self.next..self.next + 5;
        let (reporter, asked) = (&self.reporter, numbers.clone());
        eventually_within(Duration::from_secs(30), "an answer", || async {
            let answer = reporter.call("telemetry", asked.clone()).send().await;
            if answer.status == 200 { Ok(()) } else { Err(answer.problem().await) }
        })
        .await;
        self.next = numbers.end;
    }

    async fn all_is_logged(&self) {
        assert_eq!(logged(&self.cloud, "cam-01").await, (0..self.next).collect::<Vec<_>>());
    }
}

/// What a listener has heard: the numbers of the items, and the last id.
#[derive(Default)]
struct Heard {
    numbers: Vec<u64>,
    last: String,
    text: String,
}

impl Heard {
    /// Reads until this many items were heard; false if the stream ended before.
    async fn until(&mut self, answer: &mut Answer, count: u64) -> bool {
        while (self.numbers.len() as u64) < count {
            let piece = timeout(Duration::from_secs(40), answer.next()).await;
            match piece.unwrap_or_else(|_| panic!("{count} items after {:?}", self.numbers)) {
                Some(Ok(piece)) => self.text.push_str(std::str::from_utf8(&piece).unwrap()),
                _ => return false,
            }
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                for line in block.lines() {
                    if let Some(id) = line.strip_prefix("id: ") {
                        id.clone_into(&mut self.last);
                    }
                    if let Some(data) = line.strip_prefix("data: ") {
                        let event: Value = serde_json::from_str(data).unwrap();
                        self.numbers.push(event["data"]["n"].as_u64().unwrap());
                    }
                }
                self.text = rest.to_owned();
            }
        }
        true
    }
}

#[tokio::test]
async fn no_state_of_the_registry_costs_an_event_or_ends_a_stream() {
    let mut redis = Redis::start().await;
    let mut scene = Scene::set(Cloud::plan().flag("--registry").flag(&redis.url())).await;
    let (mut heard, mut stream) = (Heard::default(), scene.listen(None).await);
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);

    let alice = scene.provider.token("alice");
    let ticket =
        |scene: &Scene| scene.cloud.user().post("/v1/tickets").bearer(&alice).json(&json!({})).send();
    assert_eq!(redis.ask("FLUSHALL").await, "OK");
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);
    assert_eq!(redis.ask("REPLICAOF 127.0.0.1 1").await, "OK");
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);
    // Tickets alone need it, and say so.
    ticket(&scene).await.expect(503).await;
    assert_eq!(redis.ask("REPLICAOF NO ONE").await, "OK");
    redis.signal("STOP");
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);
    redis.signal("CONT");
    redis.kill();
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);
    ticket(&scene).await.expect(503).await;
    redis.start_again().await;
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);
    eventually_within(Duration::from_secs(30), "tickets again", || async {
        let status = ticket(&scene).await.status;
        if status == 201 { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(heard.numbers, (0..scene.next).collect::<Vec<_>>());
    scene.all_is_logged().await;
}

#[tokio::test]
async fn while_the_store_is_locked_nothing_is_promised_and_afterwards_a_listener_has_no_gap() {
    let mut scene = Scene::set(Cloud::plan()).await;
    let (mut heard, mut stream) = (Heard::default(), scene.listen(None).await);
    scene.report().await;
    assert!(heard.until(&mut stream, scene.next).await);

    let lock = scene.cloud.lock_database().await;
    let numbers = scene.next..scene.next + 5;
    let refused = scene.reporter.call("telemetry", numbers.clone()).send().await;
    assert_eq!(refused.status, 503, "nothing is promised");
    assert!(!refused.header("retry-after").is_empty());
    scene.all_is_logged().await;
    // Whoever listens is not cut off, and reading goes on: a listener that comes back catches up.
    let mut second = Heard::default();
    let mut catching_up = scene.listen(Some("ev_0")).await;
    assert!(second.until(&mut catching_up, scene.next).await);
    drop(lock);

    scene.report_until_answered().await;
    scene.report().await;
    if !heard.until(&mut stream, scene.next).await {
        // The stream may have ended with its cause; it goes on where it was.
        assert!(heard.text.contains("come back with Last-Event-ID"), "{}", heard.text);
        let last = heard.last.clone();
        assert!(heard.until(&mut scene.listen(Some(&last)).await, scene.next).await);
    }
    assert_eq!(heard.numbers, (0..scene.next).collect::<Vec<_>>());
    assert!(second.until(&mut catching_up, scene.next).await);
    assert_eq!(second.numbers, heard.numbers);
    scene.all_is_logged().await;

    // What came during the lock and was refused is kept once when it comes again.
    let again = scene.reporter.call("telemetry", numbers).send().await.expect(200).await;
    assert_eq!(statuses(again.text().await.as_bytes()), ["duplicate"; 5]);
}
