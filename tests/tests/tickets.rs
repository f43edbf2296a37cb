//! One ticket and many who want it at once, over HTTP: one WebSocket opens.

use std::sync::Arc;

use serde_json::json;
use tests::{Cloud, Provider, Redis};
use tokio::{sync::Barrier, task::JoinSet};

#[tokio::test]
async fn of_all_who_show_one_ticket_at_once_one_gets_in() {
    race(3, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/prove tickets"]
async fn proof_two_hundred_races_of_fifty_over_http() {
    race(200, 50).await;
}

/// So many races of so many, at a cloud whose tickets lie on a Redis server.
async fn race(rounds: usize, racers: usize) {
    let (provider, redis) = (Provider::start().await, Redis::start().await);
    let plan = Cloud::plan().provider(&provider).log_level("warn");
    let cloud = plan.flag("--registry").flag(&redis.url()).start().await;
    let alice = provider.token("alice");
    cloud.user_id(&alice).await;
    for round in 0..rounds {
        let asked = cloud.user().post("/v1/tickets").bearer(&alice).json(&json!({})).send().await;
        let ticket = asked.expect(201).await.json().await["ticket"].as_str().unwrap().to_owned();
        let start = Arc::new(Barrier::new(racers));
        let mut racing = JoinSet::new();
        for _ in 0..racers {
            let (door, ticket, start) = (cloud.user(), ticket.clone(), Arc::clone(&start));
            racing.spawn(async move {
                let path = format!("/v1/topics/default.telemetry?ticket={ticket}");
                let connection = door.connect().await;
                start.wait().await;
                door.websocket_on(connection, &path, &[]).await.map_or_else(|status| status, |_| 101)
            });
        }
        let mut answers = racing.join_all().await;
        answers.sort_unstable();
        let mut expected = vec![401; racers];
        expected[0] = 101;
        assert_eq!(answers, expected, "round {round}");
    }
}
