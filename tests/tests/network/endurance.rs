//! R6, by hand: `./scripts/prove endurance`. Requests at a steady rate while every minute something breaks. Outside the
//! windows that are declared for it no request fails; a fault of the registry or of the database has no window at all.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tests::{Cloud, Door, EnrolledDevice, Multiplexed, Namespace, Process, Redis, client_program};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::vitals::{setting, tell};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour; ./scripts/prove endurance runs it"]
async fn proof_endurance_failures_lie_in_the_declared_windows_of_faults_alone() {
    let (minutes, rate) = (setting("ENDURANCE_MINUTES", 60), setting("ENDURANCE_RATE", 500));
    let mut scene = Scene::set().await;
    let load = Load::begin(&scene, rate);
    let mut windows = vec![];
    let began = Instant::now();
    for minute in 0..minutes {
        let due = began + MINUTE * minute as u32;
        // A token lives for five minutes; nothing is broken at this moment.
        scene.renew_token().await;
        sleep_until(due + Duration::from_secs(10)).await;
        let fault = FAULTS[minute % FAULTS.len()];
        let from = Instant::now();
        scene.break_and_mend(fault).await;
        let back = scene.is_back().await;
        // A fault that must cost nothing has no window.
        let until = if fault.may_cost() { back + SETTLE } else { from };
        windows.push(Window { fault, from, until, back: back - from });
        let told = load.told_between(due, Instant::now());
        tell(told.line(minute, windows.last().expect("pushed above")));
        sleep_until(due + MINUTE).await;
    }
    let requests = load.end().await;
    let outside: Vec<&Request> = requests
        .iter()
        .filter(|request| request.failed.is_some())
        .filter(|request| !windows.iter().any(|window| window.covers(request)))
        .collect();
    let failed = requests.iter().filter(|request| request.failed.is_some()).count();
    tell(format!(
        "{} requests in {minutes} minutes, {failed} failed, {} of them outside the windows",
        requests.len(),
        outside.len()
    ));
    for request in outside.iter().take(20) {
        tell(format!("at {:?}: {:?}", request.asked - began, request.failed));
    }
    assert!(outside.is_empty(), "{} requests failed where nothing was broken", outside.len());
    assert!(requests.len() * 10 > minutes * 60 * rate * 9, "the load was there: {}", requests.len());
}

/// What breaks, and for how long at most its consequences may last.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KilledCloud,
    KilledDaemon,
    StoppedCloud,
    StoppedDaemon,
    CutCable,
    RegistryAway,
    LockedDatabase,
}

struct Window {
    fault: Fault,
    from: Instant,
    until: Instant,
    back: Duration,
}

/// What the callers show, renewed while they go on.
type Token = Arc<Mutex<String>>;

struct Request {
    asked: Instant,
    answered: Instant,
    failed: Option<String>,
}

struct Scene {
    cloud: Cloud,
    redis: Redis,
    namespace: Namespace,
    daemon: Process,
    state: EnrolledDevice,
    config: PathBuf,
    token: Token,
    _service: UnixService,
}

impl Fault {
    fn may_cost(self) -> bool {
        !matches!(self, Self::RegistryAway | Self::LockedDatabase)
    }
}

impl Window {
    /// Whether the request was under way while this fault could be felt.
    fn covers(&self, request: &Request) -> bool {
        request.asked <= self.until && request.answered >= self.from
    }
}

impl Scene {
    async fn set() -> Self {
        let (redis, namespace, service) = (Redis::start().await, Namespace::new(), UnixService::start());
        let ours = namespace.ours();
        let cloud = Cloud::plan()
            .config(&format!("device_url = \"{ours}:7443\"\n"))
            .device_listen((ours, 0).into())
            .flag("--registry")
            .flag(&redis.url())
            .start()
            .await;
        let state = EnrolledDevice::enrol(&cloud, DEVICE).await;
        let config = state.state().with_file_name("client.toml");
        let text = format!(
            "state = \"{}\"\nlocal_api = \"off\"\n[[service]]\nname = \"web\"\nto = \"unix:{}\"\n",
            state.state().display(),
            service.path().display(),
        );
        std::fs::write(&config, text).unwrap();
        let daemon = daemon(&namespace, &config);
        cloud.until_online(DEVICE, true, Duration::from_secs(20)).await;
        let token = Arc::new(Mutex::new(cloud.token(DEVICE, "operator").await));
        Self { cloud, redis, namespace, daemon, state, config, token, _service: service }
    }

    async fn renew_token(&self) {
        let fresh = self.cloud.token(DEVICE, "operator").await;
        *self.token.lock().unwrap() = fresh;
    }

    async fn break_and_mend(&mut self, fault: Fault) {
        match fault {
            Fault::KilledCloud => {
                self.cloud.kill();
                self.cloud.start_again().await;
            }
            Fault::KilledDaemon => {
                self.daemon.kill();
                self.daemon = daemon(&self.namespace, &self.config);
            }
            Fault::StoppedCloud => {
                self.cloud.process().signal("STOP");
                sleep(OUTAGE).await;
                self.cloud.process().signal("CONT");
            }
            Fault::StoppedDaemon => {
                self.daemon.signal("STOP");
                sleep(OUTAGE).await;
                self.daemon.signal("CONT");
            }
            Fault::CutCable => {
                self.namespace.cut();
                sleep(OUTAGE).await;
                self.namespace.mend();
            }
            Fault::RegistryAway => {
                self.redis.kill();
                sleep(OUTAGE).await;
                self.redis.start_again().await;
            }
            Fault::LockedDatabase => {
                let lock = self.cloud.lock_database().await;
                sleep(OUTAGE).await;
                drop(lock);
            }
        }
    }

