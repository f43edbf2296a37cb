//! A link that swallows every packet and tells nobody: both ends notice within thirty seconds.

use std::{process::Command, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tests::{Cloud, EnrolledDevice, Namespace, Process, client_program, eventually_within, run};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::vitals::tell;

#[tokio::test]
async fn both_ends_notice_a_black_hole_within_thirty_seconds_and_meet_again_after_it() {
    let noticed = Hole::dig("cam-01").await.fall_in_and_out().await;
    tell(format!(
        "noticed by cloud {:?}, daemon {:?}, caller {:?}",
        noticed.cloud, noticed.daemon, noticed.caller
    ));
}

/// R1, by hand: `./scripts/prove half-open`.
#[tokio::test]
#[ignore = "takes minutes; ./scripts/prove half-open runs it"]
async fn proof_fifty_black_holes_are_noticed_by_both_ends() {
    let mut latest = Duration::ZERO;
    for round in 0..5 {
        let mut holes = JoinSet::new();
        for number in 0..10 {
            holes.spawn(async move { Hole::dig(&format!("cam-{number}")).await.fall_in_and_out().await });
        }
        for noticed in holes.join_all().await {
            tell(format!("round {round}: cloud {:?}, daemon {:?}", noticed.cloud, noticed.daemon));
            latest = latest.max(noticed.cloud).max(noticed.daemon).max(noticed.caller);
        }
    }
    tell(format!("50 of 50; the latest after {latest:?}"));
}

/// A cloud here, a device in a network of its own.
struct Hole {
    device: &'static str,
    cloud: Cloud,
    daemon: Daemon,
    _events: Events,
}

/// A daemon with its local API, in another network.
struct Daemon {
    namespace: Namespace,
    _process: Process,
    _state: EnrolledDevice,
}

/// When who knew, counted from the first lost packet.
struct Noticed {
    cloud: Duration,
    daemon: Duration,
    caller: Duration,
}

impl Hole {
    async fn dig(device: &str) -> Self {
        let device: &'static str = device.to_owned().leak();
        let namespace = Namespace::new();
        let ours = namespace.ours();
        // The name is for the certificate; the port is whatever is free.
        let cloud = Cloud::plan()
            .config(&format!("device_url = \"{ours}:7443\"\n"))
            .device_listen((ours, 0).into())
            .start()
            .await;
        let events = Events::start();
        let state = EnrolledDevice::enrol(&cloud, device).await;
        let config = state.state().with_file_name("client.toml");
        let text = format!(
            "state = \"{}\"\nlocal_api = \"{API}\"\n[[service]]\nname = \"web\"\nto = \"{}\"\n",
            state.state().display(),
            events.url(),
        );
        std::fs::write(&config, text).unwrap();
        let mut command = namespace.command(client_program());
        command.args(["run", "--config"]).arg(&config);
        let process = Process::start(device, command);
        cloud.until_online(device, true, Duration::from_secs(20)).await;
        Self {
            device,
            cloud,
            daemon: Daemon { namespace, _process: process, _state: state },
            _events: events,
        }
    }

    async fn fall_in_and_out(self) -> Noticed {
        let Self { device, cloud, daemon, _events } = self;
        let path = format!("/d/{device}/web/events");
        let token = cloud.token(device, "operator").await;
        let user = cloud.user();
        let mut live = user.get(&path).bearer(&token).send().await.expect(200).await;
        live.next().await.unwrap().unwrap();
        assert!(daemon.is_connected().await.unwrap());

        daemon.namespace.cut();
        let began = Instant::now();
        // Nobody was told anything: at first both ends still believe in the link.
        assert_eq!(cloud.device_record(device).await["online"], true);
        assert!(daemon.is_connected().await.unwrap());
        let at_cloud = async {
            cloud.until_online(device, false, Duration::from_secs(30)).await;
            began.elapsed()
        };
        let at_daemon = async {
            eventually_within(Duration::from_secs(30), "the daemon knows", || async {
                match daemon.is_connected().await {
                    Some(false) => Ok(()),
                    other => Err(other),
                }
            })
            .await;
            began.elapsed()
        };
        let at_caller = async {
            let end = timeout(Duration::from_secs(30), live.next()).await.expect("a dead stream ends");
            assert!(end.unwrap().is_err(), "cut, not ended as if complete");
            began.elapsed()
        };
        let (by_cloud, by_daemon, by_caller) = tokio::join!(at_cloud, at_daemon, at_caller);
        let offline = user.get(&path).bearer(&token).send().await;
        assert!(!offline.header("retry-after").is_empty());
        assert_eq!(offline.problem().await, "503 TMX-3001");

        daemon.namespace.mend();
        cloud.until_online(device, true, Duration::from_secs(90)).await;
        assert!(daemon.is_connected().await.unwrap());
        user.get(&path).bearer(&token).send().await.expect(200).await;
        Noticed { cloud: by_cloud, daemon: by_daemon, caller: by_caller }
    }
}

impl Daemon {
    /// What the daemon's own status says; `None` if it does not answer.
    async fn is_connected(&self) -> Option<bool> {
        let command: Command = self.namespace.command("curl");
        let mut words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        words.extend(["-sS", "-m", "2", &format!("http://{API}/v1/status")].map(Into::into));
        let answer = run(command.get_program(), words, b"").await;
        let status: Value = serde_json::from_str(&answer.stdout).ok()?;
        status["connected"].as_bool()
    }
}

/// A web service that answers with one event and then waits, on a socket in the file system: those are
/// the same in every network.
struct Events {
    directory: TempDir,
    _serving: JoinSet<()>,
}

impl Events {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut live = vec![];
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                if matches!(socket.read(&mut head).await, Ok(1..))
                    && socket.write_all(FIRST.as_bytes()).await.is_ok()
                {
                    live.push(socket);
                }
            }
        });
        Self { directory, _serving: serving }
    }

    fn url(&self) -> String {
        format!("unix:{}/socket", self.directory.path().display())
    }
}

const FIRST: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
const API: &str = "127.0.0.1:7480";
