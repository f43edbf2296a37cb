//! How a command ends: what it prints and which code it exits with.

use std::{fmt::Display, io::Write, process::ExitCode};

use tcpmux_client::{EnrollError, EstError, StateError, config::ConfigError};

/// Why a command failed, in words for people.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// Says why a command failed, if it did, and gives the code to exit with.
pub(crate) fn exit(outcome: Result<u8, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Nobody may be there to read it; the code says it again.
            drop(writeln!(std::io::stderr(), "error: {}", failure.message));
            ExitCode::from(failure.code)
        }
    }
}

/// Writes a line for people or programs to standard output.
pub(crate) fn say(line: impl Display) {
    // A closed pipe is the reader's choice.
    drop(writeln!(std::io::stdout(), "{line}"));
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(BAD_CONFIGURATION, error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::new(FAILED, error)
    }
}

impl From<EnrollError> for Failure {
    fn from(error: EnrollError) -> Self {
        let code = match &error {
            EnrollError::PasscodeRefused | EnrollError::Est(EstError::Refused { status: 409, .. }) => {
                CONFLICT
            }
            EnrollError::NoName(_) => USAGE,
            EnrollError::Est(EstError::Refused { .. } | EstError::Malformed(_)) => FAILED,
            EnrollError::Est(_) => NETWORK,
            _ => FAILED,
        };
        Self::new(code, error)
    }
}

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const FORBIDDEN: u8 = 3;
pub(crate) const CONFLICT: u8 = 5;
pub(crate) const NETWORK: u8 = 6;
pub(crate) const OFFLINE: u8 = 7;
pub(crate) const BAD_CONFIGURATION: u8 = 78;
