//! Bodies of any size pass at flat memory, in both processes.

use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tests::web;

use crate::stage::Stage;

#[tokio::test]
async fn a_gibibyte_down_and_up_grows_neither_process() {
    let web = web().await;
    let mut stage = Stage::set(&[("web", web.url("http"))]).await;
    // What a first exchange allocates for good is not growth.
    assert_eq!(download(&stage, BLOCK).await, BLOCK);
    assert_eq!(upload(&stage, BLOCK).await, BLOCK);
    let before = (stage.cloud.process().resident_kib(), stage.device.process().resident_kib());
    assert_eq!(download(&stage, SIZE).await, SIZE);
    assert_eq!(upload(&stage, SIZE).await, SIZE);
    for (name, peak, before) in [
        ("cloud", stage.cloud.process().peak_resident_kib(), before.0),
        ("daemon", stage.device.process().peak_resident_kib(), before.1),
    ] {
        assert!(peak < before + GROWTH_KIB, "{name}: {before} KiB before, {peak} KiB at most");
    }
}

async fn download(stage: &Stage, size: usize) -> usize {
    let mut answer = stage.get(&format!("/web/bytes/{size}")).send().await.expect(200).await;
    let mut count = 0;
    while let Some(piece) = answer.next().await {
        count += piece.unwrap().len();
    }
    count
}

async fn upload(stage: &Stage, size: usize) -> usize {
    let block = bytes::Bytes::from(vec![0; BLOCK]);
    let frames = std::iter::repeat_n(block, size / BLOCK)
        .map(|block| Ok::<_, std::convert::Infallible>(Frame::data(block)));
    let pieces = stream::iter(frames);
    let call =
        stage.post("/web/count").header("content-length", size.to_string()).stream(StreamBody::new(pieces));
    call.send().await.expect(200).await.text().await.parse().unwrap()
}

const BLOCK: usize = 64 * 1024;
const SIZE: usize = 1 << 30;
const GROWTH_KIB: u64 = 24 * 1024;