    /// Waits until the device answers again, and says when it did.
    async fn is_back(&self) -> Instant {
        let begun = Instant::now();
        loop {
            let token = self.token.lock().unwrap().clone();
            let call = self.cloud.user().get(PATH).bearer(&token).try_send();
            if let Ok(Ok(answer)) = timeout(Duration::from_secs(2), call).await
                && answer.status == 200
            {
                return Instant::now();
            }
            let waited = begun.elapsed();
            assert!(waited < Duration::from_secs(45), "not back after {waited:?}: {}", self.state.id());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn daemon(namespace: &Namespace, config: &std::path::Path) -> Process {
    let mut command = namespace.command(client_program());
    command.args(["run", "--config"]).arg(config);
    Process::start(DEVICE, command)
}

/// Requests at a rate that does not wait for their answers, spread over some connections.
struct Load {
    workers: JoinSet<()>,
    stopping: Arc<AtomicBool>,
    done: Arc<Mutex<Vec<Request>>>,
}

/// What came of the requests of some stretch of time.
struct Told {
    count: usize,
    failed: usize,
    p50: Duration,
    p99: Duration,
}

impl Load {
    fn begin(scene: &Scene, rate: usize) -> Self {
        let (stopping, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (door, token) = (scene.cloud.user(), Arc::clone(&scene.token));
            let (stopping, done) = (Arc::clone(&stopping), Arc::clone(&done));
            let pause = Duration::from_secs(1) * WORKERS as u32 / rate as u32;
            workers.spawn(async move { work(door, token, pause, stopping, done).await });
        }
        Self { workers, stopping, done }
    }

    fn told_between(&self, from: Instant, until: Instant) -> Told {
        let done = self.done.lock().unwrap();
        let stretch: Vec<&Request> =
            done.iter().filter(|request| (from..until).contains(&request.answered)).collect();
        let good = stretch.iter().filter(|request| request.failed.is_none());
        let mut waits: Vec<Duration> = good.map(|request| request.answered - request.asked).collect();
        waits.sort_unstable();
        let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default();
        let failed = stretch.len() - waits.len();
        Told { count: stretch.len(), failed, p50: at(50), p99: at(99) }
    }

    async fn end(mut self) -> Vec<Request> {
        self.stopping.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        std::mem::take(&mut self.done.lock().unwrap())
    }
}

impl Told {
    fn line(&self, minute: usize, window: &Window) -> String {
        let Self { count, failed, p50, p99 } = self;
        let (fault, back, length) = (window.fault, window.back, window.until - window.from);
        format!(
            "| {minute} | {fault:?} | answered again after {back:.1?} | window {length:.1?} | {count} requests | \
             {failed} failed | p50 {p50:.1?} | p99 {p99:.1?} |"
        )
    }
}

async fn work(
    door: Door,
    token: Token,
    pause: Duration,
    stopping: Arc<AtomicBool>,
    done: Arc<Mutex<Vec<Request>>>,
) {
    let (mut ticks, mut calls) = (interval(pause), JoinSet::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut connection: Option<Arc<Multiplexed>> = None;
    while !stopping.load(Ordering::Relaxed) {
        ticks.tick().await;
        while calls.try_join_next().is_some_and(|finished| finished.unwrap_or(false)) {}
        let asked = Instant::now();
        if connection.as_ref().is_none_or(|connection| connection.is_closed()) {
            connection = match timeout(PATIENCE, door.try_multiplexed()).await {
                Ok(Ok(fresh)) => Some(Arc::new(fresh)),
                Ok(Err(error)) => {
                    let failed = Some(format!("no connection: {error}"));
                    done.lock().unwrap().push(Request { asked, answered: Instant::now(), failed });
                    continue;
                }
                Err(_) => {
                    let failed = Some("no connection in time".into());
                    done.lock().unwrap().push(Request { asked, answered: Instant::now(), failed });
                    continue;
                }
            };
        }
        let Some(connection) = connection.clone() else { continue };
        let call = door.get(PATH).bearer(&token.lock().unwrap());
        let done = Arc::clone(&done);
        calls.spawn(async move {
            let failed = match timeout(PATIENCE, call.try_send_on(&connection)).await {
                Ok(Ok(status)) if status == 200 => None,
                Ok(Ok(status)) => Some(status.to_string()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {PATIENCE:?}")),
            };
            done.lock().unwrap().push(Request { asked, answered: Instant::now(), failed });
            true
        });
    }
    calls.join_all().await;
}

/// A service of the device that answers every request; at a path, since the device has a network of its own.
struct UnixService {
    directory: TempDir,
    _serving: JoinSet<()>,
}

impl UnixService {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("web")).unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                while conversations.try_join_next().is_some() {}
                conversations.spawn(async move {
                    let mut head = vec![];
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        if !matches!(socket.read_buf(&mut head).await, Ok(1..)) {
                            return;
                        }
                    }
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                    // A caller that is gone needs no answer.
                    let _ = socket.write_all(answer).await;
                });
            }
        });
        Self { directory, _serving: serving }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("web")
    }
}

const FAULTS: [Fault; 7] = [
    Fault::KilledCloud,
    Fault::RegistryAway,
    Fault::KilledDaemon,
    Fault::LockedDatabase,
    Fault::StoppedDaemon,
    Fault::StoppedCloud,
    Fault::CutCable,
];
const DEVICE: &str = "cam-01";
const PATH: &str = "/d/cam-01/web/x";
const WORKERS: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// How long something is stopped, cut or away.
const OUTAGE: Duration = Duration::from_secs(8);
/// After the device answers again, connections of callers that still wait for a dead one may fail.
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);
