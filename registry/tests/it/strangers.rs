//! Nodes that die, that know more than this one, that hold an older session; and what is kept for how long.

use std::time::Duration;

use model::{Generation, NodeId};

use crate::{
    nodes::{Node, connect, device, event, heard, two, until, within},
    server::Server,
};

#[tokio::test]
async fn the_sessions_of_a_dead_node_count_for_nobody() {
    let server = Server::start().await;
    let (one, two) = two(&server).await;
    let held = one.connect((0..3).map(|number| format!("cam-{number}"))).await;
    assert!(two.registry.lookup(&device("cam-0")).await.is_some());
    until("sessions of all are counted", async || {
        let health = two.registry.health();
        (health.sessions_of_all == held.len()).then_some(()).ok_or(health)
    })
    .await;
    drop(one);
    within(Duration::from_secs(15), "its sessions do not count", async || {
        let (row, health) = (two.registry.lookup(&device("cam-0")).await, two.registry.health());
        (row.is_none() && health.nodes == 1 && health.sessions_of_all == 0).then_some(()).ok_or((row, health))
    })
    .await;
    within(Duration::from_secs(30), "its rows are gone", async || {
        let rows = server.rows().await;
        rows.is_empty().then_some(()).ok_or(rows)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_leaves_takes_its_name_off_the_list() {
    let server = Server::start().await;
    let (one, two) = two(&server).await;
    let held = connect(&one.registry, "cam-01").await.generation;
    one.registry.disconnect(&device("cam-01"), held).await;
    // One session ended, another is cut off.
    connect(&one.registry, "cam-02").await;
    one.registry.close().await;
    assert_eq!(server.rows().await, []);
    let nodes: Vec<String> = server.ask(&["ZRANGE", "tcpmux:nodes", "0", "-1"]).await;
    assert_eq!(nodes, [two.registry.node().to_string()]);
}

#[tokio::test]
async fn an_older_session_gives_way_to_a_newer_one_elsewhere() {
    let server = Server::start().await;
    let (one, two) = two(&server).await;
    let mut superseded = one.registry.superseded();
    let mut told = one.registry.subscribe();
    let older = connect(&one.registry, "cam-01").await.generation;
    let newer = connect(&two.registry, "cam-01").await.generation;
    // Nobody tells the first node but the table itself.
    let order = tokio::time::timeout(Duration::from_secs(20), superseded.recv()).await.unwrap().unwrap();
    assert_eq!((order.device, order.by), (device("cam-01"), newer));
    assert_eq!(one.registry.lookup(&device("cam-01")).await.unwrap().generation, newer);
    assert!(!one.registry.disconnect(&device("cam-01"), older).await);
    // With an event it is told at once.
    connect(&one.registry, "cam-02").await;
    let newer = connect(&two.registry, "cam-02").await.generation;
    two.registry.publish(model::Event::DeviceConnected {
        device: device("cam-02"),
        session: model::SessionId::from_random([9; 16]),
        generation: newer,
        node: two.registry.node().clone(),
        at: model::Timestamp(1),
    });
    let order = tokio::time::timeout(Duration::from_secs(5), superseded.recv()).await.unwrap().unwrap();
    assert_eq!((order.device, order.by), (device("cam-02"), newer));
    assert!(told.recv().await.is_ok());
}

#[tokio::test]
async fn what_is_not_understood_is_skipped() {
    let server = Server::start().await;
    let node = Node::join(&server, 1).await;
    let mut events = node.registry.subscribe();
    let stranger = NodeId::from_random([7; 16]).to_string();
    let long = format!(r#"{{"what":"event","event":"{}"}}"#, "x".repeat(100_000));
    let later = r#"{"what":"event","event":{"kind":"device_painted","colour":"red"}}"#;
    let unheard = r#"{"what":"sing","song":"la"}"#;
    for (number, body) in [("1", unheard), ("2", later), ("3", "{"), ("4", long.as_str()), ("x", "{}")] {
        let words = ["XADD", "tcpmux:bus", "*", "from", &stranger, "number", number, "body", body];
        server.ask::<String>(&words).await;
    }
    server.ask::<String>(&["XADD", "tcpmux:bus", "*", "something", "else"]).await;
    let good = serde_json::to_string(&event(1)).unwrap();
    let good = format!(r#"{{"what":"event","event":{good},"more":"members"}}"#);
    for number in ["5", "5", "6"] {
        let words = ["XADD", "tcpmux:bus", "*", "from", &stranger, "number", number, "body", &good];
        server.ask::<String>(&words).await;
    }
    let mut all = vec![];
    until("the good ones are heard", async || {
        all.extend(heard(&mut events));
        (all.len() >= 2).then_some(()).ok_or(all.clone())
    })
    .await;
    assert_eq!(all, [1, 1], "the fifth once, although it was sent twice, and the sixth");
}

#[tokio::test]
async fn a_row_that_is_no_row_troubles_its_device_alone() {
    let server = Server::start().await;
    let (one, two) = two(&server).await;
    server.ask::<String>(&["SET", "tcpmux:session:default/cam-01", "nonsense"]).await;
    assert_eq!(one.registry.lookup(&device("cam-01")).await, None);
    let generation = connect(&one.registry, "cam-01").await.generation;
    assert!(generation > Generation(0));
    assert_eq!(one.registry.lookup(&device("cam-01")).await.unwrap().generation, generation);
    until("another device is seen by the other node", async || {
        let standing = connect(&one.registry, "cam-02").await.generation;
        let seen = two.registry.lookup(&device("cam-02")).await;
        (seen.as_ref().map(|row| row.generation) == Some(standing)).then_some(()).ok_or(seen)
    })
    .await;
}
