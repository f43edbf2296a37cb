//! Many streams at once: nobody waits for another, nothing is lost.

use std::time::Duration;

use tcpmux_proto::{Settings, StreamKind, TunnelStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    task::JoinSet,
    time::timeout,
};

use crate::support::{Tunnel, pattern};

async fn exchange(stream: TunnelStream, send: Vec<u8>, expect: Vec<u8>) {
    let (mut reader, mut writer) = split(stream);
    let (sent, got) = tokio::join!(
        async {
            writer.write_all(&send).await?;
            writer.shutdown().await
        },
        async {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).await.map(|_| got)
        }
    );
    sent.unwrap();
    assert!(got.unwrap() == expect, "what arrived is what was sent");
}

#[tokio::test]
async fn both_directions_saturated_on_many_streams_while_pings_pass() {
    let quick = Settings { heartbeat: Duration::from_millis(100), ..Settings::default() };
    let mut tunnel = Tunnel::with(quick.clone(), quick).await;
    let mut tasks = JoinSet::new();
    for seed in 0..24 {
        let (cloud, device) = tunnel.stream(StreamKind::Tcp).await;
        let (down, up) = (pattern(seed, 700_000 + seed * 1000), pattern(seed + 100, 900_000 - seed * 999));
        tasks.spawn(exchange(cloud, up.clone(), down.clone()));
        tasks.spawn(exchange(device, down, up));
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    };
    timeout(Duration::from_secs(60), all).await.expect("no deadlock");
    tunnel.pair.cloud.idle().await;
    assert!(tunnel.drivers.try_join_next().is_none());
}

#[tokio::test]
async fn readers_that_do_not_read_stop_only_themselves() {
    let mut tunnel = Tunnel::new().await;
    let mut stalled = Vec::new();
    let mut writers = JoinSet::new();
    for _ in 0..20 {
        let (cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
        writers.spawn(async move {
            device.write_all(&vec![1; 4 << 20]).await?;
            device.shutdown().await
        });
        stalled.push(cloud);
    }
    let (cloud, device) = tunnel.stream(StreamKind::Tcp).await;
    let body = pattern(7, 8 << 20);
    let done =
        async { tokio::join!(exchange(cloud, Vec::new(), body.clone()), exchange(device, body, Vec::new())) };
    timeout(Duration::from_secs(60), done).await.expect("the reading one goes on");
    assert!(writers.try_join_next().is_none(), "the others wait for credit");
    for mut cloud in stalled {
        let mut got = vec![0; 4 << 20];
        cloud.read_exact(&mut got).await.unwrap();
        assert!(got.iter().all(|byte| *byte == 1));
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap().unwrap();
    }
}

#[tokio::test]
async fn thousands_of_short_streams_leave_nothing_behind() {
    let mut tunnel = Tunnel::new().await;
    for round in 0..3000_u32 {
        let (mut cloud, mut device) = tunnel.stream(StreamKind::Http).await;
        cloud.write_all(&round.to_be_bytes()).await.unwrap();
        assert_eq!(device.read_u32().await.unwrap(), round);
        device.write_all(b"ok").await.unwrap();
        match round % 3 {
            0 => device.shutdown().await.unwrap(),
            1 => drop(device),
            _ => {}
        }
    }
    tunnel.pair.cloud.idle().await;
    tunnel.pair.device.handle.idle().await;
    assert!(tunnel.drivers.try_join_next().is_none());
}

#[tokio::test]
async fn parts_of_a_vectored_write_arrive_in_order() {
    let mut tunnel = Tunnel::new().await;
    let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
    for size in [0, 1, 100, 5_000, 100_000] {
        let (head, body) = (pattern(size, 77), pattern(size + 1, size));
        let expected = [&head[..], &body].concat();
        let mut got = vec![0; expected.len()];
        let (written, read) = tokio::join!(
            async {
                let parts = [std::io::IoSlice::new(&head), std::io::IoSlice::new(&body)];
                let count = cloud.write_vectored(&parts).await?;
                cloud.write_all(&expected[count..]).await
            },
            device.read_exact(&mut got)
        );
        written.unwrap();
        read.unwrap();
        assert!(got == expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wakeup_is_lost_between_threads() {
    let mut tunnel = Tunnel::new().await;
    let mut tasks = JoinSet::new();
    for worker in 0..16_usize {
        let (mut cloud, mut device) = tunnel.stream(StreamKind::Tcp).await;
        tasks.spawn(async move {
            for round in 0..300 {
                let sent = pattern(worker * 1000 + round, 1 + round * 37);
                cloud.write_all(&sent).await.unwrap();
                let mut got = vec![0; sent.len()];
                cloud.read_exact(&mut got).await.unwrap();
                assert!(got == sent);
            }
            cloud.shutdown().await.unwrap();
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let count = device.read(&mut buffer).await.unwrap();
                if count == 0 {
                    break;
                }
                device.write_all(&buffer[..count]).await.unwrap();
            }
        });
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    };
    timeout(Duration::from_secs(60), all).await.expect("every waiting task is woken");
    tunnel.pair.cloud.idle().await;
    let (cloud, device) = (tunnel.pair.cloud.closed(), tunnel.pair.device.handle.closed());
    tunnel.pair.cloud.close(model::DisconnectCause::Closed);
    tokio::join!(cloud, device);
    while let Some(ended) = tunnel.drivers.join_next().await {
        ended.unwrap();
    }
}
