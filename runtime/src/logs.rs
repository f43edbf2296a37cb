//! Where the log goes, in which form, and how much of it.

use std::{io::IsTerminal, str::FromStr};

use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("the log format is `text` or `json`".into()),
        }
    }
}

/// Sends the log to standard error. `level` is `error`, `warn`, `info`, `debug`, `trace`, or a
/// filter such as `info,cloud_proxy=debug`. A second call changes nothing.
///
/// # Errors
/// If `level` is not a level and not a filter.
pub fn init(format: Format, level: &str) -> Result<(), String> {
    let filter: Targets = level.parse().map_err(|error| {
        format!("log level `{level}`: {error}; use error, warn, info, debug, trace or a filter")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let already = match format {
        Format::Text => registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        Format::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    };
    drop(already);
    Ok(())
}
