//! Thousands of sockets that say nothing, or say it a byte at a time: real callers get in beside them, and
//! within seconds their places are free.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tests::{Cloud, EnrolledDevice, eventually, web};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::vitals::{allow_many_descriptors, descriptors, metric, tell, until_descriptors};

#[tokio::test]
async fn two_thousand_silent_sockets_at_each_door_keep_nobody_out() {
    allow_many_descriptors().await;
    let web = web().await;
    let mut cloud = Cloud::start().await;
    let enrolled = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let token = cloud.token("cam-01", "operator").await;
    let before = (cloud.process().resident_kib(), descriptors(cloud.process().id()));
    let cloud_id = cloud.process().id();
    let doors = [cloud.device_address(), cloud.user().address()];
    let began = Instant::now();
    let mut sockets = vec![];
    for batch in 0..20 {
        let mut connecting = JoinSet::new();
        for number in 0..200 {
            connecting.spawn(connect(doors[number % 2], 2 + (batch % 4)));
        }
        sockets.extend(connecting.join_all().await);
        // Else the system's own queue would overflow, and sockets that the cloud never saw be counted.
        let all = before.1 + sockets.len();
        eventually("the cloud has them", || async {
            let now = descriptors(cloud_id);
            // After five seconds the first ones are let go already.
            if now >= all || began.elapsed() > Duration::from_secs(4) { Ok(()) } else { Err(now) }
        })
        .await;
    }
    let held = descriptors(cloud_id) - before.1;
    let mut dribbling = JoinSet::new();
    for number in 0..200 {
        let socket = connect(doors[number % 2], 6).await;
        dribbling.spawn(dribble(socket));
    }

    let all_there = began.elapsed();
    let began = Instant::now();
    let device = enrolled.run(&[("web", web.url("http"))]);
    cloud.until_online("cam-01", true, Duration::from_secs(10)).await;
    let connected = began.elapsed();
    cloud.user().get("/d/cam-01/web/method").bearer(&token).send().await.expect(200).await;
    let grown = cloud.process().resident_kib().saturating_sub(before.0);
    tell(format!(
        "4,000 sockets, of which {held} were held when the last came, within {all_there:?}, a device connected within {connected:?}; cloud +{grown} KiB"
    ));
    // 48 KiB for each of them: an unfinished handshake of an unoptimised build, and what the allocator keeps.
    assert!(grown < 192 * 1024, "{grown} KiB");

    // Five seconds for a handshake, silent or not.
    let open = still_open(sockets, Duration::from_secs(12)).await;
    assert_eq!(open, 0, "every place is free again");
    let dribbled = timeout(Duration::from_secs(12), dribbling.join_all()).await.expect("these too");
    let longest = dribbled.into_iter().max().unwrap();
    assert!(longest < Duration::from_secs(9), "a byte now and then is no excuse: {longest:?}");
    until_descriptors(cloud.process().id(), before.1 + 1).await;
    drop(device);
}

#[tokio::test]
async fn one_source_can_hold_a_bounded_number_of_places() {
    allow_many_descriptors().await;
    let web = web().await;
    let cloud = Cloud::start().await;
    let enrolled = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let counted =
        async |name: &str| metric(&cloud, &format!("tcpmux_handshakes_{name}{{door=\"device\"}}")).await;
    let mut sockets = vec![];
    // What the door counts, not which sockets were closed: the first ones may have had their five seconds meanwhile.
    while counted("refused_total").await < 300.0 {
        assert!(
            sockets.len() < 20_000,
            "{} sockets, of which {} were refused",
            sockets.len(),
            counted("refused_total").await
        );
        let mut connecting = JoinSet::new();
        for _ in 0..200 {
            connecting.spawn(connect(cloud.device_address(), 7));
        }
        sockets.extend(connecting.join_all().await);
    }
    // Somebody elsewhere has room; and the source itself once its places are free.
    let device = enrolled.run(&[("web", web.url("http"))]);
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    let most = counted("unfinished_most").await;
    assert!(
        (1024.0..1028.0).contains(&most),
        "the bound of a source, and at most a few of the device: {most}"
    );
    assert_eq!(still_open(sockets, Duration::from_secs(12)).await, 0);
    eventually("every place is counted free", || async {
        let unfinished = counted("unfinished").await;
        if unfinished == 0.0 { Ok(()) } else { Err(unfinished) }
    })
    .await;
    let again = cloud.device().from_source(address(7)).get("/.well-known/est/cacerts").send().await;
    again.expect(200).await;
    drop(device);
}

fn address(last: u8) -> std::net::IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

async fn connect(door: SocketAddr, source: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address(source), 0).into()).unwrap();
    socket.connect(door).await.unwrap()
}

/// How many of them the door has not closed by then.
async fn still_open(sockets: Vec<TcpStream>, within: Duration) -> usize {
    let end = Instant::now() + within;
    let mut open = 0;
    for mut socket in sockets {
        let mut nothing = vec![0; 256];
        // An alert may come before the end.
        let closed = async { while matches!(socket.read(&mut nothing).await, Ok(1..)) {} };
        open += usize::from(tokio::time::timeout_at(end, closed).await.is_err());
    }
    open
}

/// Says a ClientHello, ten bytes a second; how long it was listened to.
async fn dribble(mut socket: TcpStream) -> Duration {
    let began = Instant::now();
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(517, 0x55);
    for byte in hello {
        let gone = timeout(Duration::from_millis(100), socket.read(&mut [0; 64])).await;
        if matches!(gone, Ok(Ok(0) | Err(_))) || socket.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    began.elapsed()
}
