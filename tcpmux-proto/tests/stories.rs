//! What streams do, told over whole tunnels in memory.

use std::{io::ErrorKind, time::Duration};

use tcpmux_proto::{OpenError, StreamKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod common;
use common::{header, pair, stream};

#[tokio::test]
async fn bytes_flow_both_ways_and_each_side_finishes_alone() {
    let mut pair = pair().await;
    let (mut cloud, mut device) = stream(&mut pair, StreamKind::Tcp).await;
    cloud.write_all(b"question").await.unwrap();
    cloud.shutdown().await.unwrap();
    let mut asked = String::new();
    device.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "question");
    device.write_all(b"answer").await.unwrap();
    device.shutdown().await.unwrap();
    let mut answered = String::new();
    cloud.read_to_string(&mut answered).await.unwrap();
    assert_eq!(answered, "answer");
    drop((cloud, device));
    pair.cloud.idle().await;
    pair.device.handle.idle().await;
    assert_eq!((pair.cloud.stream_count(), pair.device.handle.stream_count()), (0, 0));
}
