//! The roof: joins the rooms into one cloud, and holds the operator's commands.
//!
//! Read `house.rs` first: it names every part in the order in which it starts.

pub mod cli;
pub mod config;
pub mod data;
mod demo;
pub mod exit;
pub mod house;

/// The data directory of a cloud that was told of no other.
pub const DEFAULT_DATA: &str = "./tcpmux-data";
