//! The proxy as its callers and its devices meet it: real requests over a connection in memory on one side, a real
//! tunnel in memory with devices of all manners on the other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aborts;
mod access_log;
mod browsers;
mod device;
mod exchanges;
mod house;
mod leases;
mod leftovers;
mod published;
mod raw_streams;
mod refusals;
mod request_smuggling;
mod tickets;
mod token_table;
mod truncation;
mod upgrades;
