//! One device, one session: the newest is served.

use std::time::Duration;

use model::{DisconnectCause, Event};
use tcpmux_proto::{CloudMessage, DeviceMessage, Goodbye, OpenError, Ping, RefusedReason};
use tcpmux_server::Config;
use tokio::io::AsyncReadExt;

use crate::support::{Cloud, reason, refusal, told, until};

#[tokio::test(start_paused = true)]
async fn a_newer_session_takes_over_and_the_older_one_is_told_why_it_ends() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut first = cloud.connect(&camera, "boot-a").await;
    let second = cloud.connect(&camera, "boot-a").await;
    assert!(second.welcome.generation > first.welcome.generation);

    let last_word = told(&mut first).await;
    let CloudMessage::Replaced(replaced) = last_word else { panic!("told {last_word:?}") };
    assert_eq!(replaced.generation, second.welcome.generation);
    first.handle.closed().await;
    assert_eq!(cloud.ended(first.welcome.generation).await, DisconnectCause::Replaced);

    let standing = cloud.registry.lookup(&camera.device).await.unwrap();
    assert_eq!(standing.generation, second.welcome.generation);
    assert_eq!(cloud.server.session_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_go_to_the_newer_session() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let _first = cloud.connect(&camera, "boot-a").await;
    let mut second = cloud.connect(&camera, "boot-a").await;
    let mut stream = cloud.open(&camera.device, "web").await.unwrap();
    let (accepted, arrived) =
        tokio::join!(stream.accepted(), async { second.incoming.next().await.unwrap().accept().await });
    assert_eq!(accepted, Ok(()));
    drop(arrived);
}

#[tokio::test(start_paused = true)]
async fn a_late_end_of_the_older_session_leaves_the_newer_one_in_place() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    // The older one neither reads nor answers: its end comes late.
    let first = cloud.connect(&camera, "boot-a").await;
    let second = cloud.connect(&camera, "boot-a").await;
    cloud.ended(first.welcome.generation).await;
    first.handle.close(DisconnectCause::Closed);
    drop(first);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let standing = cloud.registry.lookup(&camera.device).await.unwrap();
    assert_eq!(standing.generation, second.welcome.generation);
    assert!(cloud.open(&camera.device, "web").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_goodbye_is_gone() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let goodbye = DeviceMessage::Goodbye(Goodbye { cause: DisconnectCause::Closed });
    // The end may come before the last byte of this was taken.
    let _ = device.control.send(&goodbye).await;
    assert_eq!(cloud.ended(device.welcome.generation).await, DisconnectCause::Closed);
    assert_eq!(cloud.registry.lookup(&camera.device).await, None);
    assert_eq!(cloud.open(&camera.device, "web").await.unwrap_err(), OpenError::Offline);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_a_lost_session_and_its_streams_fail() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let device = cloud.connect(&camera, "boot").await;
    let mut stream = cloud.open(&camera.device, "web").await.unwrap();
    let generation = device.welcome.generation;
    let waiting = async {
        let error = stream.read_u8().await.unwrap_err();
        OpenError::from_io(&error)
    };
    let (error, ()) = tokio::join!(waiting, async { drop(device) });
    assert_eq!(error, Some(OpenError::Lost));
    let cause = cloud.ended(generation).await;
    assert!(matches!(cause, DisconnectCause::Lost | DisconnectCause::Closed), "{cause:?}");
    assert_eq!(cloud.server.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_can_ask_whether_it_is_registered() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    device.control.send(&DeviceMessage::Ping(Ping { n: 7 })).await.unwrap();
    assert_eq!(told(&mut device).await, CloudMessage::Pong(Ping { n: 7 }));

    device.control.send(&DeviceMessage::StatusQuery).await.unwrap();
    let CloudMessage::Status(status) = told(&mut device).await else { panic!() };
    assert!(status.registered);
    assert_eq!(status.generation, Some(device.welcome.generation));

    // A registry that lost the row says so.
    cloud.registry.disconnect(&camera.device, device.welcome.generation).await;
    device.control.send(&DeviceMessage::StatusQuery).await.unwrap();
    let CloudMessage::Status(status) = told(&mut device).await else { panic!() };
    assert_eq!((status.registered, status.generation), (false, None));
}

#[tokio::test(start_paused = true)]
async fn two_machines_with_one_certificate_are_noticed_and_one_of_them_stays_usable() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut standing = cloud.connect(&camera, "boot-0").await;
    for flip in 1..=5 {
        let boot = format!("boot-{}", flip % 2);
        standing = cloud.connect(&camera, &boot).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    // The sixth within a minute, and all that follow for a while.
    for _ in 0..20 {
        let refused = refusal(cloud.try_connect(&camera, "boot-0").await);
        assert_eq!(refused.reason, RefusedReason::CloneSuspected);
        assert!(refused.retry_after.unwrap() >= Duration::from_secs(60));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let suspected = cloud.event(|event| match event {
        Event::CloneSuspected { device, .. } => Some(device.clone()),
        _ => None,
    });
    assert_eq!(suspected.await, camera.device);
    let record = cloud.registry.lookup(&camera.device).await.unwrap();
    assert_eq!(record.generation, standing.welcome.generation);
    assert!(cloud.open(&camera.device, "web").await.is_ok());

    // The same machine reconnects at once, also while the other is kept out.
    standing = cloud.connect(&camera, "boot-1").await;
    // And when it leaves, the other may come.
    let generation = standing.welcome.generation;
    drop(standing);
    cloud.ended(generation).await;
    cloud.connect(&camera, "boot-0").await;
}

#[tokio::test(start_paused = true)]
async fn a_thief_who_takes_the_place_and_hangs_up_is_told_when_the_device_returns() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let _device = cloud.connect(&camera, "device").await;
    let thief = cloud.connect(&camera, "thief").await;
    let generation = thief.welcome.generation;
    drop(thief);
    cloud.ended(generation).await;
    // The device was told to wait, and comes again under its boot: it has its place, and somebody is told.
    tokio::time::sleep(Duration::from_secs(45)).await;
    cloud.try_connect(&camera, "device").await.unwrap();
    let suspected = cloud.event(|event| match event {
        Event::CloneSuspected { device, .. } => Some(device.clone()),
        _ => None,
    });
    assert_eq!(suspected.await, camera.device);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_restarts_often_but_leaves_before_it_returns_is_no_clone() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    for boot in 0..20 {
        let device = cloud.connect(&camera, &format!("boot-{boot}")).await;
        let generation = device.welcome.generation;
        drop(device);
        cloud.ended(generation).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_server_says_when_to_come_again() {
    let cloud = Cloud::start_with(Config { max_sessions: 1, ..Config::default() });
    let (one, two) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let first = cloud.connect(&one, "boot").await;
    let refused = refusal(cloud.try_connect(&two, "boot").await);
    assert_eq!(refused.reason, RefusedReason::Busy);
    assert!(refused.retry_after.unwrap() >= Duration::from_secs(1));
    let generation = first.welcome.generation;
    drop(first);
    cloud.ended(generation).await;
    until("a free seat", async || cloud.try_connect(&two, "boot").await.is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_slot_does_not_exist() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut hello = crate::support::hello("boot");
    hello.slot = 1;
    let result = cloud.device(&camera.der).greet(hello, Duration::from_secs(60)).await;
    assert_eq!(reason(result), RefusedReason::BadHello);
}
