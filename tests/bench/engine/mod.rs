//! What the inside of one tunnel costs, with nothing around it: one TLS 1.3 connection with mutual certificates on
//! loopback, the cloud's end on one thread and the device's on another (figures E1 to E4).
//!
//! The kinds alternate within a round, and each figure stands beside its ratio to tokio-rustls alone in that round.

use std::{collections::HashMap, process::Command, time::Duration};

use clap::{Args, ValueEnum};

use crate::report::Report;

mod cables;
mod device;
mod measures;
mod pair;

/// Which kinds and measures: all where none is named.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Choice {
    /// What carries the streams; may be repeated
    #[arg(long)]
    kind: Vec<Kind>,
    /// What is measured; may be repeated
    #[arg(long)]
    measure: Vec<Measure>,
}

/// What carries the streams of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The connection itself: one stream
    Tcp,
    /// tokio-rustls alone: one stream
    Tls,
    /// The yamux crate with its defaults, over tokio-rustls
    Yamux,
    /// Our engine over tokio-rustls
    Ours,
}

/// One group of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Bytes down and up, on one stream and on eight
    Bulk,
    /// Round trips of 64 bytes, alone
    Echo,
    /// Round trips of 64 bytes while another stream downloads
    Beside,
    /// A new stream for each round trip
    Open,
    /// Memory of connections that do nothing
    Idle,
}

/// Measures `rounds` times, the kinds in turn.
pub(crate) fn measure(choice: &Choice, time: Duration, rounds: usize, report: &mut Report) {
    let kinds: Vec<Kind> = Kind::value_variants().iter().copied().filter(|kind| choice.has(*kind)).collect();
    for round in 0..rounds {
        println!("engine: round {} of {rounds}", round + 1);
        for measure in Measure::value_variants().iter().filter(|measure| choice.measures(**measure)) {
            let mut of_tls = HashMap::new();
            for kind in &kinds {
                for (figure, value) in take(*measure, *kind, time) {
                    report.put(&format!("{figure}, {kind:?}"), value);
                    if *kind == Kind::Tls {
                        of_tls.insert(figure, value);
                    } else if let Some(tls) = of_tls.get(&figure.replace("8 streams", "1 stream")) {
                        report.put(&format!("{figure}, {kind:?} / Tls"), value / tls);
                    }
                }
            }
        }
    }
}

/// What `bench idle` prints: KiB per connection and end, in a process that did nothing else before.
pub(crate) fn idle(kind: Kind) {
    println!("{}", measures::idle(kind));
}

impl Choice {
    fn has(&self, kind: Kind) -> bool {
        self.kind.is_empty() || self.kind.contains(&kind)
    }

    fn measures(&self, measure: Measure) -> bool {
        self.measure.is_empty() || self.measure.contains(&measure)
    }
}

impl Kind {
    /// Whether a connection carries more than one stream.
    fn is_multiplexed(self) -> bool {
        matches!(self, Self::Yamux | Self::Ours)
    }
}

fn take(measure: Measure, kind: Kind, time: Duration) -> Vec<(String, f64)> {
    match measure {
        Measure::Bulk => measures::bulk(kind, time),
        Measure::Echo => measures::echo(kind, time),
        Measure::Beside if kind.is_multiplexed() => measures::beside(kind, time),
        Measure::Open if kind.is_multiplexed() => measures::open(kind),
        Measure::Beside | Measure::Open => Vec::new(),
        Measure::Idle => vec![("E4 idle, KiB per connection and end".into(), idle_elsewhere(kind))],
    }
}

/// In a process of its own: what earlier measures freed would hide what connections take.
fn idle_elsewhere(kind: Kind) -> f64 {
    let name = kind.to_possible_value().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let done = command.args(["idle", name.get_name()]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()
}
