//! The figures of the product, on loopback, beside those of others.
//!
//! `./scripts/prove bench` builds everything and runs all of it; `--help` tells the parts. Each measure is taken of us and of
//! every peer in turn before the next one, and all of that so many rounds; every sample is kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod backend;
mod choice;
mod engine;
mod events;
mod fleet;
mod load;
mod peers;
mod processes;
mod proxy;
mod report;
mod tunnel;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use choice::Choice;
use report::Report;

/// The figures of the table of goals: ours, and beside them those of others on the same machine in the same run.
///
/// Build with `cargo build --release --workspace --bins` first: the programs beside this one are the ones measured,
/// unless the variable PROGRAMS names the directory of others. wrk and nginx have to be there; peers that are not are
/// named as skipped, with the reason (`./scripts/peers` gets them).
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  bench all --plots docs/bench            everything, about twenty minutes\n  \
                  bench tunnel --only P1,P6 --rounds 1    two rows, once\n  \
                  bench tunnel --peers rathole-tls,direct two peers alone\n  \
                  bench engine --kind ours --measure bulk the engine alone, one measure\n  \
                  bench fleet --devices 10000 --revocations 1000\n  \
                  bench page target/bench/*.json --plots docs/bench"
)]
struct Arguments {
    #[command(flatten)]
    choice: Choice,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// The multiplexer alone, beside raw TCP, tokio-rustls and the yamux crate (E1 to E5)
    Engine(engine::Choice),
    /// TCP through published ports, beside the peers (P1 to P6, P8's daemon, "back" after kill -9)
    Tunnel,
    /// The user door with a token, beside nginx (P7)
    Proxy,
    /// Many devices: enrolments, idle memory, revocations, flat cost, the return after kill -9 (P8 to P12)
    Fleet,
    /// What devices report, from the intake to a listener, at 5,000 events a second (S6)
    Events,
    /// Engine, tunnel, proxy and fleet; what is done without a word, too
    All,
    /// Puts samples of earlier runs together: tables, and with --plots the page
    Page {
        /// Files of samples; of figures that are in more than one, the last counts
        files: Vec<PathBuf>,
    },
    /// Devices in a process of their own
    #[command(hide = true)]
    Crew(fleet::Crew),
    /// Prints the memory of idle connections of one kind
    #[command(hide = true)]
    Idle { kind: engine::Kind },
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Arguments { choice, part } = Arguments::parse();
    let mut report = Report::begin(&words.join(" "));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let name = match part.unwrap_or(Part::All) {
        Part::Idle { kind } => return engine::idle(kind),
        Part::Crew(crew) => return runtime.block_on(fleet::crew(&crew)),
        Part::Page { files } => {
            let mut runs = files.iter().map(|file| Report::read(file));
            report = runs.next().expect("page wants at least one file of samples");
            runs.for_each(|run| report.merge(run));
            report.print();
            if let Some(directory) = &choice.plots {
                report.publish(directory);
            }
            return;
        }
        Part::Engine(kinds) => {
            engine::measure(&kinds, &choice, &mut report);
            "engine"
        }
        Part::Tunnel => {
            runtime.block_on(tunnel::measure(&choice, &mut report));
            "tunnel"
        }
        Part::Proxy => {
            runtime.block_on(proxy::measure(&choice, &mut report));
            "proxy"
        }
        Part::Fleet => {
            runtime.block_on(fleet::measure(&choice, &mut report));
            "fleet"
        }
        Part::Events => {
            runtime.block_on(events::measure(&choice, &mut report));
            "events"
        }
        Part::All => {
            engine::measure(&engine::Choice::default(), &choice, &mut report);
            runtime.block_on(async {
                tunnel::measure(&choice, &mut report).await;
                proxy::measure(&choice, &mut report).await;
                fleet::measure(&choice, &mut report).await;
            });
            "all"
        }
    };
    report.print();
    let file = choice.json.unwrap_or_else(|| tests::workspace().join(format!("target/bench/{name}.json")));
    report.write(&file);
    if let Some(directory) = choice.plots {
        report.publish(&directory);
    }
}
