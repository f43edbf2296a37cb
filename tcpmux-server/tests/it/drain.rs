//! Going away politely.

use std::time::Duration;

use model::DisconnectCause;
use tcpmux_proto::{CloudMessage, OpenError, RefusedReason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::{Cloud, reason, told};

#[tokio::test(start_paused = true)]
async fn idle_devices_are_asked_to_go_and_the_server_is_empty_long_before_the_grace_ends() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let begin = Instant::now();
    let hearing = async {
        let CloudMessage::Drain(drain) = told(&mut device).await else { panic!() };
        let CloudMessage::Goodbye(goodbye) = told(&mut device).await else { panic!() };
        (drain, goodbye)
    };
    let grace = Duration::from_secs(30);
    let ((), (drain, goodbye)) = tokio::join!(cloud.server.drain(grace), hearing);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(drain.deadline, grace);
    assert!(drain.delay < Duration::from_secs(1));
    assert_eq!(goodbye.cause, DisconnectCause::Draining);
    assert_eq!(cloud.ended(device.welcome.generation).await, DisconnectCause::Draining);
    assert_eq!(cloud.server.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_takes_no_session_and_no_stream_and_lets_live_streams_finish() {
    let cloud = Cloud::start();
    let (one, two) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let mut device = cloud.connect(&one, "boot").await;
    let mut stream = cloud.open(&one.device, "web").await.unwrap();
    let (accepted, mut remote) =
        tokio::join!(stream.accepted(), async { device.incoming.next().await.unwrap().accept().await });
    accepted.unwrap();

    let server = cloud.server.clone();
    let draining = cloud.tasks.spawn(async move { server.drain(Duration::from_secs(30)).await });
    let CloudMessage::Drain(_) = told(&mut device).await else { panic!() };
    assert_eq!(reason(cloud.try_connect(&two, "boot").await), RefusedReason::Draining);
    assert_eq!(cloud.open(&one.device, "web").await.unwrap_err(), OpenError::Draining);

    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!draining.is_finished(), "a stream lives");
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut question = Vec::new();
    remote.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    remote.write_all(b"answer").await.unwrap();
    remote.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");
    drop((stream, remote));
    let finished = Instant::now();
    draining.await.unwrap();
    assert!(finished.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_finish_is_cut_at_the_end_of_the_grace() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let mut device = cloud.connect(&camera, "boot").await;
    let mut stream = cloud.open(&camera.device, "web").await.unwrap();
    let (accepted, _remote) =
        tokio::join!(stream.accepted(), async { device.incoming.next().await.unwrap().accept().await });
    accepted.unwrap();
    let begin = Instant::now();
    cloud.server.drain(Duration::from_secs(30)).await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(32), "{took:?}");
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
}
