//! The tunnel as a whole: stories over drivers, hostile peers, simulated networks, the yamux crate as the other end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod agent;
mod endings;
mod floods;
mod hostile;
mod interop;
mod liveness;
mod long_path;
mod loss;
mod opening;
mod simulated;
mod support;
mod throughput;
mod wire;
