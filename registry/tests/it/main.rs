//! The registry seen from outside: the same promises on both backends, and what an outage of the shared one
//! costs.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conformance;
mod forgetting;
mod nodes;
mod outages;
mod server;
mod strangers;
