//! Callers that do not read and services that do not: they cost what their windows hold, and nobody else pays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tests::{Cloud, Device, Service, eventually_within, pieces, web};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    neighbour::Neighbour,
    vitals::{descriptors, tell, until_descriptors, until_idle, until_streams},
};

#[tokio::test]
async fn a_hundred_callers_that_do_not_read_leave_their_neighbour_its_pace() {
    let mut cloud = Cloud::start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let big = web().await;
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", big.url("http"))]).await;
    let token = cloud.token("cam-01", "operator").await;
    let alone = neighbour.answered_within(MEASURE).await;
    let before = Before::take(&mut cloud, &mut device);

    let path = format!("/d/cam-01/web/bytes/{}", 1 << 30);
    let mut stalled = vec![];
    for _ in 0..100 {
        stalled.push(cloud.user().get(&path).bearer(&token).send().await.expect(200).await);
    }
    until_idle([cloud.process().id(), device.process_id()]).await;
    let beside = neighbour.answered_within(MEASURE).await;
    // One more caller of the same device, who reads, gets all of it.
    let other = cloud.user().get("/d/cam-01/web/bytes/3000000").bearer(&token).send().await;
    let whole = timeout(Duration::from_secs(20), other.expect(200).await.bytes()).await;
    assert_eq!(whole.expect("in time").unwrap().len(), 3_000_000);
    let (of_cloud, of_daemon) = before.growth(&mut cloud, &mut device);
    tell(format!("{alone} answers alone, {beside} beside; cloud +{of_cloud} KiB, daemon +{of_daemon} KiB"));
    // At the cloud 256 KiB of window a reader, 64 MiB by which all windows of a session may have grown
    // before the readers stopped, as much again for the way from there to the sockets and the allocator.
    assert!(of_cloud < 2 * (100 * 256 + 64 * 1024 + 100 * 192), "{of_cloud} KiB");
    assert!(of_daemon < 100 * 512, "{of_daemon} KiB");
    until_streams(&cloud, 100.0).await;

    drop(stalled);
    before.is_restored(&mut cloud, &mut device).await;
    let after = neighbour.answered_within(MEASURE).await;
    tell(format!("{after} answers after them"));
    // The machine may have become slower in between, for reasons of its own.
    let without = alone.min(after);
    assert!(beside * 2 >= without, "{beside} answers beside them, {without} without");
}

#[tokio::test]
async fn a_service_that_reads_nothing_stalls_its_own_callers_alone() {
    let mut cloud = Cloud::start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let deaf = Service::start(|conversation| async move {
        let socket = conversation.into_socket();
        // Readable or not, it is never read; it ends with the test.
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let web = web().await;
    let services = [("deaf", deaf.url("http")), ("web", web.url("http"))];
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &services).await;
    let token = cloud.token("cam-01", "operator").await;
    let alone = neighbour.answered_within(MEASURE).await;
    let before = Before::take(&mut cloud, &mut device);

    let mut uploads = JoinSet::new();
    let fed = Arc::new(AtomicUsize::new(0));
    for _ in 0..60 {
        let (feed, body) = pieces();
        let fed = Arc::clone(&fed);
        // With HTTP/1 the callers' goodbye would lie behind bytes that nobody can take.
        let call = cloud.user().post("/d/cam-01/deaf/").bearer(&token).stream(body).http2();
        uploads.spawn(async move {
            let piece = Bytes::from(vec![7; 64 * 1024]);
            let upload = async {
                while feed.send(piece.clone()).await.is_ok() {
                    fed.fetch_add(piece.len(), Ordering::Relaxed);
                }
            };
            let _ = tokio::join!(call.try_send(), upload);
        });
    }
    eventually_within(Duration::from_secs(20), "sixty uploads are at the service", || async {
        let count = deaf.connections();
        if count == 60 { Ok(()) } else { Err(count) }
    })
    .await;
    until_idle([cloud.process().id(), device.process_id()]).await;
    let full = fed.load(Ordering::Relaxed);
    let beside = neighbour.answered_within(MEASURE).await;
    let same = cloud.user().get("/d/cam-01/web/method").bearer(&token).send();
    timeout(Duration::from_secs(10), same).await.expect("the device's other service").expect(200).await;
    let (of_cloud, of_daemon) = before.growth(&mut cloud, &mut device);
    tell(format!(
        "{alone} answers alone, {beside} beside; {} MiB on the way, cloud +{of_cloud} KiB, daemon +{of_daemon} KiB",
        full >> 20
    ));
    assert!(of_cloud < 60 * 1024 && of_daemon < 60 * 768, "{of_cloud} and {of_daemon} KiB");
    until_streams(&cloud, 60.0).await;

    uploads.shutdown().await;
    before.is_restored(&mut cloud, &mut device).await;
    let after = neighbour.answered_within(MEASURE).await;
    tell(format!("{after} answers after them"));
    // The machine may have become slower in between, for reasons of its own.
    let without = alone.min(after);
    assert!(beside * 2 >= without, "{beside} answers beside them, {without} without");
}

/// What both processes needed before the trouble.
struct Before {
    memory: (u64, u64),
    descriptors: (usize, usize),
}

impl Before {
    fn take(cloud: &mut Cloud, device: &mut Device) -> Self {
        Self {
            memory: (cloud.process().resident_kib(), device.process().resident_kib()),
            descriptors: (descriptors(cloud.process().id()), descriptors(device.process_id())),
        }
    }

    /// By how many KiB cloud and daemon have grown.
    fn growth(&self, cloud: &mut Cloud, device: &mut Device) -> (u64, u64) {
        let now = (cloud.process().resident_kib(), device.process().resident_kib());
        (now.0.saturating_sub(self.memory.0), now.1.saturating_sub(self.memory.1))
    }

    async fn is_restored(&self, cloud: &mut Cloud, device: &mut Device) {
        let ids = (cloud.process().id(), device.process_id());
        let began = Instant::now();
        tokio::join!(
            until_streams(cloud, 0.0),
            until_descriptors(ids.0, self.descriptors.0),
            until_descriptors(ids.1, self.descriptors.1)
        );
        let (of_cloud, of_daemon) = self.growth(cloud, device);
        tell(format!("all gone after {:?}: cloud +{of_cloud} KiB, daemon +{of_daemon} KiB", began.elapsed()));
    }
}

const MEASURE: Duration = Duration::from_secs(2);
