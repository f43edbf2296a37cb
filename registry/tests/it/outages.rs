//! The server stopped, silent, emptied, read-only, without its replicas: the node goes on, and afterwards the
//! shared table is whole.

use std::{collections::BTreeMap, time::Duration};

use model::Timestamp;
use registry::{Registry, RegistryError};
use tokio::time::Instant;

use crate::{
    nodes::{Node, connect, device, digest, event, heard, ticket, two, until, within},
    server::Server,
};

/// What a node has to do by itself while the server cannot be used. Returns the sessions that it made.
async fn goes_on(node: &Node, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let registry = &node.registry;
    let mut events = registry.subscribe();
    let began = Instant::now();
    let refused = registry.put_ticket(digest(1), ticket(1), Timestamp(0)).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");
    let refused = registry.take_ticket(&digest(1), Timestamp(0)).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");
    let highest = before.values().max().copied().unwrap_or(0);
    let made = node.connect((0..50).map(|number| format!("new-{number}"))).await;
    assert!(made.values().all(|generation| *generation > highest), "greater than any before");
    let moved = connect(registry, "new-0").await;
    assert!(moved.generation.0 > made["default/new-0"], "and greater again");
    for name in made.keys().chain(before.keys()) {
        let name = name.trim_start_matches("default/");
        assert!(registry.lookup(&device(name)).await.is_some(), "{name} is held here");
    }
    assert_eq!(registry.lookup(&device("nowhere")).await, None);
    registry.publish(event(5));
    assert_eq!(heard(&mut events), [5], "at once and once");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    // Once the outage is known, nothing waits for the server at all.
    until("the outage is known", async || registry.health().problem).await;
    let began = Instant::now();
    for number in 0..50 {
        registry.lookup(&device("nowhere")).await;
        connect(registry, &format!("new-{number}")).await;
    }
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(
        registry
            .disconnect(&device("new-49"), registry.lookup(&device("new-49")).await.unwrap().generation)
            .await
    );
    held(registry, made.keys()).await
}

/// The generations of those devices that the node holds.
async fn held<'a>(registry: &Registry, names: impl Iterator<Item = &'a String>) -> BTreeMap<String, u64> {
    let mut held = BTreeMap::new();
    for name in names {
        if let Some(row) = registry.lookup(&device(name.trim_start_matches("default/"))).await {
            held.insert(name.clone(), row.generation.0);
        }
    }
    held
}

/// The table has exactly these rows within 30 s, and another node sees them.
async fn becomes_whole(server: &Server, other: &Node, expected: &BTreeMap<String, u64>) {
    let expected: Vec<_> = expected.clone().into_iter().collect();
    within(Duration::from_secs(30), "the table is whole", async || {
        let rows = server.rows().await;
        let strange: Vec<_> = rows.iter().filter(|row| !expected.contains(row)).take(3).collect();
        let missing: Vec<_> = expected.iter().filter(|row| !rows.contains(row)).take(3).collect();
        (rows == expected)
            .then_some(())
            .ok_or_else(|| format!("{} rows, strange {strange:?}, missing {missing:?}", rows.len()))
    })
    .await;
    within(Duration::from_secs(10), "the other node sees all", async || {
        for (name, generation) in &expected {
            let row = other.registry.lookup(&device(name.trim_start_matches("default/"))).await;
            if row.as_ref().map(|row| row.generation.0) != Some(*generation) {
                return Err((name.clone(), row));
            }
        }
        Ok(())
    })
    .await;
}

/// One outage from its beginning to a whole table.
async fn outage(begin: impl AsyncFnOnce(&mut Server), end: impl AsyncFnOnce(&mut Server)) {
    let mut server = Server::start().await;
    let (one, two) = two(&server).await;
    let mut before = one.connect((0..300).map(|number| format!("old-{number}"))).await;
    assert_eq!(server.rows().await.len(), 300);
    begin(&mut server).await;
    let made = goes_on(&one, &before).await;
    one.registry.publish(event(7));
    let mut told = two.registry.subscribe();
    end(&mut server).await;
    before.extend(made);
    assert_eq!(before.len(), 349);
    becomes_whole(&server, &two, &before).await;
    // What was told meanwhile is heard, once.
    let mut all = vec![];
    until("the event of the outage is heard there", async || {
        all.extend(heard(&mut told));
        all.contains(&7).then_some(()).ok_or(all.clone())
    })
    .await;
    one.registry.publish(event(8));
    until("and one that comes after", async || {
        all.extend(heard(&mut told));
        all.contains(&8).then_some(()).ok_or(all.clone())
    })
    .await;
    assert_eq!(all.iter().filter(|number| **number == 7).count(), 1, "{all:?}");
    until("tickets are given again", async || {
        one.registry.put_ticket(digest(9), ticket(1), Timestamp(0)).await
    })
    .await;
    assert_eq!(two.registry.take_ticket(&digest(9), Timestamp(0)).await, Ok(Some(ticket(1))));
    // A newer session of an old device, on the other node: newer than all that was given anywhere.
    let newest = before.values().max().copied().unwrap();
    assert!(connect(&two.registry, "old-0").await.generation.0 > newest);
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_empty() {
    outage(async |server| server.kill(), async |server| server.start_again().await).await;
}

#[tokio::test]
async fn a_server_that_stands_still() {
    outage(async |server| server.signal("STOP"), async |server| server.signal("CONT")).await;
}

#[tokio::test]
async fn a_server_that_has_become_a_replica() {
    outage(
        async |server| {
            // Of a port where nobody answers: it serves what it has and takes no writes.
            let done: String = server.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
            assert_eq!(done, "OK");
        },
        async |server| assert_eq!(server.ask::<String>(&["REPLICAOF", "NO", "ONE"]).await, "OK"),
    )
    .await;
}

#[tokio::test]
async fn a_server_that_lacks_its_replicas() {
    let limit = |count| {
        async move |server: &mut Server| {
            assert_eq!(server.ask::<String>(&["CONFIG", "SET", "min-replicas-to-write", count]).await, "OK");
        }
    };
    outage(limit("1"), limit("0")).await;
}

#[tokio::test]
async fn an_emptied_server_is_filled_again_and_nobody_notices() {
    let server = Server::start().await;
    let (one, two) = two(&server).await;
    let mut before = one.connect((0..300).map(|number| format!("old-{number}"))).await;
    let mut told = two.registry.subscribe();
    assert_eq!(server.ask::<String>(&["FLUSHALL"]).await, "OK");
    let highest = before.values().max().copied().unwrap();
    let made = one.connect(["new-0".to_owned()]).await;
    assert!(made["default/new-0"] > highest, "greater than any before");
    assert_eq!(one.registry.lookup(&device("old-0")).await.unwrap().generation.0, before["default/old-0"]);
    before.extend(made);
    becomes_whole(&server, &two, &before).await;
    one.registry.publish(event(3));
    until("events go on", async || {
        let all = heard(&mut told);
        all.contains(&3).then_some(()).ok_or(all)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_starts_without_the_server_joins_when_it_is_there() {
    let mut server = Server::start().await;
    server.kill();
    let node = Node::start(&server, 1, 1);
    let problem = until("the problem is told", async || {
        node.registry.health().problem.filter(|problem| !problem.contains("not reached yet"))
    })
    .await;
    assert!(!problem.is_empty() && node.registry.health().shared.is_some(), "{problem}");
    let held = node.connect(["cam-01".to_owned()]).await;
    server.start_again().await;
    let other = Node::join(&server, 2).await;
    becomes_whole(&server, &other, &held).await;
}
