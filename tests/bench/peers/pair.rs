//! Whoever is measured, as the measures see it: five ports, two ends of processes, and a way to kill one.

use std::{net::TcpStream, process::Command, time::Duration};

use tempfile::TempDir;
use tests::Process;
use tokio::time::{Instant, sleep};

use super::Ours;
use crate::{backend::Ports, processes::Group};

pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) ports: Ports,
    machinery: Machinery,
}

enum Machinery {
    Nothing,
    Ours(Box<Ours>),
    Programs { programs: Vec<Program>, _directory: TempDir },
}

/// One program of a peer, which can be started again.
pub(super) struct Program {
    end: End,
    make: Box<dyn Fn() -> Command + Send>,
    process: Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Where callers come in.
    Server,
    /// Where the services are.
    Client,
}

impl Subject {
    /// The backend itself.
    pub(super) fn direct(ports: Ports) -> Self {
        Self { name: "direct", ports, machinery: Machinery::Nothing }
    }

    /// Programs that share a directory of files.
    pub(super) fn programs(
        name: &'static str,
        ports: Ports,
        programs: Vec<Program>,
        directory: TempDir,
    ) -> Self {
        Self { name, ports, machinery: Machinery::Programs { programs, _directory: directory } }
    }

    pub(crate) fn ours(ours: Ours) -> Self {
        Self { name: crate::report::OURS, ports: ours.ports, machinery: Machinery::Ours(Box::new(ours)) }
    }

    /// All processes that bytes pass through.
    pub(crate) fn group(&mut self) -> Group {
        let (mut all, client) = (self.end(End::Server), self.end(End::Client));
        all.0.extend(client.0);
        all
    }

    /// Resident memory of the end with the services, in MiB, where there is one.
    pub(crate) fn client_mib(&mut self) -> Option<f64> {
        let kib = self.end(End::Client).resident_kib();
        (kib > 0).then(|| kib as f64 / 1024.0)
    }

    /// Whether its server can be killed and come back: a pair of hops has no state to win back.
    pub(crate) fn is_tunnel(&self) -> bool {
        !matches!(self.machinery, Machinery::Nothing) && !["haproxy", "stunnel"].contains(&self.name)
    }

    /// Kills the server and starts it again at once; how long nobody was answered, from the kill on. A client that ends
    /// with its connection is started again a second later, as a service manager would.
    pub(crate) async fn killed_and_back(&mut self) -> Result<Duration, String> {
        let begin = Instant::now();
        match &mut self.machinery {
            Machinery::Nothing => return Err("there is nothing to kill".into()),
            Machinery::Ours(ours) => {
                ours.cloud.kill();
                ours.cloud.start_again().await;
            }
            Machinery::Programs { programs, .. } => {
                for server in programs.iter_mut().filter(|program| program.end == End::Server) {
                    server.restart();
                }
            }
        }
        let mut ended = None;
        while !self.is_answering() {
            if begin.elapsed() > PATIENCE {
                return Err(format!("nobody answers {PATIENCE:?} after the server was killed"));
            }
            if let Machinery::Programs { programs, .. } = &mut self.machinery
                && programs
                    .iter_mut()
                    .any(|program| program.end == End::Client && program.process.ended().is_some())
                && ended.get_or_insert_with(Instant::now).elapsed() > RESTART
            {
                let clients = programs.iter_mut().filter(|program| program.end == End::Client);
                clients
                    .filter_map(|client| client.process.ended().is_some().then_some(client))
                    .for_each(Program::restart);
                ended = None;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(begin.elapsed())
    }

    /// Waits until all five ports lead somewhere; otherwise its own words.
    pub(super) async fn until_open(mut self) -> Result<Self, String> {
        let begin = Instant::now();
        while !self.is_answering() || !self.is_echoing() {
            if let Machinery::Programs { programs, .. } = &mut self.machinery {
                let ended = programs
                    .iter_mut()
                    .find_map(|program| Some((program.process.ended()?, program.process.log())));
                if let Some((status, log)) = ended {
                    return Err(format!("it ended with {status}: {}", last_line(&log)));
                }
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("its ports lead nowhere after {PATIENCE:?}: {}", self.last_words()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(self)
    }

    /// Whether a small request is answered.
    fn is_answering(&self) -> bool {
        [self.ports.whole, self.ports.split].into_iter().all(|port| {
            talk(port, b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", b"HTTP/1.1 200")
        })
    }

    fn is_echoing(&self) -> bool {
        talk(self.ports.echo, b"there and back", b"there and back")
            && [self.ports.source, self.ports.sink].iter().all(|port| connect(*port).is_some())
    }

    fn end(&mut self, end: End) -> Group {
        match &mut self.machinery {
            Machinery::Nothing => Group::default(),
            Machinery::Ours(ours) => match end {
                End::Server => Group(vec![ours.cloud.process().id()]),
                End::Client => Group(vec![ours.device.process().id()]),
            },
            Machinery::Programs { programs, .. } => Group(
                programs
                    .iter()
                    .filter(|program| program.end == end)
                    .map(|program| program.process.id())
                    .collect(),
            ),
        }
    }

    fn last_words(&self) -> String {
        match &self.machinery {
            Machinery::Programs { programs, .. } => {
                let words: Vec<String> =
                    programs.iter().map(|program| last_line(&program.process.log())).collect();
                words.join(" | ")
            }
            _ => String::new(),
        }
    }
}

impl Program {
    pub(super) fn start(end: End, make: impl Fn() -> Command + Send + 'static) -> Self {
        let process = Process::start("a peer", make());
        Self { end, make: Box::new(make), process }
    }

    fn restart(&mut self) {
        Group(vec![self.process.id()]).kill();
        self.process.kill();
        self.process = Process::start("a peer", (self.make)());
    }
}

/// What a program leaves behind that it had started itself.
impl Drop for Program {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            Group(vec![self.process.id()]).kill();
        }
    }
}

fn talk(port: u16, say: &[u8], hear: &[u8]) -> bool {
    use std::io::{Read, Write};
    let Some(mut socket) = connect(port) else { return false };
    let mut heard = vec![0; hear.len()];
    socket.write_all(say).is_ok() && socket.read_exact(&mut heard).is_ok() && heard == hear
}

fn connect(port: u16) -> Option<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(250))).ok()?;
    Some(socket)
}

fn last_line(log: &str) -> String {
    log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word").trim().to_owned()
}

const PATIENCE: Duration = Duration::from_secs(60);
const RESTART: Duration = Duration::from_secs(1);
