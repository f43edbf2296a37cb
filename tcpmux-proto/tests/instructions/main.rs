//! How many instructions a small stream takes in the engine, both ends together, counted by valgrind: the same whatever
//! else the machine does. They are those of a build without optimisation, so they say whether there is more to do, not
//! how long it takes.
//!
//! The bound is what was counted when it was set and a fifth more. Where it fails: `valgrind --tool=callgrind` on the same
//! command tells which function is new or called more often. If it is needed, raise the bound in the commit that brings it
//! and say there what it buys; otherwise take it out again.

#![allow(clippy::unwrap_used, reason = "a test that fails is a failing test")]
#![allow(clippy::print_stdout, reason = "figures are read by people")]

#[path = "../counted/tunnel.rs"]
mod tunnel;

use std::process::Command;

use tunnel::{Tunnel, within};

/// Runs itself under valgrind with few streams and with more; the difference is theirs.
#[test]
fn a_small_stream_is_few_instructions() {
    if let Ok(count) = std::env::var(STREAMS) {
        return small_streams(count.parse().unwrap());
    }
    let [few, many] = [20, 120].map(counted);
    let each = (many - few) as f64 / 100.0;
    println!("a small stream, both ends, not optimised: {each:.0} instructions");
    within("instructions for a small stream, both ends together", each, INSTRUCTIONS);
}

fn small_streams(count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut tunnel = Tunnel::new().await;
        for _ in 0..count {
            tunnel.request().await;
        }
    });
}

/// The instructions of all of this process with so many streams.
fn counted(streams: usize) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_small_stream_is_few_instructions", "--test-threads=1"])
        .env(STREAMS, streams.to_string())
        .output()
        .expect("valgrind is there: apt-get install valgrind");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // `==4711== I refs:        63,782,634`, with one space or three, as its version likes.
    let (_, refs) = said.split_once("refs:").unwrap_or_else(|| panic!("{said}"));
    refs.lines().next().unwrap().trim().replace(',', "").parse().unwrap()
}

const STREAMS: &str = "SMALL_STREAMS";
const INSTRUCTIONS: f64 = 318_900.0;
