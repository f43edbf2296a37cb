//! A device in good health next to the trouble, and somebody who uses it all the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use tests::{Cloud, Device, Door, Service, web};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// The device, its service, and how to call it.
pub(super) struct Neighbour {
    pub(super) device: Device,
    _web: Service,
    door: Door,
    token: String,
}

/// Requests that go on and on until they are stopped.
pub(super) struct Traffic {
    tasks: JoinSet<Vec<String>>,
    stopping: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Neighbour {
    pub(super) async fn move_in(cloud: &Cloud) -> Self {
        let web = web().await;
        let device = Device::enrol_and_run(cloud, NAME, &[("web", web.url("http"))]).await;
        let token = cloud.token(NAME, "operator").await;
        Self { device, _web: web, door: cloud.user(), token }
    }

    /// One request, which has to succeed in time.
    pub(super) async fn is_served(&self) {
        let outcome = ask(&self.door, &self.token).await;
        assert_eq!(outcome, Ok(()));
    }

    /// Asks all the time, on one connection a request.
    pub(super) fn ask_all_the_time(&self) -> Traffic {
        let (stopping, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (door, token) = (self.door.clone(), self.token.clone());
        let (stop, count) = (Arc::clone(&stopping), Arc::clone(&answered));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut failures = vec![];
            while !stop.load(Ordering::Relaxed) {
                match ask(&door, &token).await {
                    Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Err(failure) => failures.push(failure),
                }
            }
            failures
        });
        Traffic { tasks, stopping, answered }
    }

    /// How many requests one after the other are answered in this time, on one HTTP/2 connection.
    pub(super) async fn answered_within(&self, time: Duration) -> usize {
        self.waits_within(time).await.len()
    }

    /// How long each of them took.
    pub(super) async fn waits_within(&self, time: Duration) -> Vec<Duration> {
        let mut connection = self.door.multiplexed().await;
        let began = Instant::now();
        let mut waits = vec![];
        while began.elapsed() < time {
            let asked = Instant::now();
            let call = self.door.get(PATH).bearer(&self.token);
            let answer = timeout(PATIENCE, call.send_on(&mut connection)).await.expect("an answer in time");
            answer.expect(200).await.text().await;
            waits.push(asked.elapsed());
        }
        waits
    }
}

impl Traffic {
    /// How many were answered so far.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it; every request has to have been answered, and there have to be some.
    pub(super) async fn was_undisturbed(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let failures = self.tasks.join_next().await.expect("one task").expect("it does not panic");
        let answered = self.answered();
        assert!(failures.is_empty(), "{} of {answered} failed: {:?}", failures.len(), &failures[0]);
        assert!(answered > 5, "{answered}");
    }
}

async fn ask(door: &Door, token: &str) -> Result<(), String> {
    let call = door.call(Method::GET, PATH).bearer(token);
    match timeout(PATIENCE, call.try_send()).await {
        Ok(Ok(answer)) if answer.status == 200 && answer.header("x-method") == "GET" => Ok(()),
        Ok(Ok(answer)) => Err(answer.problem().await),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

const NAME: &str = "neighbour";
const PATH: &str = "/d/neighbour/web/method";
const PATIENCE: Duration = Duration::from_secs(5);
