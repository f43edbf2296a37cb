//! The uplink against a device gateway in this process.

use std::sync::{Arc, Mutex};

use model::{ReportKind, Secret, Timestamp};
use runtime::{Clock, Tasks};
use serde_json::{Value, json};

use crate::{
    SpoolStatus, TrustedTime,
    daemon_tests::{Device, soon},
    fake_cloud::{FakeCloud, Heard},
    spool::{NewRecord, SpoolKeeper},
    test_pki::{ALWAYS, Pki},
    uplink::{TokenHolder, Uplink},
};

const NOW: Timestamp = Timestamp::from_secs(1_795_303_719);

/// What the gateway answers to this batch; `None` hangs up.
type Behaviour = dyn Fn(&Heard, &[Value]) -> Option<(u16, Value)> + Send + Sync;

struct Scene {
    cloud: FakeCloud,
    spool: SpoolKeeper,
    tokens: Arc<TokenHolder>,
    device: Device,
    tasks: Tasks,
    /// The numbers of the items that the gateway took, in their order.
    taken: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

impl Scene {
    async fn new(
        behaviour: impl Fn(&Heard, &[Value]) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let (pki, taken) = (Arc::new(Pki::new()), Arc::new(Mutex::new(vec![])));
        let (log, behaviour) = (Arc::clone(&taken), Box::new(behaviour) as Box<Behaviour>);
        let answers = Box::new(move |heard: &Heard| {
            let items: Vec<Value> = serde_json::from_slice(&heard.body).unwrap();
            let (status, body) = behaviour(heard, &items)?;
            if status == 200 {
                let results = body["results"].as_array().unwrap();
                let accepted = items.iter().zip(results).filter(|(_, result)| result["status"] == "accepted");
                log.lock().unwrap().extend(accepted.map(|(item, _)| item["n"].as_u64().unwrap()));
            }
            Some((status, body.to_string().into_bytes()))
        });
        let cloud = FakeCloud::with(Arc::clone(&pki), &pki, &["localhost"], ALWAYS, answers).await;
        let (device, tasks) = (Device::of(&cloud, &[]), Tasks::new());
        let directory = device.config.state.path().join("spool");
        let spool = SpoolKeeper::open(directory, 1 << 20, &tasks).await.unwrap();
        Self { cloud, spool, tokens: Arc::default(), device, tasks, taken }
    }

    async fn put(&self, kind: ReportKind, numbers: impl IntoIterator<Item = u64>) {
        let json = |number: u64| json!({"n": number}).to_string().into_bytes();
        let records = numbers.into_iter().map(|number| NewRecord { kind, json: json(number) }).collect();
        self.spool.store(records, NOW).await.unwrap();
    }

    fn start(&self) {
        let (spool, tokens) = (self.spool.clone(), Arc::clone(&self.tokens));
        let time = TrustedTime::new(Clock::manual(NOW).0, NOW);
        let uplink = Uplink { config: self.device.config.clone(), time, spool, tokens };
        self.tasks.spawn(uplink.run());
    }

