//! A path with a long round trip and a narrowest place, in virtual time: a stream fills it, and its queues stay short.

use std::{collections::VecDeque, time::Duration};

use tcpmux_proto::{
    Buffered, CloudControl, Greeted, SessionHandle, Settings, StreamKind, TunnelStream, cloud, device,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::support::{header, hello, welcome};

#[tokio::test(start_paused = true)]
async fn a_stream_fills_a_long_path_and_leaves_room_for_others() {
    let mut tasks = JoinSet::new();
    let (cloud, mut device, control) = tunnel(&mut tasks).await;
    let mut download = cloud.open(header(StreamKind::Tcp)).unwrap();
    download.flush().await.unwrap();
    tasks.spawn(pour(device.incoming.next().await.unwrap().accept().await));
    let mut echo = cloud.open(header(StreamKind::Tcp)).unwrap();
    echo.flush().await.unwrap();
    tasks.spawn(repeat(device.incoming.next().await.unwrap().accept().await));

    // The windows open.
    take(&mut download, 4 * RATE).await;
    let began = Instant::now();
    let mut worst = Duration::ZERO;
    let (took, ()) = tokio::join!(
        async {
            take(&mut download, 8 * RATE).await;
            began.elapsed()
        },
        async {
            for _ in 0..20 {
                let asked = Instant::now();
                echo.write_all(b"?").await.unwrap();
                echo.read_u8().await.unwrap();
                worst = worst.max(asked.elapsed());
            }
        }
    );
    assert!(
        took.as_secs_f64() <= 8.0 / 0.9,
        "nine tenths of what the path carries: {took:?} for eight seconds' worth"
    );
    assert!(worst <= ROUND_TRIP * 4, "an answer beside the download took {worst:?}");
    drop(control);
}

async fn tunnel(tasks: &mut JoinSet<()>) -> (SessionHandle, Greeted, CloudControl) {
    let (device_near, device_far) = duplex(64 * 1024);
    let (cloud_near, cloud_far) = duplex(64 * 1024);
    let (device_read, device_write) = split(device_far);
    let (cloud_read, cloud_write) = split(cloud_far);
    tasks.spawn(carry(device_read, cloud_write));
    tasks.spawn(carry(cloud_read, device_write));
    let (driver, cloud_side) = cloud(Buffered::new(cloud_near), Settings::default());
    tasks.spawn(async { drop(driver.await) });
    let (driver, device_side) = device(Buffered::new(device_near), Settings::default());
    tasks.spawn(async { drop(driver.await) });
    let within = Duration::from_secs(5);
    let (cloud, device) = tokio::join!(
        async { cloud_side.hello(within).await.unwrap().welcome(welcome()).await.unwrap() },
        device_side.greet(hello(), within)
    );
    (cloud.0, device.unwrap(), cloud.1)
}

/// One direction: what it carries a second, half a round trip later; like TCP it takes a while ahead, and no more.
async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut free, mut buffer) = (Instant::now(), vec![0; 16 * 1024]);
    loop {
        let due = under_way.front().map(|(due, _)| *due);
        let has_room = free.saturating_duration_since(Instant::now()) < AHEAD;
        tokio::select! {
            count = from.read(&mut buffer), if has_room => {
                let count = count.unwrap();
                if count == 0 {
                    return;
                }
                let cost = Duration::from_secs_f64(count as f64 / RATE as f64);
                free = free.max(Instant::now()) + cost;
                under_way.push_back((free + ROUND_TRIP / 2, buffer[..count].to_vec()));
            }
            () = sleep_until(due.unwrap_or(free)), if due.is_some() || !has_room => {
                if let Some((_, bytes)) = under_way.pop_front_if(|(due, _)| *due <= Instant::now())
                    && to.write_all(&bytes).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

async fn pour(mut source: TunnelStream) {
    let bytes = vec![7; 64 * 1024];
    while source.write_all(&bytes).await.is_ok() {}
}

async fn repeat(mut stream: TunnelStream) {
    while let Ok(byte) = stream.read_u8().await {
        if stream.write_u8(byte).await.is_err() {
            return;
        }
    }
}

async fn take(stream: &mut TunnelStream, count: usize) {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let most = left.min(buffer.len());
        let read = timeout(Duration::from_secs(60), stream.read(&mut buffer[..most])).await.unwrap().unwrap();
        assert!(read > 0);
        left -= read;
    }
}

const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Bytes a second.
const RATE: usize = 20 << 20;
/// How far ahead of the narrowest place the sender's kernel takes bytes.
const AHEAD: Duration = Duration::from_millis(20);
