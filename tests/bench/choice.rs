//! How long, how often, whom and what: the words of the command line that every part shares.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::peers::Peer;

#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Seconds of each single measure
    #[arg(long, default_value_t = 1, global = true, value_name = "S")]
    pub(crate) seconds: u64,
    /// Rounds: each takes every measure of everybody in turn, beginning with another one
    #[arg(long, default_value_t = 5, global = true, value_name = "N")]
    pub(crate) rounds: usize,
    /// Who is measured beside us; everybody that can be had, without this
    #[arg(long, value_delimiter = ',', global = true, value_name = "PEERS")]
    pub(crate) peers: Vec<Peer>,
    /// Which rows of the table of goals, as in P1,P4; all of the part, without this
    #[arg(long, value_delimiter = ',', global = true, value_name = "ROWS")]
    only: Vec<String>,
    /// Devices of the fleet
    #[arg(long, default_value_t = 1000, global = true, value_name = "N")]
    pub(crate) devices: usize,
    /// Revocations of the fleet's devices
    #[arg(long, default_value_t = 100, global = true, value_name = "N")]
    pub(crate) revocations: usize,
    /// Certificates in the store of the cloud whose start is timed
    #[arg(long, default_value_t = 1_000_000, global = true, value_name = "N")]
    pub(crate) certificates: usize,
    /// Writes a page and an SVG plot for each row into this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
    /// Where every single sample goes; target/bench/PART.json without this
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Choice {
    /// Whether this row of the table of goals is wanted.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.eq_ignore_ascii_case(row))
    }

    /// Whether one of these is.
    pub(crate) fn has_any(&self, rows: &[&str]) -> bool {
        rows.iter().any(|row| self.has(row))
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1))
    }
}