    async fn until(&self, wanted: impl Fn(&SpoolStatus) -> bool) -> SpoolStatus {
        soon(async {
            loop {
                let status = self.spool.status();
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    fn taken(&self) -> Vec<u64> {
        self.taken.lock().unwrap().clone()
    }
}

fn accepted(items: &[Value]) -> Option<(u16, Value)> {
    Some((200, json!({"results": vec![json!({"status": "accepted"}); items.len()]})))
}

#[tokio::test]
async fn what_waits_goes_up_in_order_each_kind_to_its_place_with_the_certificate_where_there_is_no_token() {
    let scene = Scene::new(|_, items| accepted(items)).await;
    scene.put(ReportKind::Telemetry, 1..=300).await;
    scene.put(ReportKind::Notification, 301..=302).await;
    scene.put(ReportKind::Telemetry, 303..=304).await;
    scene.start();
    let status = scene.until(|status| status.waiting == 0).await;
    assert_eq!((status.uploaded, status.dropped, status.last_error), (304, 0, None));
    assert_eq!(scene.taken(), (1..=304).collect::<Vec<_>>());
    let paths = ["telemetry", "telemetry", "notifications", "telemetry"];
    assert_eq!(scene.cloud.lines(), paths.map(|path| format!("POST /device/v1/{path}")));
    assert!(scene.cloud.heard().iter().all(|heard| heard.client.is_some() && heard.authorization.is_none()));
    scene.put(ReportKind::Telemetry, [305]).await;
    scene.until(|status| status.uploaded == 305).await;
}

#[tokio::test]
async fn a_token_is_shown_in_place_of_the_certificate_until_the_cloud_refuses_it() {
    let scene = Scene::new(|heard, items| match heard.authorization.as_deref() {
        Some("Bearer old") => Some((401, json!({}))),
        _ => accepted(items),
    })
    .await;
    scene.tokens.put(Secret::new("good".into()));
    scene.put(ReportKind::Telemetry, [1]).await;
    scene.start();
    scene.until(|status| status.uploaded == 1).await;
    let heard = scene.cloud.heard();
    assert_eq!((heard[0].authorization.as_deref(), heard[0].client.is_some()), (Some("Bearer good"), false));
    drop(scene);

    let scene = Scene::new(|heard, items| match heard.authorization.as_deref() {
        Some("Bearer old") => Some((401, json!({}))),
        _ => accepted(items),
    })
    .await;
    scene.tokens.put(Secret::new("old".into()));
    scene.put(ReportKind::Telemetry, [1]).await;
    scene.start();
    scene.until(|status| status.uploaded == 1).await;
    let heard = scene.cloud.heard();
    assert_eq!((heard.len(), heard[1].authorization.is_none(), heard[1].client.is_some()), (2, true, true));
}

#[tokio::test]
async fn a_cloud_that_is_away_or_busy_costs_nothing_but_time() {
    let trouble = Mutex::new(vec![
        Some((503, json!("draining"))),
        None,
        Some((429, json!("slow"))),
        Some((200, json!({}))),
    ]);
    let scene = Scene::new(move |_, items| match trouble.lock().unwrap().pop() {
        Some(answer) => answer.map(|(status, body)| {
            // An answer that does not tell what became of the items is none.
            if status == 200 { (200, json!({"results": []})) } else { (status, body) }
        }),
        None => accepted(items),
    })
    .await;
    scene.put(ReportKind::Telemetry, 1..=3).await;
    scene.start();
    let failing = scene.until(|status| status.last_error.is_some()).await;
    assert_eq!(failing.waiting, 3);
    let status = scene.until(|status| status.waiting == 0 && status.last_error.is_none()).await;
    assert_eq!(status.uploaded, 3);
    assert_eq!((scene.taken(), scene.cloud.lines().len()), (vec![1, 2, 3], 5));
}

#[tokio::test]
async fn what_the_cloud_refuses_for_good_is_dropped_and_holds_up_nothing() {
    let scene = Scene::new(|_, items| {
        let judge = |item: &Value| match item["n"].as_u64() {
            Some(2) => json!({"status": "rejected", "code": "malformed", "detail": "no"}),
            Some(3) => json!({"status": "duplicate"}),
            _ => json!({"status": "accepted"}),
        };
        Some((200, json!({"results": items.iter().map(judge).collect::<Vec<_>>()})))
    })
    .await;
    scene.put(ReportKind::Telemetry, 1..=4).await;
    scene.start();
    let status = scene.until(|status| status.waiting == 0).await;
    assert_eq!((status.uploaded, status.dropped), (3, 1));
    assert_eq!(scene.taken(), [1, 4]);
}

#[tokio::test]
async fn one_item_that_spoils_a_batch_is_found_and_dropped_alone() {
    let scene = Scene::new(|_, items| {
        if items.iter().any(|item| item["n"] == 13) { Some((400, json!("bad"))) } else { accepted(items) }
    })
    .await;
    scene.put(ReportKind::Telemetry, 1..=40).await;
    scene.start();
    let status = scene.until(|status| status.waiting == 0).await;
    assert_eq!((status.uploaded, status.dropped), (39, 1));
    assert_eq!(scene.taken(), (1..=40).filter(|number| *number != 13).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_what_the_cloud_spoke_of_is_taken_off_the_queue() {
    let scene = Scene::new(|_, items| accepted(&items[..items.len().min(7)])).await;
    scene.put(ReportKind::Telemetry, 1..=20).await;
    scene.start();
    scene.until(|status| status.waiting == 0).await;
    assert_eq!(scene.taken(), (1..=20).collect::<Vec<_>>());
    assert_eq!(scene.cloud.lines().len(), 3);
}
