//! The settings of what people see and are told: claims, events, webhooks, push messages.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which addresses webhooks may lead to.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Networks that are called although they are not of the public Internet.
    pub allow: Vec<ipnet::IpNet>,
    /// A PEM file with roots for receivers' certificates, beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// The account that sends push messages.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fcm {
    /// The service account's JSON file, mode 0600.
    pub credentials_file: PathBuf,
    /// The service's address.
    #[serde(default = "fcm_url")]
    pub url: String,
}

fn fcm_url() -> String {
    "https://fcm.googleapis.com".into()
}

/// How devices come to owners and lose them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Whose word ends an ownership when a device is reset.
    pub factory_reset: FactoryReset,
}

/// Whose word ends an ownership when a device is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FactoryReset {
    /// The owner's or an operator's alone.
    Owner,
    /// The device's: whoever holds it may.
    Device,
}

/// How much of the event log is kept.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// For how many days.
    pub days: u32,
    /// How many events at most.
    pub max_rows: u64,
    /// How much room they take at most, in MiB.
    pub max_mib: u64,
}

impl Events {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.days == 0 {
            return Err("events.days: at least 1".into());
        }
        if self.max_rows == 0 {
            return Err("events.max_rows: at least 1".into());
        }
        if !(1..=MOST_MIB).contains(&self.max_mib) {
            return Err(format!("events.max_mib: between 1 and {MOST_MIB}"));
        }
        Ok(())
    }
}

/// A pebibyte: more than one file of SQLite's may have.
const MOST_MIB: u64 = 1 << 30;
