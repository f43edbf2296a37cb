//! A process full of devices: `bench crew`, started by the fleet's own process, which one process has not descriptors for.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args;
use runtime::{Clock, Tasks};
use tcpmux_client::{Daemon, DaemonConfig, ServiceSpec, Services};
use tests::Process;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::members;

/// What `bench crew` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Crew {
    /// Where the states of all members are
    directory: PathBuf,
    first: usize,
    count: usize,
    /// Port of the service of each
    source: u16,
}

/// Starts a process with these members, which have enrolled.
pub(super) fn start(directory: &Path, first: usize, count: usize, source: u16) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("crew").arg(directory).args([first, count, source.into()].map(|number| number.to_string()));
    Process::start_attached("crew", command)
}

pub(super) async fn until_started(process: &Process) {
    tests::eventually_within(PATIENCE, "a crew starts", || async {
        let log = process.log();
        if log.contains(STARTED) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// How many of its members say that they are connected.
pub(super) async fn connected(process: &Process) -> usize {
    let told = |log: &str| log.lines().filter(|line| line.starts_with(CONNECTED)).count();
    let before = told(&process.log());
    process.signal("USR1");
    tests::eventually_within(PATIENCE, "a crew counts", || async {
        let log = process.log();
        let last = log.lines().last().and_then(|line| line.strip_prefix(CONNECTED)?.parse().ok());
        last.filter(|_| told(&log) > before).ok_or(log)
    })
    .await
}

/// Runs its members until it is asked to end or the fleet's own process is gone; tells how many are connected whenever
/// it is asked by SIGUSR1.
pub(crate) async fn run(crew: &Crew) {
    let mut asked = signal(SignalKind::user_defined1()).unwrap();
    let spec = ServiceSpec {
        name: "source".into(),
        to: format!("tcp://127.0.0.1:{}", crew.source),
        viewer_websocket: false,
        certificate: None,
        host: None,
    };
    let services = Services::new(&[spec], false, None).unwrap();
    let mut daemons = vec![];
    for index in crew.first..crew.first + crew.count {
        let mut config = DaemonConfig::new(members::state(&crew.directory, index), services.clone());
        config.way_out = members::way_out(index);
        daemons.push(Daemon::start(config, Clock::system(), Tasks::new()).await.unwrap());
    }
    tell(STARTED);
    let count = async {
        while asked.recv().await.is_some() {
            let connected = daemons.iter().filter(|daemon| daemon.status().connected).count();
            tell(&format!("{CONNECTED}{connected}"));
        }
    };
    tokio::select! {
        () = count => {}
        ended = runtime::termination() => { ended.unwrap(); }
        _ = parent_gone() => {}
    }
    for daemon in daemons {
        daemon.stop(Duration::ZERO).await;
    }
}

/// Standard input is a pipe that nobody writes to: it ends with the process at its other end, however that ends. A
/// thread of its own, since a runtime would wait for this read when it ends otherwise.
fn parent_gone() -> oneshot::Receiver<()> {
    let (gone, told) = oneshot::channel();
    std::thread::spawn(move || {
        // An error is an end too; and nobody listens when the crew has ended already.
        let _ = std::io::stdin().lock().read(&mut [0]);
        let _ = gone.send(());
    });
    told
}

/// A line, at once: standard output is a pipe here.
fn tell(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).unwrap();
}

const STARTED: &str = "started";
const CONNECTED: &str = "connected ";
const PATIENCE: Duration = Duration::from_secs(120);
