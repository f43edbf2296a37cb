//! R4 as figures, by hand: `./scripts/prove stalled`. What a neighbour loses while a hundred callers read nothing, or a
//! local service does, each round measured without and with them.

use std::time::Duration;

use bytes::Bytes;
use tests::{Answer, Cloud, Device, Service, eventually_within, pieces, web};
use tokio::task::JoinSet;

use super::{
    neighbour::Neighbour,
    vitals::{setting, tell, until_idle, until_streams},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; ./scripts/prove stalled runs it"]
async fn proof_stalled_readers_and_a_deaf_service_cost_their_neighbours_little() {
    let mut scene = Scene::set().await;
    let mut missed = vec![];
    for trouble in [Trouble::Readers, Trouble::Service] {
        let (mut throughputs, mut waits) = (vec![], vec![]);
        for round in 0..setting("STALLED_ROUNDS", 5) {
            let without = Pace::of(scene.neighbour.waits_within(MEASURE).await);
            let stalled = scene.begin(trouble).await;
            let with = Pace::of(scene.neighbour.waits_within(MEASURE).await);
            drop(stalled);
            until_streams(&scene.cloud, 0.0).await;
            tell(format!("{trouble:?} round {round}: without {without:?}, with {with:?}"));
            throughputs.push(with.answers as f64 / without.answers as f64);
            waits.push(with.p99.as_secs_f64() / without.p99.as_secs_f64());
        }
        let (throughput, wait) = (Spread::of(throughputs), Spread::of(waits));
        tell(format!("{trouble:?}: throughput {throughput:?} of without, p99 {wait:?} of without"));
        if throughput.median < 0.8 || wait.median > 2.0 {
            missed.push(trouble);
        }
    }
    assert!(missed.is_empty(), "at least 0.8 of the throughput and at most twice the p99: {missed:?}");
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// A hundred callers of a large answer take its head and no more.
    Readers,
    /// Sixty uploads to a service that takes nothing.
    Service,
}

/// Ends with its value.
enum Stalled {
    Readers { _answers: Vec<Answer> },
    Uploads { _uploads: JoinSet<()> },
}

struct Scene {
    cloud: Cloud,
    neighbour: Neighbour,
    device: Device,
    deaf: Service,
    _web: Service,
    token: String,
}

#[derive(Debug)]
struct Pace {
    answers: usize,
    p99: Duration,
}

#[derive(Debug)]
#[expect(dead_code, reason = "told to people")]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Scene {
    async fn set() -> Self {
        let cloud = Cloud::start().await;
        let neighbour = Neighbour::move_in(&cloud).await;
        let deaf = Service::start(|conversation| async move {
            let socket = conversation.into_socket();
            // Neither its bytes nor its end are ever looked at; long after the proof it goes.
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(socket);
        })
        .await;
        let web = web().await;
        let services = [("deaf", deaf.url("http")), ("web", web.url("http"))];
        let device = Device::enrol_and_run(&cloud, "cam-01", &services).await;
        let token = cloud.token("cam-01", "operator").await;
        Self { cloud, neighbour, device, deaf, _web: web, token }
    }

    async fn begin(&mut self, trouble: Trouble) -> Stalled {
        let stalled = match trouble {
            Trouble::Readers => Stalled::Readers { _answers: self.stalled_readers().await },
            Trouble::Service => Stalled::Uploads { _uploads: self.stalled_uploads().await },
        };
        // What is on its way has come as far as it can.
        until_idle([self.cloud.process().id(), self.device.process_id()]).await;
        stalled
    }

    async fn stalled_readers(&self) -> Vec<Answer> {
        let path = format!("/d/cam-01/web/bytes/{}", 1 << 30);
        let mut answers = vec![];
        for _ in 0..100 {
            answers.push(self.cloud.user().get(&path).bearer(&self.token).send().await.expect(200).await);
        }
        answers
    }

    async fn stalled_uploads(&self) -> JoinSet<()> {
        let (mut uploads, before) = (JoinSet::new(), self.deaf.connections());
        for _ in 0..60 {
            let (feed, body) = pieces();
            let call = self.cloud.user().post("/d/cam-01/deaf/").bearer(&self.token).stream(body).http2();
            uploads.spawn(async move {
                let piece = Bytes::from(vec![7; 64 * 1024]);
                let upload = async { while feed.send(piece.clone()).await.is_ok() {} };
                let _ = tokio::join!(call.try_send(), upload);
            });
        }
        eventually_within(Duration::from_secs(30), "sixty uploads are at the service", || async {
            let count = self.deaf.connections() - before;
            if count == 60 { Ok(()) } else { Err(count) }
        })
        .await;
        uploads
    }
}

impl Pace {
    fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        Self { answers: waits.len(), p99: waits[waits.len() * 99 / 100] }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| (values[place] * 100.0).round() / 100.0;
        Self { least: at(0), median: at(values.len() / 2), most: at(values.len() - 1) }
    }
}

const MEASURE: Duration = Duration::from_secs(5);
