//! Others that do what we do, or a part of it: each leads five ports of loopback to the five services of the backend.

mod hops;
mod openssh;
mod ours;
mod pair;
mod rathole;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::{backend::Ports, report::Report};

pub(crate) use ours::{DEVICE, Ours};
pub(crate) use pair::Subject;

/// Who can be measured beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Nobody: us alone
    None,
    /// The backend itself, with nothing between
    Direct,
    /// rathole over TLS, a connection for each stream
    RatholeTls,
    /// rathole over Noise
    RatholeNoise,
    /// rathole without encryption
    RatholePlain,
    /// bore, without encryption
    Bore,
    /// Two haproxies with TLS between: one hop, no tunnel
    Haproxy,
    /// Two stunnels: one hop, no tunnel
    Stunnel,
    /// OpenSSH with -R and AES-GCM
    Openssh,
}

impl Peer {
    /// As in the tables.
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Direct => "direct",
            Self::RatholeTls => "rathole-tls",
            Self::RatholeNoise => "rathole-noise",
            Self::RatholePlain => "rathole-plain",
            Self::Bore => "bore",
            Self::Haproxy => "haproxy",
            Self::Stunnel => "stunnel",
            Self::Openssh => "openssh",
        }
    }

    async fn start(self, backend: Ports) -> Result<Option<Subject>, String> {
        let subject = match self {
            Self::None => return Ok(None),
            Self::Direct => Subject::direct(backend),
            Self::RatholeTls => rathole::start(self.name(), rathole::Transport::Tls, backend)?,
            Self::RatholeNoise => rathole::start(self.name(), rathole::Transport::Noise, backend)?,
            Self::RatholePlain => rathole::start(self.name(), rathole::Transport::Tcp, backend)?,
            Self::Bore => rathole::bore(self.name(), backend)?,
            Self::Haproxy => hops::haproxy(self.name(), backend)?,
            Self::Stunnel => hops::stunnel(self.name(), backend)?,
            Self::Openssh => openssh::start(self.name(), backend)?,
        };
        subject.until_open().await.map(Some)
    }
}

/// Starts those that were chosen, all where nobody was; the report says who is not there, and why.
pub(crate) async fn start(chosen: &[Peer], backend: Ports, report: &mut Report) -> Vec<Subject> {
    let mut subjects = vec![];
    for peer in Peer::value_variants() {
        if !chosen.is_empty() && !chosen.contains(peer) {
            continue;
        }
        match peer.start(backend).await {
            Ok(subject) => subjects.extend(subject),
            Err(reason) => report.skip(peer.name(), reason),
        }
    }
    if chosen.is_empty() {
        for (peer, reason) in OUT_OF_REACH {
            report.skip(peer, *reason);
        }
    }
    subjects
}

/// Those whose users have what ours have: a tunnel, and nobody who reads along.
pub(crate) fn encrypted_tunnels() -> impl Iterator<Item = &'static str> {
    [Peer::RatholeTls, Peer::RatholeNoise].into_iter().map(Peer::name)
}

/// A program of Debian's.
fn installed(program: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = std::env::split_paths(&format!("{path}:/usr/sbin:/sbin"))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file());
    found.ok_or_else(|| format!("{program} is not installed (apt-get install {package}, or ./scripts/peers)"))
}

/// A program that `scripts/peers` builds.
fn built(program: &str) -> Result<PathBuf, String> {
    let directory = tests::workspace().join("target/peers");
    let file = directory.join("bin").join(program);
    if file.is_file() {
        return Ok(file);
    }
    let reason = std::fs::read_to_string(directory.join(format!("{program}.reason")));
    Err(reason.map_or_else(
        |_| format!("{program} is not built (./scripts/peers builds it)"),
        |reason| reason.trim().to_owned(),
    ))
}

/// A key and a certificate for `localhost` that is its own authority: `key.pem`, `certificate.pem`, and both as
/// `both.pem`.
pub(crate) fn certificate(directory: &Path) {
    let file = |name: &str| directory.join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let words =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    command("openssl", &[&words[..], &names[..], &["-keyout", &key, "-out", &certificate]].concat());
    let both = [&certificate, &key].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(file("both.pem"), both).unwrap();
}

/// Runs a small program to its end; what it said.
fn command(program: impl AsRef<std::ffi::OsStr>, words: &[&str]) -> String {
    let program = program.as_ref();
    let done = std::process::Command::new(program).args(words).output();
    let done = done.unwrap_or_else(|error| panic!("{program:?}: {error}"));
    assert!(done.status.success(), "{program:?} {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// In the table of goals, but to be had neither as a crate nor as a Debian package.
const OUT_OF_REACH: &[(&str, &str)] = &[
    (
        "frp",
        "it is neither a crate nor a Debian package: P4 is judged by rathole-tls and the haproxy pair instead",
    ),
    ("wstunnel", "it is neither a crate nor a Debian package: P5 is judged by the haproxy pair instead"),
    ("chisel", "it is neither a crate nor a Debian package"),
];
