//! The whole system, seen from outside: real processes, real sockets, real TLS.
//!
//! A [`Cloud`] is a `tcpmux up` process on a data directory of its own, a [`Device`] is a
//! `tcpmux-client` process with services of the test behind it. Everything ends when its value is
//! dropped; nothing here knows how the rooms are built inside, only what the contract says.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a harness that fails is a failing test")]

mod authority;
mod binaries;
mod browser;
mod cloud;
mod command;
mod device;
mod door;
mod eventually;
pub mod fuzz;
mod namespace;
mod nginx;
mod oidc_provider;
mod place;
mod printed;
mod process;
mod provider;
mod push_service;
mod receiver;
mod redis;
mod relay;
mod service;
mod signer;
mod tls;
mod web;
mod websocket;

pub use authority::Authority;
pub use binaries::{bench_program, client_program, cloud_program, workspace};
pub use browser::{Browser, Page};
pub use cloud::{Cloud, CloudPlan};
pub use command::{Finished, run, run_ok, run_within};
pub use device::{Device, EnrolledDevice};
pub use door::{Answer, Call, Door, Multiplexed, pieces};
pub use eventually::{eventually, eventually_within};
pub use namespace::{Namespace, as_root};
pub use nginx::Nginx;
pub use oidc_provider::OidcProvider;
pub use place::Place;
pub use printed::{Printed, printed};
pub use process::Process;
pub use provider::{CLIENT_SECRET, Provider};
pub use push_service::PushService;
pub use receiver::{Received, Receiver};
pub use redis::Redis;
pub use relay::{Goodbye, Look, Relay, Way};
pub use service::{Conversation, Service};
pub use signer::{Signer, base64url, now};
pub use tls::{Identity, TlsClient};
pub use web::web;
pub use websocket::{WebSocket, next_event};
