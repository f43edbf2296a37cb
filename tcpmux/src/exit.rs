//! How a command ends: its exit code and its last words.

use std::{fmt, process::ExitCode};

/// Why a command failed, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It failed.
    Failed = 1,
    /// It was called wrongly.
    Usage = 2,
    /// Not signed in, or not allowed.
    Forbidden = 3,
    /// There is no such thing.
    NotFound = 4,
    /// It conflicts with what is, or was used already.
    Conflict = 5,
    /// The cloud cannot be reached.
    Network = 6,
    /// The device is not connected.
    DeviceOffline = 7,
    /// It works, but not all of it.
    Degraded = 8,
    /// The configuration is wrong.
    Configuration = 78,
}

/// The end of a command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// Ends with this code and these words.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// The code alone.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
