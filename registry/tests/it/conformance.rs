//! What the registry promises, wherever it is: two handles of one process, or two nodes and a server.

use std::{collections::BTreeSet, time::Duration};

use model::{CertificateStatus, Fingerprint, NodeId, Timestamp, UserId};
use registry::{
    CertificateEntry, GrantChange, Registry, RegistryError, RevocationNotice, RevocationOrder,
    TICKETS_PER_USER,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    nodes::{connect, device, digest, event, heard, ticket, two, until},
    server::Server,
};

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod in_process {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                let registry = Registry::in_process(NodeId::from_random([1; 16]), 1);
                super::$test(&registry, &registry.clone()).await;
            })*
        }
        mod on_redis {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                let server = Server::start().await;
                let (one, two) = two(&server).await;
                super::$test(&one.registry, &two.registry).await;
            })*
        }
    };
}

on_both!(
    the_newest_session_stands_and_a_late_goodbye_changes_nothing,
    every_generation_is_given_once,
    every_event_is_heard_once_at_both_ends_and_in_order,
    a_change_of_rights_is_known_at_both_ends,
    a_revocation_reaches_every_tunnel_and_the_receipt_is_true,
    one_of_fifty_gets_a_ticket,
    a_ticket_ends_and_a_user_holds_so_many,
);

async fn the_newest_session_stands_and_a_late_goodbye_changes_nothing(here: &Registry, there: &Registry) {
    let first = connect(here, "cam-01").await;
    let second = connect(there, "cam-01").await;
    assert!(second.generation > first.generation);
    assert_eq!(second.replaced.unwrap().generation, first.generation);
    until("both ends know the newer one", async || {
        let camera = device("cam-01");
        let (one, two) = (here.lookup(&camera).await, there.lookup(&camera).await);
        let seen = (one.map(|row| row.generation), two.map(|row| row.generation));
        (seen == (Some(second.generation), Some(second.generation))).then_some(()).ok_or(seen)
    })
    .await;
    assert!(!here.disconnect(&device("cam-01"), first.generation).await);
    there.verified(&device("cam-01"), first.generation, Timestamp(99));
    let third = connect(there, "cam-02").await;
    let standing = there.lookup(&device("cam-01")).await.unwrap();
    assert_eq!((standing.generation, standing.verified_at), (second.generation, Timestamp(1)));
    assert_eq!(here.lookup(&device("cam-02")).await.unwrap().generation, third.generation);
    assert!(there.disconnect(&device("cam-01"), second.generation).await);
    until("nobody holds it", async || match here.lookup(&device("cam-01")).await {
        None => Ok(()),
        Some(row) => Err(row),
    })
    .await;
}

async fn every_generation_is_given_once(here: &Registry, there: &Registry) {
    let mut connecting = JoinSet::new();
    for number in 0..100 {
        let registry = if number % 2 == 0 { here.clone() } else { there.clone() };
        connecting.spawn(async move { connect(&registry, &format!("cam-{}", number % 5)).await.generation });
    }
    let given = connecting.join_all().await;
    assert_eq!(BTreeSet::from_iter(given.iter().copied()).len(), 100, "{given:?}");
}

async fn every_event_is_heard_once_at_both_ends_and_in_order(here: &Registry, there: &Registry) {
    let (mut at_here, mut at_there) = (here.subscribe(), there.subscribe());
    (0..200).for_each(|number| here.publish(event(number)));
    there.publish(event(1000));
    for events in [&mut at_here, &mut at_there] {
        let mut all = vec![];
        until("all are heard", async || {
            all.extend(heard(events));
            (all.len() >= 201).then_some(()).ok_or(all.len())
        })
        .await;
        let (of_there, of_here): (Vec<i64>, Vec<i64>) = all.iter().partition(|number| **number == 1000);
        assert_eq!((of_here, of_there), ((0..200).collect(), vec![1000]), "in order, each once");
    }
    // What comes after shows that nothing came twice.
    here.publish(event(2000));
    there.publish(event(2000));
    for events in [&mut at_here, &mut at_there] {
        let mut all = vec![];
        until("the last two are heard", async || {
            all.extend(heard(events));
            (all.len() >= 2).then_some(()).ok_or(all.len())
        })
        .await;
        assert_eq!(all, [2000, 2000]);
    }
}

async fn a_change_of_rights_is_known_at_both_ends(here: &Registry, there: &Registry) {
    let camera = device("cam-01");
    let user = UserId::from_random([1; 16]);
    here.grants().put(GrantChange {
        tenant: camera.tenant.clone(),
        user: Some(user.clone()),
        device: camera.device.clone(),
        sequence: 7,
        at: Timestamp(1),
    });
    assert_eq!(here.grants().last_change(&camera.tenant, &user, &camera.device), Some(7), "here at once");
    until("known there", async || {
        let last = there.grants().last_change(&camera.tenant, &user, &camera.device);
        (last == Some(7)).then_some(()).ok_or(last)
    })
    .await;
    assert_eq!(there.grants().sequence(&camera.tenant), 7);
}

