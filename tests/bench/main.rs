//! The figures of the product, on loopback.
//!
//! `cargo run --profile dist -p tests --bin bench -- [engine|tunnel|fleet|events] [--seconds S] [--rounds N] [--devices N]`; without
//! a word, the first two. Every measure is taken `rounds` times, alternating with its peers; the table shows median, least and
//! most. `tunnel` needs nginx and wrk.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

mod backend;
mod engine;
mod events;
mod fleet;
mod load;
mod report;
mod tunnel;

use std::time::Duration;

use clap::{Parser, Subcommand};

use report::Report;

/// What to measure, and for how long.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds of each single measure
    #[arg(long, default_value_t = 3, global = true)]
    seconds: u64,
    /// Rounds of each measure
    #[arg(long, default_value_t = 3, global = true)]
    rounds: usize,
    /// Idle devices to connect for the memory figure, and enrolments to make
    #[arg(long, default_value_t = 1000, global = true)]
    devices: usize,
    /// Where to write every single sample, as JSON
    #[arg(long, default_value = "target/bench.json", global = true)]
    samples: std::path::PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// The multiplexer alone, beside raw TCP, tokio-rustls and the yamux crate
    Engine(engine::Choice),
    /// The whole path through published ports and the user door, then a fleet of idle devices
    Tunnel,
    /// A fleet alone: enrolments, idle memory, and its return after the death of the node
    Fleet,
    /// What devices report, from the intake to a listener, at 5,000 events a second
    Events,
    /// Prints the memory of idle connections of one kind
    #[command(hide = true)]
    Idle { kind: engine::Kind },
}

fn main() {
    let Arguments { seconds, rounds, devices, samples, part } = Arguments::parse();
    let time = Duration::from_secs(seconds);
    let mut report = Report::default();
    let run_tunnel = |report: &mut Report| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(tunnel::measure(time, rounds, devices, report));
    };
    match part {
        Some(Part::Idle { kind }) => return engine::idle(kind),
        Some(Part::Engine(choice)) => engine::measure(&choice, time, rounds, &mut report),
        Some(Part::Tunnel) => run_tunnel(&mut report),
        Some(Part::Events) => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(events::measure(time, &mut report));
        }
        Some(Part::Fleet) => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(fleet::alone(devices, &mut report));
        }
        None => {
            engine::measure(&engine::Choice::default(), time, rounds, &mut report);
            run_tunnel(&mut report);
        }
    }
    report.print();
    report.write(&samples);
}
