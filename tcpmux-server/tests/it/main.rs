//! Stories of device sessions: real certificates, a real tunnel, a pipe in memory or a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;
mod drain;
mod hostile;
mod identity;
mod liveness;
mod open;
mod races;
mod revocation;
mod sessions;
mod support;
mod tls;
