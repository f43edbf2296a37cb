//! The stories: what the whole system does, told by real processes. And the keepers: what the source,
//! the routes and the documents must stay true to.
//!
//! The programs under test are the ones that lie in `target/debug`: after a change build them first, with
//! `cargo build --workspace --bins`. `./scripts/test` does so.

#![allow(clippy::unwrap_used, reason = "a story that fails is a failing test")]

mod alone {
    mod memory;
}

mod audit;
mod claims;
mod commands;
mod costs;
mod cuts;
mod device_gateway;

mod keepers {
    mod dependencies;
    mod floors;
    pub(crate) mod flows;
    mod openapi;
    mod refusals;
    mod sources;
    mod traps;
    mod words;
}

mod enrolment;
mod events;
mod figures;
mod fuzz;
mod guesses;
mod headers;
mod http_matrix;
mod intake;
mod isolation;
mod losses;
mod main_path;
mod minimal;
mod network;
mod notifications;
mod readme;
mod restart;
mod revocation;
mod schemathesis;
mod sign_in;
mod stage;
mod statuses;
mod storyline;
mod tcp;
mod tenants;
mod tickets;
mod tokens;
mod truncation;
