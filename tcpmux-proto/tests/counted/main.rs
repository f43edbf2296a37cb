//! What an idle session holds and what a small stream allocates, counted by the allocator: the same on every machine.
//!
//! A bound is what was counted when it was set and a fifth more. Where one fails: find the field, the buffer or the task
//! that is new. If it is needed, raise the bound in the commit that brings it and say there what it buys; otherwise take it
//! out again. One process counts one thing, so each file of this kind has one test.

#![allow(clippy::unwrap_used, reason = "a test that fails is a failing test")]
#![allow(clippy::print_stdout, reason = "figures are read by people")]

mod tunnel;

use std::{alloc::System, time::Duration};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::time::sleep;

use tunnel::{Tunnel, within};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[tokio::test(start_paused = true)]
async fn sessions_and_small_streams_stay_as_light_as_they_are() {
    // What a first session makes once for all is not what a session costs.
    let mut first = Tunnel::new().await;
    first.request().await;
    // What it holds until it is quiet would be subtracted from what the others hold.
    sleep(Duration::from_secs(60)).await;
    let (idle, tunnels) = held_by_idle_sessions().await;
    drop(tunnels);
    let streams = made_by_small_streams(&mut first).await;
    println!(
        "an idle session, both ends with their pipe: {idle:.0} bytes; a small stream, both ends: {streams:.1} allocations"
    );
    within("bytes that an idle session holds, both ends together", idle, IDLE_BYTES);
    within("allocations for a small stream, both ends together", streams, STREAM_ALLOCATIONS);
}

/// Bytes for each tunnel that has been used once and then left alone.
async fn held_by_idle_sessions() -> (f64, Vec<Tunnel>) {
    let mut tunnels = Vec::with_capacity(SESSIONS);
    let region = Region::new(ALLOCATOR);
    for _ in 0..SESSIONS {
        let mut tunnel = Tunnel::new().await;
        tunnel.request().await;
        tunnels.push(tunnel);
    }
    // Past a heartbeat: what it took to greet and to serve is given back by then.
    sleep(Duration::from_secs(60)).await;
    let change = region.change();
    let held = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    (held / SESSIONS as f64, tunnels)
}

/// Allocations for each stream that carries a small request and its answer.
async fn made_by_small_streams(tunnel: &mut Tunnel) -> f64 {
    for _ in 0..STREAMS {
        tunnel.request().await;
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..STREAMS {
        tunnel.request().await;
    }
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / STREAMS as f64
}

const SESSIONS: usize = 50;
const STREAMS: usize = 200;
const IDLE_BYTES: f64 = 6263.0;
const STREAM_ALLOCATIONS: f64 = 30.0;
