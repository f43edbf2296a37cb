//! Callers who go away in the middle: nothing of them is left anywhere.

use bytes::Bytes;
use tests::{Cloud, Device, Service, pieces, web};
use tokio::{task::JoinSet, time::Instant};

use super::vitals::{descriptors, setting, tell, until_descriptors, until_streams};

#[tokio::test]
async fn two_hundred_aborted_downloads_and_uploads_leave_nothing_behind() {
    Scene::set().await.abort(200, 20).await;
}

/// R3, by hand: `./scripts/prove aborts`, which says how many and how many at a time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; ./scripts/prove aborts runs it"]
async fn proof_thousands_of_aborts_leave_nothing_behind() {
    Scene::set().await.abort(setting("ABORTS", 10_000) / 2, setting("ABORTS_AT_ONCE", 50)).await;
}

struct Scene {
    cloud: Cloud,
    device: Device,
    web: Service,
    token: String,
}

impl Scene {
    async fn set() -> Self {
        let cloud = Cloud::start().await;
        let web = web().await;
        let device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
        let token = cloud.token("cam-01", "operator").await;
        Self { cloud, device, web, token }
    }

    /// Aborts as many downloads, and as many uploads.
    async fn abort(mut self, count: usize, at_once: usize) {
        // What is made once and kept, heaps at their largest too, is there before the count begins.
        for _ in 0..(count / at_once / 10).clamp(1, WARMING) {
            self.batch(at_once).await;
        }
        self.only_one_is_left().await;
        let ids = [self.cloud.process().id(), self.device.process_id()];
        let before = ids.map(descriptors);
        let memory = (self.cloud.process().resident_kib(), self.device.process().resident_kib());
        let connections = self.web.connections();
        let (batches, began) = (count / at_once, Instant::now());
        for batch in 0..batches {
            self.batch(at_once).await;
            if (batch + 1) % (batches / 10).max(1) == 0 {
                let (cloud, daemon) =
                    (self.cloud.process().resident_kib(), self.device.process().resident_kib());
                let done = 2 * (batch + 1) * at_once;
                tell(format!(
                    "{done} aborts in {:?}: cloud {cloud} KiB, daemon {daemon} KiB",
                    began.elapsed()
                ));
            }
        }
        assert_eq!(self.web.connections() - connections, 2 * batches * at_once);
        self.only_one_is_left().await;
        for (id, before) in ids.into_iter().zip(before) {
            until_descriptors(id, before).await;
            tell(format!("process {id}: {before} descriptors before, {} after", descriptors(id)));
        }
        let cloud = self.cloud.process().resident_kib().saturating_sub(memory.0);
        let daemon = self.device.process().resident_kib().saturating_sub(memory.1);
        let done = 2 * batches * at_once;
        tell(format!("{done} aborts, 0 streams left: cloud +{cloud} KiB, daemon +{daemon} KiB"));
        assert!(cloud < 32 * 1024 && daemon < 32 * 1024, "{cloud} and {daemon} KiB");
        let call = self.cloud.user().get("/d/cam-01/web/method").bearer(&self.token);
        call.send().await.expect(200).await;
    }

    /// Waits until a download that goes on is the only one, and no other is left when it has ended.
    async fn only_one_is_left(&self) {
        let path = format!("/d/cam-01/web/bytes/{}", 1 << 30);
        let one = self.cloud.user().get(&path).bearer(&self.token).send().await.expect(200).await;
        until_streams(&self.cloud, 1.0).await;
        drop(one);
        until_streams(&self.cloud, 0.0).await;
    }

    async fn batch(&self, count: usize) {
        let mut callers = JoinSet::new();
        for _ in 0..count {
            let path = format!("/d/cam-01/web/bytes/{}", 1 << 30);
            let download = self.cloud.user().get(&path).bearer(&self.token);
            callers.spawn(async move {
                let mut answer = download.send().await.expect(200).await;
                answer.next().await.unwrap().unwrap();
            });
            let (feed, body) = pieces();
            let upload = self.cloud.user().post("/d/cam-01/web/echo").bearer(&self.token).stream(body);
            callers.spawn(async move {
                feed.send(Bytes::from(vec![1; 20_000])).await.unwrap();
                let mut answer = upload.send().await.expect(200).await;
                // The service has the first piece, since it says it back; the second is cut.
                answer.next().await.unwrap().unwrap();
                feed.send(Bytes::from(vec![2; 20_000])).await.unwrap();
            });
        }
        callers.join_all().await;
    }
}

/// Batches before the count begins.
const WARMING: usize = 50;
