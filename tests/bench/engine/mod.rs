//! What the inside of one tunnel costs, with nothing around it: one TLS 1.3 connection with mutual certificates on
//! loopback, the cloud's end on one thread and the device's on another (figures E1 to E4).
//!
//! The kinds alternate within a round; the verdicts compare ours with tokio-rustls alone in the same round.

use std::{process::Command, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    choice,
    report::{OURS, Report},
};

mod cables;
mod device;
mod line;
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
    /// Bytes down one stream whose ends are 100 ms apart
    Away,
}

/// Measures, the kinds in turn.
pub(crate) fn measure(kinds: &Choice, choice: &choice::Choice, report: &mut Report) {
    let measures = || Measure::value_variants().iter().filter(|measure| kinds.measures(**measure));
    if !measures().any(|measure| choice.has_any(measure.rows())) {
        return;
    }
    for round in 0..choice.rounds {
        println!("engine: round {} of {}", round + 1, choice.rounds);
        report.round(round);
        for measure in measures().filter(|measure| choice.has_any(measure.rows())) {
            let all = Kind::value_variants();
            for index in 0..all.len() {
                let kind = all[(index + round) % all.len()];
                if !kinds.has(kind) {
                    continue;
                }
                for figure in take(*measure, kind, choice.time()) {
                    report.put(figure.row, &figure.what, figure.unit, kind.name(), figure.value);
                }
            }
        }
    }
}

/// One sample.
struct Figure {
    row: &'static str,
    what: String,
    unit: &'static str,
    value: f64,
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

    /// As in the tables.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Yamux => "yamux",
            Self::Ours => OURS,
        }
    }
}

impl Measure {
    /// The rows of the table of goals that it has figures for.
    fn rows(self) -> &'static [&'static str] {
        match self {
            Self::Bulk => &["E1"],
            Self::Echo | Self::Open => &["E2"],
            // Judged by the bulk of the same round.
            Self::Beside => &["E3"],
            Self::Idle => &["E4"],
            Self::Away => &["E5"],
        }
    }
}

fn take(measure: Measure, kind: Kind, time: Duration) -> Vec<Figure> {
    match measure {
        Measure::Bulk => measures::bulk(kind, time),
        Measure::Echo => measures::echo(kind, time),
        Measure::Beside if kind.is_multiplexed() => measures::beside(kind, time),
        Measure::Open if kind.is_multiplexed() => measures::open(kind),
        Measure::Beside | Measure::Open => Vec::new(),
        Measure::Away => measures::away(kind, time.max(Duration::from_secs(2))),
        Measure::Idle => {
            let what = "idle, for each connection and end".into();
            vec![Figure { row: "E4", what, unit: "KiB", value: idle_elsewhere(kind) }]
        }
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
