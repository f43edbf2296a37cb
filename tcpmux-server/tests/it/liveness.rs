//! Who is silent is gone; who is not is known to live.

use std::time::Duration;

use model::DisconnectCause;
use tokio::time::Instant;

use crate::{
    certificates::START,
    support::{Cloud, hello},
};

#[tokio::test(start_paused = true)]
async fn a_device_that_falls_silent_is_gone_at_the_limit() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    // A driver that is polled until the welcome and never again: a link that drops every packet.
    let (driver, handshake) = tcpmux_proto::device(
        tcpmux_proto::Buffered::new(cloud.dial(&camera.der)),
        tcpmux_proto::Settings::default(),
    );
    let mut driver = Box::pin(driver);
    let device = tokio::select! {
        greeted = handshake.greet(hello("boot"), Duration::from_secs(60)) => greeted.unwrap(),
        ended = &mut driver => panic!("{ended:?}"),
    };
    let silent_since = Instant::now();
    let cause = cloud.ended(device.welcome.generation).await;
    assert_eq!(cause, DisconnectCause::Silent);
    let noticed = silent_since.elapsed();
    assert!(noticed >= Duration::from_secs(27) && noticed <= Duration::from_secs(30), "{noticed:?}");
    assert_eq!(cloud.registry.lookup(&camera.device).await, None);
    drop(driver);
}

#[tokio::test(start_paused = true)]
async fn an_idle_device_stays_and_the_registry_knows_when_it_was_last_heard() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let _device = cloud.connect(&camera, "boot").await;
    let hour = Duration::from_secs(3600);
    // The two clocks go together, as on a real machine.
    for _ in 0..720 {
        cloud.hand.advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let record = cloud.registry.lookup(&camera.device).await.expect("still connected");
    let age = cloud.clock.now().since(record.verified_at);
    assert_eq!(cloud.clock.now(), START.plus(hour));
    assert!(age <= Duration::from_secs(45), "last heard {age:?} ago");
}
