//! Opening streams, and every way in which that fails.

use std::time::Duration;

use model::{DeviceRef, Target};
use tcpmux_proto::{Destination, Dialer, OpenError, StreamKind};
use tcpmux_server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Cloud, header, until};

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_to_the_service_that_was_decided_on() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let target = Target { device: camera.device.clone(), service: "web".parse().unwrap() };
    // The header names another service than the target: the target counts.
    let mut stream = cloud.server.open(&target, header("shell")).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let incoming = device.incoming.next().await.unwrap();
    assert_eq!(incoming.header.service, Destination::Service("web".parse().unwrap()));
    assert_eq!(incoming.header.deadline, Duration::from_secs(5));
    let mut remote = incoming.accept().await;
    let mut four = [0; 4];
    remote.read_exact(&mut four).await.unwrap();
    remote.write_all(b"pong").await.unwrap();
    stream.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"pong");
}

#[tokio::test(start_paused = true)]
async fn the_daemon_itself_is_reached_by_kind() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let target = Target { device: camera.device.clone(), service: "web".parse().unwrap() };
    let mut to_agent = header("tcpmux.agent");
    to_agent.kind = StreamKind::Agent;
    let mut stream = cloud.server.open(&target, to_agent).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(device.incoming.next().await.unwrap().header.service, Destination::Agent);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_not_connected_is_offline() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    assert_eq!(cloud.open(&camera.device, "web").await.unwrap_err(), OpenError::Offline);
    let _device = cloud.connect(&camera, "boot").await;
    let elsewhere = DeviceRef::new("acme".parse().unwrap(), camera.device.device.clone());
    assert_eq!(cloud.open(&elsewhere, "web").await.unwrap_err(), OpenError::Offline, "another tenant");
    assert!(cloud.open(&camera.device, "web").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_longer_deadline_than_the_servers_is_cut_and_a_mute_device_times_out() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let _device = cloud.connect(&camera, "boot").await;
    let target = Target { device: camera.device.clone(), service: "web".parse().unwrap() };
    let mut patient = header("web");
    patient.deadline = Duration::from_secs(200);
    let mut stream = cloud.server.open(&target, patient).await.unwrap();
    let begin = tokio::time::Instant::now();
    assert_eq!(stream.accepted().await, Err(OpenError::TimedOut));
    assert!(begin.elapsed() <= Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_stream_is_opened_while_too_much_is_held_for_those_who_do_not_read() {
    let cloud = Cloud::start_with(Config { held_bytes: 100_000, ..Config::default() });
    let camera = cloud.enrolled("cam-01");
    let neighbour = cloud.enrolled("cam-02");
    let mut device = cloud.connect(&camera, "boot").await;
    let _other = cloud.connect(&neighbour, "boot").await;
    let mut unread = cloud.open(&camera.device, "web").await.unwrap();
    unread.write_all(b"get").await.unwrap();
    let mut service = device.incoming.next().await.unwrap().accept().await;
    service.write_all(&[7; 50_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cloud.open(&neighbour.device, "web").await.is_ok(), "so much may be held");
    service.write_all(&[7; 100_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cloud.open(&neighbour.device, "web").await.unwrap_err(), OpenError::Busy);
    unread.read_exact(&mut vec![0; 150_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cloud.open(&neighbour.device, "web").await.is_ok(), "it was read");
}

#[tokio::test(start_paused = true)]
async fn a_session_holds_only_so_many_streams() {
    let cloud = Cloud::start_with(Config { streams_per_session: 3, ..Config::default() });
    let camera = cloud.enrolled("cam-01");
    let _device = cloud.connect(&camera, "boot").await;
    let mut streams = Vec::new();
    for service in ["a", "b", "c"] {
        streams.push(cloud.open(&camera.device, service).await.unwrap());
    }
    assert_eq!(cloud.open(&camera.device, "d").await.unwrap_err(), OpenError::Busy);
    streams.pop();
    until("room again", async || cloud.open(&camera.device, "d").await.is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_does_not_take_the_streams_of_the_others() {
    let cloud = Cloud::start_with(Config {
        pending_opens_per_service: 2,
        longest_queueing: Duration::ZERO,
        ..Config::default()
    });
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let mut first = cloud.open(&camera.device, "slow").await.unwrap();
    let second = cloud.open(&camera.device, "slow").await.unwrap();
    assert_eq!(cloud.open(&camera.device, "slow").await.unwrap_err(), OpenError::Busy);
    assert!(cloud.open(&camera.device, "quick").await.is_ok(), "another service");

    // An answer makes room.
    let (accepted, _remote) =
        tokio::join!(first.accepted(), async { device.incoming.next().await.unwrap().accept().await });
    accepted.unwrap();
    let third = cloud.open(&camera.device, "slow").await.unwrap();
    assert_eq!(cloud.open(&camera.device, "slow").await.unwrap_err(), OpenError::Busy);
    // So does giving up.
    drop((second, third));
    cloud.open(&camera.device, "slow").await.unwrap();
    // And so does running out of time.
    let mut fourth = cloud.open(&camera.device, "slow").await.unwrap();
    let mut fifth = cloud.open(&camera.device, "slow").await.unwrap();
    assert_eq!(fourth.accepted().await, Err(OpenError::TimedOut));
    assert_eq!(fifth.accepted().await, Err(OpenError::TimedOut));
    assert!(cloud.open(&camera.device, "slow").await.is_ok());
}