async fn a_revocation_reaches_every_tunnel_and_the_receipt_is_true(here: &Registry, there: &Registry) {
    let camera = device("cam-01");
    for registry in [here, there] {
        registry.certificates().put(CertificateEntry {
            fingerprint: Fingerprint([1; 32]),
            device: camera.clone(),
            status: CertificateStatus::Active,
            not_after: Timestamp(100),
            used: true,
        });
    }
    let notice = RevocationNotice { sequence: 1, device: camera, certificates: vec![Fingerprint([1; 32])] };
    let quick = here.revocation_orders();
    let slow = there.revocation_orders();
    let order = here.revoke(notice.clone(), Duration::from_secs(3));
    let (receipt, _quick, mut slow) = tokio::join!(order, carry_out(quick, 1), carry_out(slow, 2));
    assert_eq!((receipt.nodes, receipt.nodes_acked, receipt.tunnels_closed), (2, 2, 3), "{receipt:?}");
    for registry in [here, there] {
        let status = registry.certificates().lookup(Fingerprint([1; 32])).unwrap().status;
        assert_eq!(status, CertificateStatus::Revoked);
    }
    // One of the two stays silent: the truth after the time that was given.
    let (receipt, quick) =
        tokio::join!(here.revoke(notice, Duration::from_millis(700)), carry_out(_quick, 1));
    assert_eq!((receipt.nodes, receipt.nodes_acked, receipt.tunnels_closed), (2, 1, 1), "{receipt:?}");
    assert!(receipt.elapsed >= Duration::from_millis(700), "{receipt:?}");
    assert_eq!(slow.recv().await.unwrap().notice.sequence, 1, "the silent one was told");
    drop(quick);
}

async fn carry_out(
    mut orders: mpsc::Receiver<RevocationOrder>,
    closed: usize,
) -> mpsc::Receiver<RevocationOrder> {
    let order = orders.recv().await.unwrap();
    order.done.send(closed).unwrap();
    orders
}

async fn one_of_fifty_gets_a_ticket(here: &Registry, there: &Registry) {
    race(here, there, 0..100).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: scripts/prove tickets"]
async fn proof_ten_thousand_races_of_fifty_on_redis() {
    let server = Server::start().await;
    let (one, two) = two(&server).await;
    race(&one.registry, &two.registry, 0..10_000).await;
}

/// Fifty at two nodes want each of the tickets at once.
async fn race(here: &Registry, there: &Registry, rounds: std::ops::Range<u64>) {
    for round in rounds {
        here.put_ticket(digest(round), ticket(1), Timestamp(0)).await.unwrap();
        let mut racing = JoinSet::new();
        for number in 0..50 {
            let registry = if number % 2 == 0 { here.clone() } else { there.clone() };
            racing.spawn(async move { registry.take_ticket(&digest(round), Timestamp(1)).await.unwrap() });
        }
        let given: Vec<_> = racing.join_all().await.into_iter().flatten().collect();
        assert_eq!(given, [ticket(1)], "round {round}");
    }
}

async fn a_ticket_ends_and_a_user_holds_so_many(here: &Registry, there: &Registry) {
    here.put_ticket(digest(0), ticket(1), Timestamp(0)).await.unwrap();
    let again = there.put_ticket(digest(0), ticket(2), Timestamp(0)).await;
    assert_eq!(again, Err(RegistryError::Taken));
    assert_eq!(there.take_ticket(&digest(0), Timestamp::from_secs(60)).await, Ok(None), "at its end");
    assert_eq!(here.take_ticket(&digest(0), Timestamp(1)).await, Ok(None), "and then never");
    here.put_ticket(digest(1), ticket(1), Timestamp::from_secs(60)).await.unwrap();
    assert_eq!(there.take_ticket(&digest(1), Timestamp(1)).await, Ok(None), "one that had ended before");
    for number in 0..TICKETS_PER_USER as u64 {
        let registry = if number % 2 == 0 { here } else { there };
        registry.put_ticket(digest(100 + number), ticket(1), Timestamp(0)).await.unwrap();
    }
    let one_more = |user| there.put_ticket(digest(999), ticket(user), Timestamp(0));
    assert_eq!(one_more(1).await, Err(RegistryError::TooManyOfUser));
    assert_eq!(one_more(2).await, Ok(()), "another user's are another user's");
    assert!(here.take_ticket(&digest(100), Timestamp(1)).await.unwrap().is_some());
    assert_eq!(there.put_ticket(digest(998), ticket(1), Timestamp(0)).await, Ok(()));
}
